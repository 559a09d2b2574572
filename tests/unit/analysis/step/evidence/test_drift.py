"""The drift of a machine's pace: on paper, found again in made-up steps, none where steps only vary by themselves."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from commprof.analysis.report.numbers.data import gather
from commprof.analysis.report.sections.build import build_report
from commprof.analysis.runs.load import Run, load_runs
from commprof.analysis.step.evidence.drift import drift_of
from tests.factory import step, workload, write_training_run


def runs(folder: Path, *series: Sequence[float]) -> list[Run]:
    """Single-rank runs of steps that take so many seconds each."""
    paths = []
    for index, steps_s in enumerate(series):
        steps = [step(i, forward_s=seconds, step_s=seconds) for i, seconds in enumerate(steps_s)]
        paths.append(write_training_run(folder / str(index), steps))
    return load_runs(paths)


def test_stretches_that_take_turns_on_paper(tmp_path: Path) -> None:
    """Means 0, ln 1.1, 0, ln 1.1 of four stretches, nothing within them: a variance of (ln 1.1)^2 / 3."""
    found = drift_of(runs(tmp_path, [1, 1, 1.1, 1.1, 1, 1, 1.1, 1.1]))
    assert found == pytest.approx(math.log(1.1) / math.sqrt(3))


def test_what_was_put_in_is_found_again_and_noise_is_none_of_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    noisy = rng.lognormal(0, 0.1, (10, 64))
    assert drift_of(runs(tmp_path / "noise", *noisy.tolist())) < 0.02
    drifting = noisy * np.repeat(rng.lognormal(0, 0.1, (10, 4)), 16, axis=1)
    assert drift_of(runs(tmp_path / "drift", *drifting.tolist())) == pytest.approx(0.1, rel=0.25)


def test_few_steps_and_runs_that_send_tell_nothing(tmp_path: Path) -> None:
    assert drift_of(runs(tmp_path / "few", [1, 1, 2, 2, 1, 1, 2])) == 0
    waiting = [step(i, step_s=1 + i // 4 % 2) for i in range(16)]
    sends = write_training_run(tmp_path / "sends", waiting, world_size=2, workload=workload())
    assert drift_of(load_runs([sends])) == 0


def test_the_report_warns_of_a_machine_that_changes_its_pace(tmp_path: Path) -> None:
    (run,) = runs(tmp_path, [1, 1, 1.2, 1.2, 1, 1, 1.2, 1.2])
    report = build_report(gather([run.path]), tmp_path / "report.html")
    assert any("changed its pace by 11% from one stretch" in warning for warning in report.warnings)
