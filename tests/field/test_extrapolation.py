"""`commprof extrapolate` over published series: the figures of docs/results/extrapolation.md and what ships."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from benchmarks.extrapolation import (
    ERRATIC,
    Score,
    by_law,
    covered,
    covered_by_halves,
    held_out,
    learned,
    on_grid,
    score,
)
from benchmarks.extrapolation_series import Case, read_cases
from commprof.analysis.scaling.laws import Floats, laws
from commprof.analysis.scaling.overhead_mix import BANDS, PRIOR
from commprof.analysis.scaling.table import Interconnect

TABLE = Path(__file__).parents[2].parent / "shared/data/scaling/scaling.csv"

pytestmark = [
    pytest.mark.field,
    pytest.mark.skipif(not TABLE.is_file(), reason="the published series are not in ../shared/data/scaling"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    cases: list[Case]
    grid: Floats
    ours: Floats
    inside: Floats
    halves: Floats

    def use(self, kind: str, anchors: tuple[int, ...], *, calm: bool = False) -> list[bool]:
        """Return which cases are answers of that group."""
        own = [c.kind == kind and c.anchors == anchors and not c.withheld for c in self.cases]
        return [here and not (calm and c.model == ERRATIC) for here, c in zip(own, self.cases, strict=True)]

    def score(self, kind: str, anchors: tuple[int, ...], *, calm: bool = False) -> Score:
        return score(self.cases, self.ours, self.use(kind, anchors, calm=calm))


@pytest.fixture(scope="module")
def judged() -> Judged:
    cases = read_cases(TABLE)
    grid = on_grid(cases)
    ours = held_out(cases, grid, lambda case: case.source)
    return Judged(cases=cases, grid=grid, ours=ours, inside=covered(cases, ours), halves=covered_by_halves(cases, ours))


@pytest.mark.parametrize(
    ("kind", "anchors", "answers", "mean", "calm", "overhead"),
    [
        ("nvlink", (1, 2), 93, 0.038, 0.020, 0.26),
        ("nvlink", (1, 2, 4), 47, 0.017, 0.016, 0.18),
        ("pcie", (1, 2), 140, 0.050, 0.046, 0.35),
    ],
)
def test_sources_that_were_held_out_are_predicted(
    judged: Judged, kind: Interconnect, anchors: tuple[int, ...], answers: int, mean: float, calm: float, overhead: float
) -> None:
    use = judged.use(kind, anchors)
    assert sum(use) == answers
    assert judged.score(kind, anchors).mean < mean
    assert judged.score(kind, anchors).overhead < overhead
    assert judged.score(kind, anchors, calm=True).mean < calm
    for inside in (judged.inside, judged.halves):
        assert np.nanmean(inside[np.array(use)]) == pytest.approx(0.9, abs=0.05)


def test_what_lies_beyond_a_root_complex_is_withheld(judged: Judged) -> None:
    beyond = [case for case in judged.cases if case.kind == "pcie" and max(case.anchors) <= 4 < case.target]
    assert len(beyond) >= 275
    assert all(case.withheld for case in beyond)


def test_what_ships_was_learned_from_these_series(judged: Judged) -> None:
    prior, bands, shares = learned(judged.cases, judged.grid, judged.ours)
    assert PRIOR.shares == pytest.approx(prior.shares)
    assert (PRIOR.rise, PRIOR.bend) == (prior.rise, prior.bend)
    assert bands == BANDS
    assert shares == {law.name: law.share for law in laws("weak")}


def test_plain_laws_miss_by_more_where_nothing_crosses_a_boundary(judged: Judged) -> None:
    plain = by_law(judged.cases)
    for kind, anchors in (("nvlink", (1, 2)), ("nvlink", (1, 2, 4)), ("pcie", (1, 2))):
        use = judged.use(kind, anchors)
        assert all(judged.score(kind, anchors).mean < score(judged.cases, eps, use).mean for eps in plain.values())
