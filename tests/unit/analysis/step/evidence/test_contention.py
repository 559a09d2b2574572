"""Contention runs made up from a known law: the form it has is chosen, and its figures are found again."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from commprof.analysis.runs.load import load_runs
from commprof.analysis.step.evidence.contention import fit_contention
from commprof.commbench.records.contention import ContentionMeasurement
from tests.factory import MIB, contended, write_contentions
from tests.unit.analysis.step.test_predict import by_model, predict_runs, study

SIZES = tuple(4**k * MIB for k in range(4))  # 1 to 64 MiB
Law = Callable[[float], float]


def made_up(law: Law, *, slowdown: float = 1.0, noise: float = 0.03, seed: int = 0) -> list[ContentionMeasurement]:
    """20 rounds a size on a wire of 1 ms and 125 MB/s, whose all-reduce takes law(seconds alone) beside computation."""
    random = np.random.default_rng(seed)

    def one_round(alone_s: float) -> tuple[float, float, float, float]:
        a, b, c, d = np.exp(noise * random.standard_normal(4)).tolist()
        return 0.003 * a, 0.003 * slowdown * b, alone_s * c, law(alone_s) * d

    return [contended(size, [one_round(0.001 + size / 125e6) for _ in range(20)]) for size in SIZES]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("wait_s", [0.006, 0.08])
def test_a_wait_that_depends_on_no_size_is_told_from_a_slow_down_and_found_again(wait_s: float, seed: int) -> None:
    found = fit_contention(made_up(lambda alone_s: alone_s + wait_s, seed=seed), np.random.default_rng(1), 200)
    assert (found.form, found.message_bytes) == ("wait", SIZES)
    drawn = np.asarray(found.contention.wait_s)
    assert drawn[0] == pytest.approx(wait_s, rel=0.15)
    low, high = np.quantile(drawn[1:], [0.005, 0.995])
    assert low < wait_s < high
    assert found.contention.compute_rate == found.contention.comm_rate == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_a_slow_down_in_proportion_stays_one(seed: int) -> None:
    found = fit_contention(made_up(lambda s: 1.8 * s, slowdown=1.4, seed=seed), np.random.default_rng(1), 200)
    assert (found.form, found.message_bytes) == ("rates", SIZES)
    for rate, slowdown in ((found.contention.compute_rate, 1.4), (found.contention.comm_rate, 1.8)):
        drawn = np.asarray(rate)
        assert drawn[0] == pytest.approx(1 / slowdown, rel=0.05)
        low, high = np.quantile(drawn[1:], [0.005, 0.995])
        assert low < 1 / slowdown < high


def test_communication_that_computation_leaves_alone_waits_for_nothing() -> None:
    found = fit_contention(made_up(lambda s: s, slowdown=2.0, noise=0.0), np.random.default_rng(1), 50)
    assert float(np.ravel(found.contention.wait_s)[0]) == pytest.approx(0.0, abs=1e-9)
    assert float(np.ravel(found.contention.comm_rate)[0]) == pytest.approx(1.0)


def test_one_size_cannot_tell_a_wait_from_a_slow_down() -> None:
    (one, *_) = made_up(lambda s: s + 0.05)
    assert fit_contention([one], np.random.default_rng(1), 50).form == "rates"


def test_runs_that_disagree_widen_the_wait() -> None:
    """The same command twice, 5 and 15 ms: the middle, and an interval that holds neither run by chance alone."""
    agree = [*made_up(lambda s: s + 0.01), *made_up(lambda s: s + 0.01, seed=1)]
    differ = [*made_up(lambda s: s + 0.005), *made_up(lambda s: s + 0.015, seed=1)]
    together, apart = (fit_contention(m, np.random.default_rng(1), 200).contention.wait_s for m in (agree, differ))
    assert np.std(apart) > 2 * np.std(together)


def test_a_prediction_slows_each_bucket_sent_during_backward_and_says_so(tmp_path: Path) -> None:
    """The head leaves at 71 ms and takes 10 ms longer; the tail leaves when there is nothing left to compute, and does not."""
    folders = study(tmp_path)
    plain = by_model(predict_runs(load_runs(folders)))["schedule"]
    exact = made_up(lambda s: s + 0.01, noise=0.0)
    folders.append(write_contentions(tmp_path / "c2", exact))
    waiting = by_model(predict_runs(load_runs(folders)))["schedule"]
    assert waiting.step_s == pytest.approx(plain.step_s, rel=1e-6)  # a short head still hides
    assert [note for note in waiting.assumptions if "beside computation" in note] == [
        "a bucket beside computation takes 10 ms longer whatever its size, and computation is not slowed, as measured with "
        "messages of 1 MiB to 64 MiB"
    ]


def test_contention_of_another_number_of_ranks_is_named_and_not_used(tmp_path: Path) -> None:
    folders = [*study(tmp_path), write_contentions(tmp_path / "c4", made_up(lambda s: s + 0.01), world_size=4)]
    schedule = by_model(predict_runs(load_runs(folders)))["schedule"]
    assert any(
        "measured on 4 ranks and not on 2" in note and "commprof contention --nproc 2" in note for note in schedule.assumptions
    )
