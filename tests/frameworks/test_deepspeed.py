"""DeepSpeed's own engine, recorded without a changed line: one rank goes through the marks of two, with the same messages,
and what is learnt is what is learnt without a recorder.

It needs deepspeed 0.19 beside torch (DS_BUILD_OPS=0 pip install --no-build-isolation deepspeed); FRAMEWORKS_PYTHON names an
interpreter that has it.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from commprof.commbench.records.rundir import read_document, read_info
from commprof.commbench.records.sharding import UNITS_FILE, ShardingTimeline
from tests.frameworks.test_frameworks import DEADLINE_S, PYTHON, ROOT, missing

TWO_ENGINES = """
import deepspeed, torch
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
config = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 2}, "steps_per_print": 1_000_000}
def engine():
    model = torch.nn.Linear(4, 1)
    return deepspeed.initialize(model=model, optimizer=torch.optim.AdamW(model.parameters()), config=config)[0]
engines = [engine(), engine()]
for _ in range(3):
    for each in engines:
        each.backward(each(torch.ones(1, 4)).sum())
        each.step()
torch.distributed.destroy_process_group()
"""
SCRIPT = str(Path(sys.executable).parent / "commprof")
LOOP = ROOT / "benchmarks" / "zero_loop.py"
ALONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29531"}


def trained(folder: Path, stage: int, ranks: int, *, before: Sequence[str] = ()) -> str:
    """Train, as what `before` starts, and return the losses."""
    losses = folder.with_suffix(".losses")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    words = [*launcher, str(LOOP), "--stage", str(stage), "--steps", "12", "--losses", str(losses)]
    done = run(*before, PYTHON, *words, own=ALONE if ranks == 1 else {})
    assert done.returncode == 0, done.stderr[-4000:]
    return losses.read_text()


def run(*command: str, own: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", **own}
    environ["PATH"] = f"{Path(PYTHON).parent}:{os.environ['PATH']}"
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=DEADLINE_S)


def recorded(folder: Path, stage: int, ranks: int) -> tuple[ShardingTimeline, str]:
    losses = trained(folder, stage, ranks, before=[SCRIPT, "record", "--folder", str(folder), "--"])
    info = read_info(folder)
    assert info.workload is not None
    assert (info.workload.kind, info.unseen) == (f"zero{stage}", ())
    return read_document(folder / UNITS_FILE, ShardingTimeline), losses


@pytest.mark.processes
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_one_rank_shows_what_two_send_and_when(tmp_path: Path, stage: int) -> None:
    if missing("deepspeed"):
        pytest.skip(f"deepspeed is missing in {PYTHON}, whose engine this records")
    (one, _), (two, losses) = (recorded(tmp_path / f"on-{ranks}", stage, ranks) for ranks in (1, 2))
    assert losses == trained(tmp_path / "unrecorded", stage, 2)
    assert one.zero is not None and two.zero is not None
    assert (one.num_shards, two.num_shards) == (1, 2)
    assert [(span.until, span.unit) for span in one.spans] == [(span.until, span.unit) for span in two.spans]
    for alone, among in zip(one.units, two.units, strict=True):
        assert (alone.name, alone.reduce_op, alone.num_messages) == (among.name, among.reduce_op, among.num_messages)
        assert among.gather_bytes == pytest.approx(alone.gather_bytes, abs=16)  # padded to whole shards
        assert among.reduce_bytes == pytest.approx(alone.reduce_bytes, abs=16 * alone.num_tensors)
    assert two.optimizer_bytes == pytest.approx((one.optimizer_bytes or 0) / 2, rel=0.01)
    assert two.zero.master_bytes == pytest.approx(one.zero.master_bytes, rel=0.01)


@pytest.mark.processes
def test_a_script_of_two_engines_is_refused_for_being_one(tmp_path: Path) -> None:
    if missing("deepspeed"):
        pytest.skip(f"deepspeed is missing in {PYTHON}, whose engine this records")
    script = tmp_path / "two.py"
    script.write_text(TWO_ENGINES)
    done = run(SCRIPT, "record", "--folder", str(tmp_path / "run"), "--", PYTHON, str(script), own=ALONE)
    assert done.returncode == 1, done.stderr[-4000:]
    last = done.stderr.splitlines()[-1]
    assert last.startswith("commprof: error: nothing was recorded: there are several DeepSpeed engines")
    assert "requires_grad_(False)" in last and "is commprof installed" not in last
