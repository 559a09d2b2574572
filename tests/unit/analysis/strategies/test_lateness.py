"""What ranks wait before collectives, against ranks that were played one by one, and against order statistics on paper."""

from itertools import chain

import numpy as np
import pytest
from numpy.typing import NDArray

from commprof.analysis.strategies.lateness import expected_order_s, stretch_late_s, waiting_s
from commprof.analysis.strategies.program import Program
from commprof.analysis.strategies.schedule import Operation

STRETCHES = 30
Floats = NDArray[np.float64]


def program() -> Program:
    """As many stretches, each ended by a gather."""
    pairs = [(Operation(what="compute"), Operation(what="gather", unit=0)) for _ in range(STRETCHES)]
    spans = tuple(chain.from_iterable((number, -1) for number in range(STRETCHES)))
    return Program(operations=tuple(chain.from_iterable(pairs)), span=spans, share=(1.0,) * len(spans), updates=None)


def hiccups(shape: tuple[int, ...], seed: int) -> Floats:
    """Stretches of 10 ms, one of twenty 8 ms longer, 0.3 ms of noise on all."""
    rng = np.random.default_rng(seed)
    return 0.010 + 0.008 * (rng.uniform(size=shape) < 0.05) + 0.0003 * np.abs(rng.standard_normal(shape))


def waited_s(samples_s: Floats, ranks: int, at_once: int) -> float:
    return waiting_s(program(), samples_s, num_shards=ranks, world_size=ranks, at_once=at_once)


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_ranks_that_meet_at_every_collective_wait_for_the_hiccups_of_all(ranks: int) -> None:
    """One rank's steps tell it; the median of a stretch knows nothing of them."""
    met_s = hiccups((2000, ranks, STRETCHES), 1).max(axis=1).sum(axis=1).mean()
    alone_s = hiccups((2000, STRETCHES), 2)
    predicted_s = alone_s.sum(axis=1).mean() + waited_s(alone_s[:64], ranks, ranks)
    assert predicted_s == pytest.approx(met_s, rel=0.02)
    assert met_s > 1.03 * alone_s.sum(axis=1).mean(), "it matters"


def test_ranks_that_share_cores_wait_only_while_a_core_has_nothing_left() -> None:
    """Four ranks on two cores, all running at the same pace: played until the last of each stretch is done."""
    work_s = hiccups((3000, 4, STRETCHES), 3)
    ordered = np.sort(work_s, axis=1)
    played_s = ordered.sum(axis=1) / 2 + (ordered[:, 3] - ordered[:, 2]) / 2
    alone_s = 2 * hiccups((64, STRETCHES), 4)  # of two that share a core each takes twice its work
    predicted_s = alone_s.sum(axis=1).mean() + waited_s(alone_s, 4, 2)
    assert predicted_s == pytest.approx(played_s.sum(axis=1).mean(), rel=0.02)


def test_a_pace_that_a_whole_step_has_holds_nobody_up() -> None:
    pace = np.linspace(0.8, 1.3, 40)[:, None]
    assert waited_s(pace * np.full((40, STRETCHES), 0.01), 4, 4) == pytest.approx(0, abs=1e-9)


def test_order_statistics_of_few_samples_on_paper() -> None:
    """Of 0 and 1, drawn twice: the longer is 1 in three of four cases. Of three ranks on two cores the gap counts half."""
    flip = np.array([0.0, 1.0])
    assert expected_order_s(flip, 2, 2) == pytest.approx(0.75)
    assert expected_order_s(flip, 1, 2) == pytest.approx(0.25)
    assert stretch_late_s(flip, 2, 2) == pytest.approx(0.75 - 0.5)
    gap = expected_order_s(flip, 3, 3) - expected_order_s(flip, 2, 3)
    assert (gap, stretch_late_s(flip, 3, 2)) == (pytest.approx(7 / 8 - 1 / 2), pytest.approx(gap / 2))
    assert stretch_late_s(flip, 1, 1) == 0
    assert stretch_late_s(flip, 4, 1) == 0, "one place: what one waits another computes"
