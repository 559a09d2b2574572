from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.advice.predict import predict_runs
from commprof.analysis.report.numbers.verdict import laws, outcomes
from commprof.analysis.runs.load import load_runs
from commprof.commbench.records.training import BucketTiming
from tests.factory import MIB, step, write_training_run
from tests.paper_study import BANDWIDTH, GRADIENTS, LATENCY_S, TAIL_S, study, verdict


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
    assert "Try first: close buckets" in cure
    assert "but may change what is learnt: accumulate gradients" in cure


def test_a_measured_step_far_from_the_prediction_is_not_explained_away(tmp_path: Path) -> None:
    folders = study(tmp_path)
    folders.append(write_training_run(tmp_path / "real", [step(i, forward_s=0.14) for i in range(20)], world_size=2))
    runs = load_runs(folders)
    predicted = predict_runs(runs)
    assert "Little holds 2 ranks back" in verdict(predicted, [], runs)[1]
    hindrance = verdict(predicted, outcomes(predicted, runs), runs)[1]
    assert "is not in the prediction, 91.5 ms of each 203 ms step (45%)" in hindrance


@pytest.mark.parametrize(("wire_s", "said"), [(0.0, False), (0.002, True)])
def test_communication_that_failed_is_told_though_the_step_came_out_right(tmp_path: Path, wire_s: float, said: bool) -> None:
    """8.5 ms were predicted on the wire after backward; with 8 more there and a forward as much shorter the step is right."""
    profile, bench = study(tmp_path, latency_s=1e-4)
    tail_s, head_s = TAIL_S + 4 * wire_s, 0.03 + LATENCY_S + MIB / BANDWIDTH
    buckets = (
        BucketTiming(index=0, num_bytes=MIB, ready_s=0.03, launched_s=0.03, done_s=head_s),
        BucketTiming(index=1, num_bytes=8 * MIB, ready_s=0.06, launched_s=0.06, done_s=0.06 + tail_s),
    )
    real = [step(i, forward_s=0.04 - 4 * wire_s, backward_s=0.06 + tail_s) for i in range(20)]
    landed = replace(GRADIENTS, backward_s=0.06 + tail_s, buckets=buckets)
    runs = load_runs([profile, bench, write_training_run(tmp_path / "real", real, world_size=2, gradients=landed)])
    predicted = predict_runs(runs)
    answer = verdict(predicted, outcomes(predicted, runs), runs)[0]
    assert "What failed" not in answer
    assert ("Its communication was not as predicted: 8.49 ms predicted, 16.5 ms measured" in answer) == said


def test_a_slowdown_is_beyond_amdahl(tmp_path: Path) -> None:
    folders = study(tmp_path)
    folders.append(write_training_run(tmp_path / "real", [step(i, forward_s=0.3) for i in range(20)], world_size=2))
    runs = load_runs(folders)
    assert "no Amdahl fraction can describe this slowdown" in laws(outcomes(predict_runs(runs), runs)[0])
