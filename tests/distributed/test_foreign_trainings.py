"""What a recorder says of trainings of every kind, on two ranks."""

from pathlib import Path

import pytest

from commprof.commbench.records.rundir import read_document, read_info
from commprof.commbench.records.sharding import ShardingTimeline
from commprof.commbench.records.training import GradientTimeline
from commprof.commbench.records.types import Workload
from tests.distributed.conftest import steps_of
from tests.distributed.foreign_trainings import KINDS, num_steps
from tests.forked import Zygote


@pytest.fixture(scope="module")
def trainings(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind on two ranks, recorded, in one process a rank."""
    folder = tmp_path_factory.mktemp("trainings")
    in_order = sorted(KINDS, key=lambda name: name in ("zero_redundancy_optimizer", "python_reducer"))  # they leave traces
    done = zygote.run(folder, Path(__file__).with_name("foreign_trainings.py"), folder, *in_order, ranks=2)
    assert done.returncode == 0, done.stderr
    return folder


def workload(folder: Path, name: str) -> Workload:
    info = read_info(folder / name.replace(" ", "-"))
    assert (info.status, info.world_size) == ("completed", 2), info.failure
    assert info.workload is not None
    return info.workload


@pytest.mark.parametrize("name", KINDS)
def test_the_kind_of_a_training_is_found(trainings: Path, name: str) -> None:
    kind = name if name in ("zero_redundancy_optimizer", "fsdp1", "fsdp2", "hsdp", "tensor_parallel", "replicate") else "ddp"
    kind = name if name in ("hand_made", "none") else kind
    kind = {
        "fsdp1 hybrid": "hsdp",
        "fsdp2 tensor_parallel": "tensor_parallel",
        "compute_only fsdp2": "fsdp2",
        "compute_only hsdp": "hsdp",
        "compute_only fsdp1": "fsdp1",
        "compute_only fsdp1 hybrid": "hsdp",
        "replicate of fsdp2": "replicate",
    }.get(name, kind)
    kind = name[:5] if kind == "ddp" and name.startswith("fsdp") else kind
    work = workload(trainings, name)
    assert work.kind == kind
    for rank in range(2):
        assert len(steps_of(trainings / name.replace(" ", "-"), rank)) == num_steps(name, rank)
    assert work.synchronised == (not name.startswith("compute_only"))


def test_ddps_own_settings_are_recorded(trainings: Path) -> None:
    def caps(work: Workload) -> tuple[int, int]:
        return work.first_bucket_bytes, work.bucket_cap_bytes

    plain, own = workload(trainings, "ddp"), workload(trainings, "caps")
    assert (caps(plain), caps(own)) == ((2**20, 25 * 2**20), (314, 314))
    assert (own.find_unused_parameters, own.gradient_as_bucket_view, own.static_graph) == (True, True, False)
    assert workload(trainings, "static").static_graph
    hooks = {"ddp": "none", "fp16": "fp16", "powersgd": "powersgd", "own hook": "own: own_hook"}
    assert {name: workload(trainings, name).communication_hook for name in hooks} == hooks


def test_what_an_own_hook_sends_is_measured(trainings: Path) -> None:
    assert workload(trainings, "own hook").sent_share == 0.5
    assert workload(trainings, "ddp").sent_share is None
    factors = 4 * ((16 + 8) + (4 + 16) + 16 + 4)  # of rank 1, and both biases as they are
    assert workload(trainings, "powersgd").sent_share == pytest.approx(factors / 848)


def test_what_was_not_seen_is_counted_and_said(trainings: Path) -> None:
    assert read_info(trainings / "python_reducer").unseen == (
        "DDP's python_reducer sends every gradient by itself: there are no buckets to see",
    )
    assert read_info(trainings / "builtin-hook").unseen == (
        "the model's communication hook is built into torch's C++: there are no buckets to see",
    )
    assert workload(trainings, "builtin hook").communication_hook == "fp16"
    assert {workload(trainings, name).num_parameters for name in ("fsdp1", "fsdp1 flat", "fsdp2", "ddp")} == {212}
    assert read_info(trainings / "fsdp1").unseen == (), "of parameters that it flattened its units tell"
    unsharded, units = read_info(trainings / "fsdp1-unsharded").unseen
    assert "was told to shard nothing (NO_SHARD)" in units
    assert unsharded.startswith("the gradients of 4 of 4 parameters (848 B of 848 B) were never seen: FullyShardedDataParallel")
    assert "(NO_SHARD does not)" in unsharded
    assert read_info(trainings / "ddp").unseen == ()


def test_buckets_are_seen_though_only_the_inner_model_was_given(trainings: Path) -> None:
    timeline = read_document(trainings / "given-bare" / "gradients.json", GradientTimeline)
    assert [bucket.num_bytes for bucket in timeline.buckets] == [848]


def test_buckets_are_seen_however_the_model_is_compiled_and_where_ranks_join(trainings: Path) -> None:
    for name in ("compiled in parts", "compiled whole", "joined", "powersgd"):
        folder = trainings / name.replace(" ", "-")
        timeline = read_document(folder / "gradients.json", GradientTimeline)
        assert sum(bucket.num_bytes for bucket in timeline.buckets) == 848, name
        assert read_info(folder).unseen == (), name


def test_a_compute_only_run_has_buckets_and_waits_in_the_exchanges_stead(trainings: Path) -> None:
    """Its ranks exchange in four passes that do not count; after them they begin together, and their waits are in no step."""
    for name in ("compute_only", "compute_only-hook"):
        steps = steps_of(trainings / name)
        assert not any(step.synchronised for step in steps)
        assert [step.counts for step in steps] == [False] * 5 + [True] * (len(steps) - 5)
        work = workload(trainings, name)
        assert work.starts_together and work.waited_s is not None and work.waited_s > 0
        assert read_document(trainings / name / "gradients.json", GradientTimeline).buckets


@pytest.mark.parametrize(
    ("kind", "num_shards", "num_replicas"), [("fsdp2", 2, 1), ("hsdp", 1, 2), ("fsdp1", 2, 1), ("fsdp1 hybrid", 2, 1)]
)
def test_shards_that_stay_on_their_rank_are_ranks_side_by_side(
    trainings: Path, kind: str, num_shards: int, num_replicas: int
) -> None:
    """As many ranks over as many shards, nothing sent: what a sharded step is best predicted from. Its ranks met."""
    folder = trainings / f"compute_only {kind}".replace(" ", "-")
    steps, work = steps_of(folder), workload(trainings, f"compute_only {kind}")
    assert not any(step.synchronised for step in steps)
    assert [step.counts for step in steps] == [False] * 5 + [True] * (len(steps) - 5)
    assert (work.synchronisation, work.starts_together) == ("compute_only", True)
    timeline = read_document(folder / "units.json", ShardingTimeline)
    assert (timeline.num_shards, timeline.num_replicas, timeline.num_steps) == (num_shards, num_replicas, len(steps) - 5)
    assert timeline.waits
    if num_shards > 1:
        assert {span.until for span in timeline.spans} >= {"gather_landed", "reduce_landed"}


def test_units_in_copies_are_seen_where_they_are_sent(trainings: Path) -> None:
    """FullyShardedDataParallel takes no hook there."""
    timeline = read_document(trainings / "fsdp1-hybrid" / "units.json", ShardingTimeline)
    assert [(unit.name, unit.num_bytes, unit.gather_bytes, unit.reduce_bytes) for unit in timeline.units] == [
        ("", 848, 848, 848)
    ]
    of_reductions = [span.until for span in timeline.spans if span.until.startswith(("reduce", "kept"))]
    assert of_reductions == ["reduce_begun", "reduce_filled", "reduce_sent", "reduce_landed", "reduced", "kept"]


@pytest.mark.parametrize("name", ["fsdp1", "fsdp1 flat"])
def test_each_unit_that_a_wrapper_shards_is_seen_to_gather_and_to_reduce(trainings: Path, name: str) -> None:
    timeline = read_document(trainings / name.replace(" ", "-") / "units.json", ShardingTimeline)
    assert (timeline.num_shards, timeline.num_replicas, timeline.num_others) == (2, 1, 0)
    assert [(unit.name, unit.num_bytes, unit.resharded) for unit in timeline.units] == [("", 272, False), ("0", 576, True)]
    assert [(unit.gather_bytes, unit.reduce_bytes) for unit in timeline.units] == [(272, 272), (576, 576)]
    for mark in ("ready", "back_ready", "reduce_landed"):
        assert sorted(span.unit or 0 for span in timeline.spans if span.until == mark) == [0, 1], mark


def test_tensor_parallelism_over_one_rank_leaves_what_fully_shard_shares_out(trainings: Path) -> None:
    timeline = read_document(trainings / "fsdp2-tensors-whole" / "units.json", ShardingTimeline)
    assert (timeline.num_shards, timeline.num_replicas) == (2, 1)
    assert sum(unit.num_bytes for unit in timeline.units) == 848
    assert not read_info(trainings / "fsdp2-tensors-whole").unseen


def test_a_hook_of_the_scripts_own_is_given_way_to(trainings: Path) -> None:
    """It may come at any step; what units reduce under it is not seen, and a step without a reduction must not be kept."""
    timeline = read_document(trainings / "fsdp1-own-hook" / "units.json", ShardingTimeline)
    assert (timeline.num_steps, timeline.num_others) == (1, 0)
    assert [unit.reduce_bytes for unit in timeline.units] == [272, 576]
    assert "reduce_landed" in {span.until for span in timeline.spans}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fsdp1 of two groups", "units are sharded over different numbers of ranks"),
        ("replicate of fsdp2", "every rank keeps all parameters, as under replicate()"),
        ("fsdp2 tensor_parallel", "parameters are shared out by more than fully_shard, as under tensor parallelism"),
    ],
)
def test_units_that_no_schedule_here_is_of_are_left_alone_and_the_reason_is_said(
    trainings: Path, name: str, reason: str
) -> None:
    folder = trainings / name.replace(" ", "-")
    assert not (folder / "units.json").exists()
    assert any(text.startswith(f"no units are told: {reason}") for text in read_info(folder).unseen)


def test_a_unit_has_what_is_sharded_and_not_what_fully_shard_was_told_to_ignore(trainings: Path) -> None:
    """The biases, 16 and 4 of float32, stay whole on every rank, in both passes."""
    timeline = read_document(trainings / "fsdp2-ignoring" / "units.json", ShardingTimeline)
    assert [(unit.name, unit.num_bytes, unit.resharded) for unit in timeline.units] == [("", 256, False), ("0", 512, True)]
    assert [(unit.gather_bytes, unit.reduce_bytes) for unit in timeline.units] == [(256, 256), (512, 512)]


def test_modules_that_are_sharded_together_are_one_unit(trainings: Path) -> None:
    timeline = read_document(trainings / "fsdp2-together" / "units.json", ShardingTimeline)
    assert [(unit.name, unit.num_bytes, unit.reduce_bytes) for unit in timeline.units] == [("0", 576, 576), ("1", 272, 272)]
    assert [span.until for span in timeline.spans if span.unit == 1].count("reduce_landed") == 1


def test_a_forward_pass_that_backward_does_again_is_a_part_of_backward(trainings: Path) -> None:
    timeline = read_document(trainings / "fsdp2-checkpointed" / "units.json", ShardingTimeline)
    assert [unit.resharded for unit in timeline.units] == [False, True]
    of_unit = [span.until for span in timeline.spans if span.unit == 1]
    for mark in ("before", "ready", "done", "after", "back_before", "back_ready", "back_done"):
        assert of_unit.count(mark) == 1, mark


def test_on_one_rank_units_are_marked_as_if_they_were_sharded(zygote: Zygote, tmp_path: Path) -> None:
    done = zygote.run(tmp_path, Path(__file__).with_name("foreign_trainings.py"), tmp_path, "fsdp1", ranks=1)
    assert done.returncode == 0, done.stderr
    timeline = read_document(tmp_path / "fsdp1" / "units.json", ShardingTimeline)
    assert (timeline.num_shards, [unit.resharded for unit in timeline.units]) == (1, [False, True])
    gathered = {(span.until, span.unit): span.gathers for span in timeline.spans if span.until in ("ready", "back_ready")}
    assert gathered == {("ready", 0): True, ("ready", 1): True, ("back_ready", 0): False, ("back_ready", 1): True}
