from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.runs.load import load_runs
from commprof.analysis.step.assumptions import check_assumptions, failed
from commprof.analysis.step.results import AssumptionCheck
from commprof.commbench.records.training import BucketTiming, GradientTimeline, StepMeasurement
from tests.factory import MIB, step, timeline, write_bench_run, write_training_run

READY = [("head", MIB, 0.03), ("embedding", 8 * MIB, 0.06)]
LATENCY_S, BANDWIDTH = 100e-6, 1e9
HEAD_S, TAIL_S = LATENCY_S + MIB / BANDWIDTH, LATENCY_S + 8 * MIB / BANDWIDTH


def bucket(index: int, num_bytes: int, ready_s: float, done_s: float) -> BucketTiming:
    return BucketTiming(index=index, num_bytes=num_bytes, ready_s=ready_s, launched_s=ready_s, done_s=done_s)


def run_at_two(*, late_s: float = 0.0, wire_s: float = 0.0, order: tuple[int, int] = (MIB, 8 * MIB)) -> GradientTimeline:
    """A backward pass as predicted, but for `late_s` until the last gradient and `wire_s` on the last bucket."""
    ready_s = 0.06 + late_s
    buckets = (bucket(0, order[0], 0.03, 0.03 + HEAD_S), bucket(1, order[1], ready_s, ready_s + TAIL_S + wire_s))
    return replace(timeline([READY[0], ("embedding", 8 * MIB, ready_s)], ready_s + TAIL_S + wire_s), buckets=buckets)


def checks(folder: Path, gradients: GradientTimeline, steps: list[StepMeasurement]) -> dict[str, AssumptionCheck]:
    write_training_run(folder / "profile", [step(i) for i in range(20)], gradients=timeline(READY, 0.06), backend="nccl")
    write_bench_run(folder / "bench", LATENCY_S, BANDWIDTH, backend="nccl")
    write_training_run(folder / "real", steps, world_size=2, gradients=gradients, backend="nccl")
    runs = load_runs([folder / name for name in ("profile", "bench", "real")])
    return {check.name: check for check in check_assumptions(runs, 2)}


def steps_of(gradients: GradientTimeline, *, data_s: float = 0.001, forward_s: float = 0.04) -> list[StepMeasurement]:
    whole_s = data_s + forward_s + gradients.backward_s + 0.002
    own = step(0, forward_s=forward_s, backward_s=gradients.backward_s, step_s=whole_s)
    return [replace(own, step=i, data_s=data_s) for i in range(20)]


def test_a_run_as_predicted_fails_no_assumption(tmp_path: Path) -> None:
    gradients = run_at_two()
    found = checks(tmp_path, gradients, steps_of(gradients))
    assert all(check.holds for check in found.values())
    assert failed(list(found.values())) is None


@pytest.mark.parametrize(
    ("culprit", "gradients", "phases"),
    [
        ("input", {}, {"data_s": 0.051}),
        ("computation", {}, {"forward_s": 0.09}),
        ("backward", {"late_s": 0.05}, {}),
        ("communication", {"wire_s": 0.05}, {}),
    ],
)
def test_the_part_that_was_longer_is_blamed_for_the_whole_error(
    tmp_path: Path, culprit: str, gradients: dict[str, float], phases: dict[str, float]
) -> None:
    known = run_at_two(**gradients)  # type: ignore[arg-type]
    found = checks(tmp_path, known, steps_of(known, **phases))
    blamed = failed(list(found.values()))
    assert blamed is not None
    assert blamed.name == culprit
    assert blamed.explains_s == pytest.approx(0.05, rel=1e-3)
    assert sum(check.explains_s for check in found.values()) == pytest.approx(blamed.error_s, rel=0.01)


def test_a_late_rank_is_told_from_a_slow_wire(tmp_path: Path) -> None:
    """Rank 1 computes 50 ms longer; rank 0 sees its own last bucket land 50 ms late."""
    gradients = run_at_two(wire_s=0.05)
    steps = steps_of(gradients)
    checks(tmp_path, gradients, steps)
    late = [replace(each, forward_s=0.09, backward_s=each.backward_s - 0.05, last_backward_s=None) for each in steps]
    folder = write_training_run(tmp_path / "late", late, world_size=2, gradients=gradients, backend="nccl")
    (folder / "steps.rank00000.jsonl").write_bytes((tmp_path / "real" / "steps.rank00000.jsonl").read_bytes())
    found = check_assumptions(load_runs([tmp_path / "profile", tmp_path / "bench", folder]), 2)
    blamed = failed(found)
    assert blamed is not None
    assert (blamed.name, blamed.explains_s) == ("stragglers", pytest.approx(0.05))
    assert sum(check.explains_s for check in found) == pytest.approx(blamed.error_s, rel=0.01)


def test_other_buckets_than_predicted_are_noticed(tmp_path: Path) -> None:
    gradients = run_at_two(order=(8 * MIB, MIB))
    assert not checks(tmp_path, gradients, steps_of(gradients))["bucket order"].holds


def test_without_a_run_at_n_nothing_is_checked(tmp_path: Path) -> None:
    gradients = run_at_two()
    checks(tmp_path, gradients, steps_of(gradients))
    assert check_assumptions(load_runs([tmp_path / "profile", tmp_path / "bench"]), 2) == []
