"""Runs on a machine whose pace is made up: are they put on one scale, and what is said where it jumps about?"""

from collections.abc import Sequence
from dataclasses import replace
from math import log
from pathlib import Path

import numpy as np
import pytest

import commprof as cp
from commprof.analysis.advice.predict import predict_runs
from commprof.analysis.report.sections.predicted import change_section
from commprof.analysis.runs.load import Run, load_run, load_runs
from commprof.analysis.step.evidence.pace import pace_drift, pace_factors, pace_of
from commprof.analysis.step.gather import gather
from commprof.analysis.step.results import Prediction
from commprof.cli import main
from commprof.commbench.records.rundir import RecordWriter
from commprof.commbench.records.training import PaceProbe, pace_file
from tests.factory import step, write_training_run
from tests.paper_study import GRADIENTS, STEPS, study, verdict


def profile(path: Path, probes_s: Sequence[float], *, times: float = 1.0, minute: int = 0) -> Path:
    """A one-rank run that takes `times` as long as on paper, and what its probes took."""
    steps = [replace(own, step_s=times * own.step_s, forward_s=own.forward_s + (times - 1) * own.step_s) for own in STEPS]
    write_training_run(path, steps, gradients=GRADIENTS, started_at=f"2026-01-01T00:{minute:02}:00+00:00")
    with RecordWriter(path / pace_file(0)) as writer:
        for number, seconds in enumerate(probes_s):
            writer.append(PaceProbe(step=8 * number, work="60 products", samples_s=(seconds,) * 5))
    return path


def runs_of(folder: Path, *probes_s: Sequence[float]) -> list[Run]:
    return [load_run(profile(folder / str(i), own, minute=i)) for i, own in enumerate(probes_s)]


def test_a_slow_minute_is_taken_out_of_a_run_and_noise_is_not(tmp_path: Path) -> None:
    slow, fast = runs_of(tmp_path, [0.0109, 0.0110, 0.0111], [0.00999, 0.01, 0.01001])
    first, second = pace_factors([slow, fast])
    assert first == pytest.approx((0.01 / 0.011) ** 0.5, rel=1e-3)
    assert second == pytest.approx((0.011 / 0.01) ** 0.5, rel=1e-3)
    noisy = runs_of(tmp_path / "noisy", [0.009, 0.0105, 0.011], [0.0091, 0.0101, 0.0112])
    assert pace_factors(noisy) == (1.0, 1.0)


def test_a_run_without_probes_leaves_all_as_they_are(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, [0.011] * 3, [0.01] * 3)
    (tmp_path / "1" / pace_file(0)).unlink()
    older = load_run(tmp_path / "1")
    assert pace_of(older) is None
    assert pace_factors([runs[0], older]) == (1.0, 1.0)
    assert pace_drift([runs[0], older]) == 0.0


def test_the_drift_is_what_runs_differ_by_beyond_their_probes_noise(tmp_path: Path) -> None:
    """Forty runs whose pace has a standard deviation of 5 %, six probes each that are 10 % off one by one."""
    random = np.random.default_rng(0)
    paces = 0.01 * np.exp(0.05 * random.standard_normal(40))
    runs = runs_of(tmp_path, *[(pace * np.exp(0.1 * random.standard_normal(6))).tolist() for pace in paces])
    assert pace_drift(runs) == pytest.approx(0.05, rel=0.35)
    still = runs_of(tmp_path / "still", *[(0.01 * np.exp(0.1 * random.standard_normal(6))).tolist() for _ in range(20)])
    assert pace_drift(still) < 0.03


def predicted(folders: Sequence[Path]) -> Prediction:
    return predict_runs(load_runs(folders)).predictions[0]


def test_profiles_at_two_paces_agree_once_they_are_on_one_scale(tmp_path: Path) -> None:
    """12 % apart, and so were the probes: refused as they are, pooled to the middle with them."""
    _, bench = study(tmp_path / "paper")
    slow = profile(tmp_path / "slow", [0.0112] * 3, times=1.12)
    fast = profile(tmp_path / "fast", [0.01] * 3, minute=1)
    (one,) = gather(load_runs([slow, fast, bench])).at
    assert one.alone_s == pytest.approx(0.103 * 1.12**0.5, rel=1e-3)
    assert one.between == pytest.approx(0.0, abs=1e-3)
    assert one.drift == pytest.approx(log(1.12) / 2**0.5, rel=1e-2)
    assert "times 0.945 for its pace" in one.pooled[0]


def test_a_machine_that_jumps_about_gets_no_interval_and_the_reason(tmp_path: Path) -> None:
    _, bench = study(tmp_path / "paper")
    folders = [profile(tmp_path / str(i), [pace] * 3, minute=i) for i, pace in enumerate((0.01, 0.013, 0.008))]
    jumpy = predicted([*folders, bench])
    assert jumpy.interval_s is None and jumpy.exposed_interval_s is None
    assert jumpy.too_disturbed is not None
    assert jumpy.too_disturbed.startswith("too disturbed to predict: the 90 % interval would be")
    assert "the machine's pace drifts by" in jumpy.too_disturbed
    assert jumpy.too_disturbed in jumpy.assumptions


def test_what_a_change_saves_there_has_no_interval_either_and_none_is_advised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, bench = study(tmp_path / "paper", latency_s=0.045)
    folders = [profile(tmp_path / str(i), [pace] * 3, minute=i) for i, pace in enumerate((0.01, 0.013, 0.008))] + [bench]
    runs = load_runs(folders)
    found = predict_runs(runs).changes
    assert found and all(change.interval_s is None and change.doubt == "too disturbed" for change in found)
    cure = verdict(predict_runs(runs), [], runs)[-1]
    assert cure.startswith("Try first: measure again, longer or on a quieter machine; what a change saves on 2 ranks cannot be")
    assert [table.title for table in change_section(predict_runs(runs)).tables] == [
        "Too disturbed: what is saved cannot be told"
    ]
    assert main(["advise", *map(str, folders)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"ms (too disturbed) {found[0].speedup:.2f}x {found[0].what}" in told
    assert "that pays" not in told and " to " not in told.partition("other hardware: what if")[2].partition("(published")[0]
    answer = cp.advise(folders)
    assert answer.to_frame().saved_low_s.isna().all()
    assert f"too disturbed: {found[0].what}" in answer.headline()


def test_a_quiet_machine_keeps_its_interval(tmp_path: Path) -> None:
    _, bench = study(tmp_path / "paper")
    calm = predicted([profile(tmp_path / "a", [0.01] * 3), profile(tmp_path / "b", [0.0101] * 3, minute=1), bench])
    assert calm.interval_s is not None and calm.too_disturbed is None


def test_ranks_that_probed_together_count_as_one(tmp_path: Path) -> None:
    """The mean over ranks of each probe: 10 and 12 ms are 11."""
    path = write_training_run(tmp_path / "two", [step(0)], world_size=2)
    for rank, seconds in enumerate((0.01, 0.012)):
        with RecordWriter(path / pace_file(rank)) as writer:
            for number in range(2):
                writer.append(PaceProbe(step=number, work="60 products", samples_s=(seconds,)))
    pace = pace_of(load_run(path))
    assert pace is not None
    assert (pace.log_s, pace.error) == (pytest.approx(log(0.011)), pytest.approx(0.0, abs=1e-12))
