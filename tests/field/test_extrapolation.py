"""`commprof extrapolate` over published series: the figures of docs/results/extrapolation.md and what ships."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from benchmarks.extrapolation import ERRATIC, Case, Score, by_law, covered, held_out, learned, on_grid, read_cases, score
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

    def use(self, kind: str, anchors: tuple[int, ...], *, calm: bool = False) -> list[bool]:
        return [c.kind == kind and c.anchors == anchors and not (calm and c.model == ERRATIC) for c in self.cases]

    def score(self, kind: str, anchors: tuple[int, ...], *, calm: bool = False) -> Score:
        return score(self.cases, self.ours, self.use(kind, anchors, calm=calm))


@pytest.fixture(scope="module")
def judged() -> Judged:
    cases = read_cases(TABLE)
    grid = on_grid(cases)
    ours = held_out(cases, grid, lambda case: case.source)
    return Judged(cases=cases, grid=grid, ours=ours, inside=covered(cases, ours))


@pytest.mark.parametrize(
    ("kind", "anchors", "series", "mean", "calm", "overhead"),
    [
        ("nvlink", (1, 2), 45, 0.038, 0.020, 0.26),
        ("nvlink", (1, 2, 4), 42, 0.017, 0.016, 0.18),
        ("pcie", (1, 2), 144, 0.102, 0.090, 0.40),
        ("pcie", (1, 2, 4), 124, 0.057, 0.047, 0.26),
    ],
)
def test_sources_that_were_held_out_are_predicted(
    judged: Judged, kind: Interconnect, anchors: tuple[int, ...], series: int, mean: float, calm: float, overhead: float
) -> None:
    use = judged.use(kind, anchors)
    assert len({case.series for case, here in zip(judged.cases, use, strict=True) if here}) == series
    assert judged.score(kind, anchors).mean < mean
    assert judged.score(kind, anchors).overhead < overhead
    assert judged.score(kind, anchors, calm=True).mean < calm
    assert judged.inside[np.array(use)].mean() == pytest.approx(0.9, abs=0.05)


def test_what_ships_was_learned_from_these_series(judged: Judged) -> None:
    prior, bands, shares = learned(judged.cases, judged.grid, judged.ours)
    assert PRIOR.shares == pytest.approx(prior.shares)
    assert (PRIOR.rise, PRIOR.bend) == (prior.rise, prior.bend)
    assert bands == BANDS
    assert shares == {law.name: law.share for law in laws("weak")}


def test_plain_laws_miss_by_more_where_nothing_crosses_a_boundary(judged: Judged) -> None:
    plain = by_law(judged.cases)
    for kind, anchors in (("nvlink", (1, 2)), ("nvlink", (1, 2, 4)), ("pcie", (1, 2, 4))):
        use = judged.use(kind, anchors)
        assert all(judged.score(kind, anchors).mean < score(judged.cases, eps, use).mean for eps in plain.values())
