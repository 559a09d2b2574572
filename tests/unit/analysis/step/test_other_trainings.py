"""What is not DDP is not predicted by DDP's schedule; what one rank cannot tell of DDP, several do."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.analysis.report.sides.sides import why_apart
from commprof.analysis.runs.ddp_settings import told_settings
from commprof.analysis.runs.load import load_runs
from commprof.analysis.step.gather import gather
from commprof.commbench.errors import BadInput, UnusableData
from commprof.commbench.records.training_kind import KIND_NAMES, TrainingKind, follows_ddp
from commprof.commbench.records.types import Workload
from tests.factory import step, timeline, workload, write_bench_run, write_training_run

READY = timeline([("b", 3_000_000, 0.02), ("a", 1_000_000, 0.05)], 0.06)
ASSUMED = ("first_bucket_bytes", "bucket_cap_bytes", "communication_hook", "find_unused_parameters")


def runs(folder: Path, *works: tuple[int, Workload]) -> list[Path]:
    """Write a bench of two ranks and a training of each workload, on so many ranks."""
    bench = write_bench_run(folder / "bench", 1e-4, 1e9)
    trained = [
        write_training_run(
            folder / f"train{number}",
            [step(index, step_s=0.1 + 0.02 * size) for index in range(10)],
            world_size=size,
            gradients=READY,
            workload=work,
        )
        for number, (size, work) in enumerate(works)
    ]
    return [bench, *trained]


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_only_ddp_is_predicted_by_ddps_schedule(tmp_path: Path, kind: TrainingKind) -> None:
    one = workload(kind="none" if kind == "ddp" else kind)
    paths = runs(tmp_path, (1, one), (2, workload(kind=kind)))
    if kind == "ddp":
        assert gather(load_runs(paths)).at
        return
    with pytest.raises(UnusableData) as refused:
        gather(load_runs(paths))
    assert KIND_NAMES[kind] in str(refused.value)
    assert "to be measured at N" in str(refused.value)


def test_older_records_are_ddps() -> None:
    assert follows_ddp(None, 1)
    assert follows_ddp(None, 8)
    assert follows_ddp("none", 1)
    assert not follows_ddp("none", 2), "ranks that exchange nothing"


def test_own_caps_meet_at_one_rank_and_at_two(tmp_path: Path) -> None:
    own = workload(kind="ddp", first_bucket_bytes=2**18, bucket_cap_bytes=2**18, communication_hook="fp16")
    paths = runs(tmp_path, (1, workload(kind="none", assumed=ASSUMED)), (2, own))
    gathered = gather(load_runs(paths))
    assert (gathered.workload.bucket_cap_bytes, gathered.workload.communication_hook) == (2**18, "fp16")
    assert [bucket.num_bytes for bucket in gathered.at[0].buckets] == [3_000_000, 1_000_000]
    assert gathered.at[0].sent_share == 0.5
    assert why_apart(paths) is None, "one report holds both"
    told = runs(tmp_path / "told", (1, workload(kind="none")), (2, own))
    with pytest.raises(BadInput, match="differ in first_bucket_bytes"):
        gather(load_runs(told))


def test_a_hook_of_the_users_is_predicted_by_the_bytes_that_it_was_seen_to_send(tmp_path: Path) -> None:
    own = workload(kind="ddp", communication_hook="own: mine")
    one = workload(kind="none", assumed=ASSUMED)
    with pytest.raises(UnusableData, match="communication hook 'own: mine', whose time nothing here can tell"):
        gather(load_runs(runs(tmp_path / "unseen", (1, one), (2, own))))
    seen = replace(own, sent_share=0.25)
    assert gather(load_runs(runs(tmp_path / "seen", (1, one), (2, seen)))).at[0].sent_share == 0.25


def test_a_profile_without_gradients_says_why(tmp_path: Path) -> None:
    bench = write_bench_run(tmp_path / "bench", 1e-4, 1e9)
    why = 'put recorder.begin("backward") before loss.backward()'
    blind = write_training_run(tmp_path / "blind", [step(index) for index in range(10)], unseen=(why,))
    with pytest.raises(UnusableData) as refused:
        gather(load_runs([bench, blind]))
    assert str(refused.value) == f"{blind} does not tell when its gradients were ready: {why}"


@given(caps=st.lists(st.integers(1, 5), min_size=1, max_size=4), others=st.lists(st.integers(1, 5), max_size=2))
def test_what_peers_disagree_in_stays_assumed(caps: list[int], others: list[int]) -> None:
    own = workload(kind="none", assumed=("bucket_cap_bytes",))
    peers = [workload(kind="ddp", bucket_cap_bytes=cap) for cap in caps]
    strangers = [workload(kind="ddp", bucket_cap_bytes=cap, experiment="another") for cap in others]
    told = told_settings(own, [*peers, *strangers]).bucket_cap_bytes
    assert told == (caps[0] if len(set(caps)) == 1 else own.bucket_cap_bytes)
