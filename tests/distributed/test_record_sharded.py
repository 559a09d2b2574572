"""Ranks of sharded scripts that are to send nothing, and what is said where they cannot be kept from it."""

from functools import partial
from pathlib import Path

import pytest

from commprof.commbench.records.rundir import read_document, read_records
from commprof.commbench.records.sharding import ShardedRows, ShardingTimeline
from commprof.commbench.records.training import StepMeasurement
from commprof.commbench.records.types import RunInfo, Workload
from tests.distributed.conftest import FORK, Commprof, the_run
from tests.forked import Zygote

_IN_COPIES = "fully_shard(model, mesh=init_device_mesh('cpu', (1, 2), mesh_dim_names=('copies', 'shards')))"
_FLAT = "model = FullyShardedDataParallel(model, device_id=torch.device('cpu'), use_orig_params=True)"
_HOOKED = f"{_FLAT}; model.register_comm_hook(DefaultState(model.process_group), reduce_scatter_hook)"
_LEFT_WHOLE = f"{_IN_COPIES}.set_reshard_after_backward(False)"
_OTHERWISE_REDUCED = (  # as by a torch whose fully_shard does not go through torch.distributed.all_reduce
    "from torch.distributed.fsdp._fully_shard import _fsdp_collectives as own\n"
    "own.dist = types.SimpleNamespace(**vars(dist))\n"
    "fully_shard(model, mesh=init_device_mesh('cpu', (2, 1), mesh_dim_names=('copies', 'shards')))"
)
_LATE = 8  # the step before which a script registers something
_LATE_HOOKS = {
    _FLAT: "model.register_comm_hook(DefaultState(model.process_group), reduce_scatter_hook)",
    "fully_shard(model)": "model.set_custom_all_gather(DefaultAllGather())",
}


@pytest.fixture
def forking(tmp_path: Path, zygote: Zygote) -> Commprof:
    """Fork `commprof record`, and the ranks that FORK would load torch for."""
    return partial(zygote.run, tmp_path, "commprof")


@pytest.mark.parametrize(
    ("shards", "kind"), [(_IN_COPIES, "hsdp"), (_LEFT_WHOLE, "hsdp"), (_FLAT, "fsdp1"), (_HOOKED, "fsdp1")]
)
def test_sharded_ranks_are_kept_from_sending_where_they_can_be(
    forking: Commprof, tmp_path: Path, shards: str, kind: str
) -> None:
    """Those of a hook of the script's own exchange as ever, and that is said."""
    run, info, work = _recorded_alone(forking, tmp_path, shards)
    sent = shards == _HOOKED
    assert (work.kind, work.synchronised) == (kind, sent)
    said = "its ranks exchanged as ever, for its reductions go through a communication hook of the script's own"
    assert any(said in text for text in info.unseen) is sent
    if sent:
        return
    kept = {"hsdp": 4 * (4 * 8 + 4 + 1 * 8 + 1), "fsdp1": 4 * 81 // 2 + 2}[kind]  # rank 0's halves, a momentum each
    timeline = read_document(run / "units.json", ShardingTimeline)
    assert timeline.waits
    assert (work.optimizer_bytes, timeline.optimizer_bytes) == (kept, kept)
    assert work.activation_bytes is not None
    assert timeline.activation_bytes == work.activation_bytes
    if kind == "hsdp":
        (unit,) = timeline.units
        sizes = unit.num_bytes, unit.gather_bytes, unit.reduce_bytes
        assert sizes == (4 * 81, 4 * 90, 4 * 90), "the last layer is filled up"
        assert unit.rows == tuple(ShardedRows(rows=rows, gather_bytes=36, reduce_bytes=36) for rows in (1, 8))
        assert (unit.gathered_bytes(1), unit.reduced_bytes(4)) == (4 * 81, 4 * 12 * 9)


def test_copies_that_this_torch_reduces_by_another_function_are_said_to_exchange(forking: Commprof, tmp_path: Path) -> None:
    _, info, work = _recorded_alone(forking, tmp_path, _OTHERWISE_REDUCED)
    assert (work.kind, work.synchronised) == ("hsdp", True)
    assert any(text.startswith("its ranks exchanged as ever among copies of the shards: ") for text in info.unseen)


@pytest.mark.parametrize("shards", _LATE_HOOKS)
def test_ranks_that_a_later_hook_has_send_again_are_those_of_a_training(forking: Commprof, tmp_path: Path, shards: str) -> None:
    """What was recorded before is neither the training's nor all that the run is for: it is left out, its units too."""
    run, info, work = _recorded_alone(forking, tmp_path, shards, late=_LATE_HOOKS[shards])
    assert (work.synchronised, work.synchronisation, work.starts_together) == (True, "normal", False)
    steps = list(read_records(run / "steps.rank00000.jsonl", StepMeasurement))
    assert [(each.step, each.synchronised) for each in steps] == [(step, True) for step in range(_LATE + 1, 12)]
    assert not (run / "units.json").exists()
    assert any("came to ranks that were to send nothing: they exchange as ever" in text for text in info.unseen)


def _recorded_alone(forking: Commprof, folder: Path, shards: str, *, late: str = "") -> tuple[Path, RunInfo, Workload]:
    """Record two ranks of a sharded script that are to send nothing; `late` is what it does after some steps."""
    script = folder / "sharded.py"
    script.write_text(
        "import types, torch, torch.distributed as dist\n"
        "from torch.distributed.algorithms._comm_hooks.default_hooks import DefaultState, reduce_scatter_hook\n"
        "from torch.distributed.device_mesh import init_device_mesh\n"
        "from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard\n"
        "from torch.distributed.fsdp._fully_shard._fsdp_collectives import DefaultAllGather\n"
        "dist.init_process_group('gloo')\n"
        "model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 1))\n"
        f"{shards}\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)\n"
        "for step in range(12):\n"
        f"    if step == {_LATE}: {late or 'pass'}\n"
        "    model(torch.ones(4, 8)).sum().backward()\n"
        "    optimizer.step()\n"
        "    optimizer.zero_grad()\n"
        "dist.destroy_process_group()\n"
    )
    done = forking("record", "--compute-only", "--", *FORK, "2", script)
    assert done.returncode == 0, done.stderr
    return the_run(folder)
