"""Two ranks whose steps end together: who has a gradient last, and how much later than rank 0?"""

from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.runs.load import Run, load_run
from commprof.analysis.step.evidence.readiness import last_readiness, lateness_s
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import RecordWriter, write_document
from commprof.commbench.records.training import StepMeasurement
from tests.factory import step, timeline, write_training_run

FIRST = [("head", 8, 0.02), ("tail", 8, 0.06)]


def two_ranks(folder: Path, second: list[StepMeasurement], ready: list[tuple[str, int, float]], backward_s: float) -> Run:
    """Rank 0 computes 40 ms and has its last gradient 60 ms into backward; its step takes 103 ms."""
    own = [replace(step(i), last_ready_s=0.06) for i in range(10)]
    path = write_training_run(folder, own, world_size=2, gradients=timeline(FIRST, 0.06))
    (path / "steps.rank00001.jsonl").unlink()
    with RecordWriter(path / "steps.rank00001.jsonl") as writer:
        for record in second:
            writer.append(record)
    write_document(path / "gradients.rank00001.json", replace(timeline(ready, backward_s), rank=1))
    return load_run(path)


def test_a_rank_that_is_slow_inside_its_backward_pass_has_the_gradients_last(tmp_path: Path) -> None:
    """It begins with rank 0 and has its gradients at 50 and 90 ms, 30 ms later."""
    slow = [replace(step(i, backward_s=0.09), last_ready_s=0.09) for i in range(10)]
    run = two_ranks(tmp_path / "r", slow, [("tail", 8, 0.05), ("head", 8, 0.09)], 0.09)
    last = last_readiness(run)
    assert last is not None
    assert [(p.name, p.ready_s) for p in last.parameters] == [("head", pytest.approx(0.09)), ("tail", pytest.approx(0.06))]
    assert last.backward_s == 0.09
    assert lateness_s(run, 0) == pytest.approx(0.03)
    assert lateness_s(run, 1) == 0.0


def test_ranks_that_are_late_in_turn_are_late_in_every_other_step(tmp_path: Path) -> None:
    """Both have the same medians; in 6 of 10 steps rank 1 has its last gradient 20 ms after rank 0."""
    late = [replace(step(i), last_ready_s=0.08 if i < 6 else 0.02) for i in range(10)]
    run = two_ranks(tmp_path / "r", late, FIRST, 0.06)
    assert lateness_s(run, 0) == pytest.approx(0.02)


def test_a_rank_that_begins_later_is_late_by_that(tmp_path: Path) -> None:
    """Its forward pass takes 30 ms more, its first gradient comes at once: on rank 0's clock at 31 ms, after rank 0's 20."""
    late = [replace(step(i, forward_s=0.07, backward_s=0.04), last_ready_s=0.04) for i in range(10)]
    run = two_ranks(tmp_path / "r", late, [("head", 8, 0.001), ("tail", 8, 0.04)], 0.04)
    last = last_readiness(run)
    assert last is not None and last.rank == 1
    assert [p.ready_s for p in last.parameters] == [pytest.approx(0.001), pytest.approx(0.04)]
    assert lateness_s(run, 0) == pytest.approx(0.01)


def test_without_the_other_ranks_times_rank_0_stands_for_all(tmp_path: Path) -> None:
    run = two_ranks(tmp_path / "r", [step(i, forward_s=0.05) for i in range(10)], FIRST, 0.06)
    (tmp_path / "r" / "gradients.rank00001.json").unlink()
    run = load_run(tmp_path / "r")
    assert last_readiness(run) == run.gradients
    assert lateness_s(run, 0) == pytest.approx(0.01)  # of an older run: by when the others begin backward


def test_times_of_a_rank_that_has_no_steps_are_another_runs(tmp_path: Path) -> None:
    path = write_training_run(tmp_path / "r", [step(0)], world_size=2, gradients=timeline(FIRST, 0.06))
    write_document(path / "gradients.rank00001.json", replace(timeline(FIRST, 0.06), rank=5))
    with pytest.raises(BadInput, match=r"gradients\.rank00001\.json: `rank` is 5"):
        load_run(path)
