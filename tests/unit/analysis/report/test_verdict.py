from pathlib import Path

import pytest

from commprof.analysis.advice.predict import predict_runs
from commprof.analysis.report.numbers.verdict import laws, outcomes, verdict
from commprof.analysis.runs.load import load_runs
from tests.factory import step, write_training_run
from tests.paper_study import study


def test_the_verdict_names_prediction_measurement_cause_and_cure(tmp_path: Path) -> None:
    folders = study(tmp_path, latency_s=0.05)
    real = [step(i, forward_s=0.14) for i in range(20)]
    folders.append(write_training_run(tmp_path / "real", real, world_size=2))
    runs = load_runs(folders)
    predicted = predict_runs(runs)
    measured = outcomes(predicted, runs)
    assert {outcome.prediction.model for outcome in measured} == {"schedule", "ring", "amdahl", "linear"}
    schedule = measured[0]
    assert schedule.measured_step_s == pytest.approx(0.203)
    assert schedule.measured_speedup == pytest.approx(2 * 0.103 / 0.203)
    answer, hindrance, cure = verdict(predicted, measured, runs)
    assert "2 ranks: predicted" in answer
    assert "measured 1.01x" in answer
    assert "communication that nothing hides" in hindrance
    assert "embedding" in hindrance
    assert "Try first: accumulate gradients" in cure


def test_a_measured_step_far_from_the_prediction_is_not_explained_away(tmp_path: Path) -> None:
    folders = study(tmp_path)
    folders.append(write_training_run(tmp_path / "real", [step(i, forward_s=0.14) for i in range(20)], world_size=2))
    runs = load_runs(folders)
    predicted = predict_runs(runs)
    assert "Little holds 2 ranks back" in verdict(predicted, [], runs)[1]
    hindrance = verdict(predicted, outcomes(predicted, runs), runs)[1]
    assert "is not in the prediction, 91.5 ms of each 203 ms step (45%)" in hindrance


def test_a_slowdown_is_beyond_amdahl(tmp_path: Path) -> None:
    folders = study(tmp_path)
    folders.append(write_training_run(tmp_path / "real", [step(i, forward_s=0.3) for i in range(20)], world_size=2))
    runs = load_runs(folders)
    assert "no Amdahl fraction can describe this slowdown" in laws(outcomes(predict_runs(runs), runs)[0])
