"""How well do other N follow from the throughputs at a few? `commprof extrapolate` beside plain laws on published series.

    make benchmark-extrapolation TABLE=scaling.csv        some seconds; results in docs/results/extrapolation.md

TABLE has one row a measurement: group_id, source, model, interconnect, nodes, n_gpus, throughput, notes, flag. Taken are series
on one node with a fixed batch per rank: rows whose flag names a changing batch or superlinear scaling, or whose notes name
strong scaling, accumulation or a speedup over a node, are left out, and so are links marked as suspect. From N = 1, 2 the
throughput at 4, 8, 16 is predicted, from N = 1, 2, 4 at 8, 16. Answers withheld across a boundary are counted apart.

Ours is cross-validated by source: the prior that predicts a series was learned without any series of its source, and the
interval's width from other sources' errors, there with the targets of other anchors too (`FURTHER`, extrapolation_series.py),
so that there are more sources. Widths learned on half of the sources, at random, and tested on the other half stand beside. A
source is a README of NVIDIA/DeepLearningExamples, or a card in lambdal/deeplearning-benchmark (both precisions, all machines
with that card). A prior is chosen from a grid by the mean error, one of more than 5 % counting as 5 %, so that jumps at a root
complex do not decide it; each kind of link and each set of anchors counts as much as the other, each series less where its
source has many. `--learn` prints what the program should ship.
"""

import argparse
import itertools
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.extrapolation_series import KINDS, SPLITS, Case, read_cases
from benchmarks.machine import describe_machine
from commprof.analysis.scaling.laws import Floats, fit_laws, laws
from commprof.analysis.scaling.overhead_mix import PRIOR, Band, Prior, Reach, mixed, noise, reach, spread
from commprof.commbench.records.rundir import write_text

FIRST = {(anchors, target) for anchors, targets in SPLITS for target in targets}
WORST = 0.05
TAILS = (0.025, 0.975)  # another source is further off than those known
HALVINGS = 40
ERRATIC = "Tacotron 2"  # bound by its input, not by the GPUs, says whoever collected the table
GRID = tuple(
    Prior(shares=((1 - further) * constant, (1 - further) * (1 - constant), further), rise=rise, bend=bend)
    for constant, further, rise, bend in itertools.product(
        (0.35, 0.5, 0.65, 0.8), (0.0, 0.02, 0.04), (0.003, 0.0045, 0.006), (0.1, 0.15, 0.2)
    )
)


READ = f"""Errors of the throughput, |predicted - measured| / measured, over all answers; of the overhead E_N = T_N - T_1 where
it is above 1 % of T_1. A source held out is a README, or a card with all its machines and precisions; a publisher held out is
all of DeepLearningExamples, or all of Lambda's benchmark. Plain laws are fitted by least squares to the same points.
{ERRATIC} is bound by its input and erratic: in one series the overhead is 23 %, 186 % and 84 % of T_1 on 2, 4 and 8 GPUs.
"""


def by_law(cases: Sequence[Case]) -> dict[str, Floats]:
    """Return every plain law's eps."""
    found: dict[str, list[float]] = defaultdict(list)
    for case in cases:
        for law in fit_laws(case.eps, "weak", noise(case.eps)):
            found[law.law.name].append(law.overhead(case.target))
    return {name: np.array(values) for name, values in found.items()}


def errors(cases: Sequence[Case], eps: Floats) -> Floats:
    """Return |predicted - measured| / measured of the throughput; the last axis is that of the cases."""
    true = np.array([case.true for case in cases])
    return np.abs((1 + true) / (1 + eps) - 1)


def on_grid(cases: Sequence[Case]) -> Floats:
    """Return eps of every prior of the grid (rows) for every case."""
    return np.array([_by_prior(cases, prior) for prior in GRID])


def _by_prior(cases: Sequence[Case], prior: Prior) -> list[float]:
    series = {(case.series, case.anchors): case for case in cases}
    found = {key: mixed(case.eps, prior) for key, case in series.items()}
    return [found[case.series, case.anchors].overhead(case.target) for case in cases]


def chosen(cases: Sequence[Case], missed: Floats, learn_from: Sequence[bool]) -> int:
    """Return which prior of the grid misses the cases to learn from least."""
    counts = Counter((case.source, case.kind, case.anchors) for case in cases)
    weights = np.array([use / math.sqrt(counts[c.source, c.kind, c.anchors]) for c, use in zip(cases, learn_from, strict=True)])
    loss = np.zeros(len(missed))
    for kind, (anchors, _) in itertools.product(KINDS, SPLITS):
        here = weights * [case.kind == kind and case.anchors == anchors for case in cases]
        if here.sum() > 0:
            loss += np.minimum(missed, WORST) @ here / here.sum()
    return int(np.argmin(loss))


def held_out(cases: Sequence[Case], grid: Floats, fold: Callable[[Case], str]) -> Floats:
    """Return eps of every case by the prior that was learned without its fold."""
    missed, found = errors(cases, grid), np.zeros(len(cases))
    for out in {fold(case) for case in cases}:
        prior = chosen(cases, missed, [fold(case) != out for case in cases])
        found = np.where([fold(case) == out for case in cases], grid[prior], found)
    return found


def deviations(cases: Sequence[Case], eps: Floats) -> Floats:
    """Return by how many units of the interval log(1 + eps) was off."""
    units = [spread(e, math.log2(case.target / max(case.anchors))) for case, e in zip(cases, eps, strict=True)]
    return np.asarray((np.log1p([case.true for case in cases]) - np.log1p(eps)) / units, dtype=np.float64)


def band(deviations: Floats) -> Band:
    low, high = np.quantile(deviations, TAILS)
    return Band(low=round(float(low), 2), high=round(float(high), 2))


def covered(cases: Sequence[Case], eps: Floats) -> Floats:
    """Return whether each case lies in its interval, whose width was learned from other sources; NaN where it is withheld."""
    off, inside = deviations(cases, eps), np.full(len(cases), np.nan)
    for source in {case.source for case in cases}:
        _judge(cases, off, inside, {case.source for case in cases} - {source})
    return inside


def covered_by_halves(cases: Sequence[Case], eps: Floats) -> Floats:
    """Return how often each case lies in its interval, whose width was learned from half of the sources, its own not in it."""
    off, rng, sources = deviations(cases, eps), np.random.default_rng(0), sorted({case.source for case in cases})
    rounds = np.full((2 * HALVINGS, len(cases)), np.nan)
    for index in range(HALVINGS):
        half = set(rng.permutation(sources)[: len(sources) // 2])
        _judge(cases, off, rounds[2 * index], half)
        _judge(cases, off, rounds[2 * index + 1], set(sources) - half)
    seen = np.isfinite(rounds).sum(axis=0)
    return np.where(seen > 0, np.nansum(rounds, axis=0) / np.maximum(seen, 1), np.nan)


def _judge(cases: Sequence[Case], off: Floats, inside: Floats, known: set[str]) -> None:
    """Set `inside` of every answer whose source is not among those known."""
    for name in {reach(kind) for kind in KINDS}:
        here = np.array([reach(case.kind) == name and not case.withheld for case in cases])
        learn = np.array([case.source in known for case in cases])
        if (here & learn).any():
            limits = band(off[here & learn])
            inside[here & ~learn] = (limits.low <= off[here & ~learn]) & (off[here & ~learn] <= limits.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How far a method misses, as fractions: of the throughput; of the overhead where it is above 1 % of T_1."""

    mean: float
    median: float
    p90: float
    overhead: float


def score(cases: Sequence[Case], eps: Floats, use: Sequence[bool]) -> Score:
    kept = np.array(use)
    missed, true = errors(cases, eps)[kept], np.array([case.true for case in cases])
    plain = kept & (true > 0.01)
    overhead = np.median(np.abs(eps[plain] / true[plain] - 1))
    p90 = float(np.quantile(missed, 0.9))
    return Score(mean=float(missed.mean()), median=float(np.median(missed)), p90=p90, overhead=float(overhead))


def nearest(cases: Sequence[Case], eps: dict[str, Floats]) -> dict[str, float]:
    """Return how often each law came nearest, ties shared, each source counting the same."""
    names, counts = list(eps), Counter(case.source for case in cases)
    missed = np.array([errors(cases, eps[name]) for name in names])
    best = missed <= missed.min(axis=0) + 1e-9
    weights = np.array([1 / counts[case.source] for case in cases])
    shares = (best / best.sum(axis=0)) @ weights / weights.sum()
    return {name: round(float(share), 2) for name, share in zip(names, shares, strict=True)}


def learned(cases: Sequence[Case], grid: Floats, ours: Floats) -> tuple[Prior, dict[Reach, Band], dict[str, float]]:
    """Return what should ship: the prior of all sources, intervals by the errors of held-out ones, shares of the laws."""
    prior = GRID[chosen(cases, errors(cases, grid), [True] * len(cases))]
    off = deviations(cases, ours)
    reaches = np.array([None if case.withheld else reach(case.kind) for case in cases])
    bands = {reach(kind): band(off[reaches == reach(kind)]) for kind in KINDS}
    first = [case for case in cases if (case.anchors, case.target) in FIRST]
    return prior, bands, nearest(first, by_law(first))


def tables(cases: Sequence[Case], grid: Floats, ours: Floats) -> Iterator[str]:
    """Yield a Markdown table for each kind of link and set of anchors."""
    plain = by_law(cases)
    rows = {"**commprof, source held out**": ours, "commprof, publisher held out": held_out(cases, grid, lambda c: c.publisher)}
    rows |= {law.name: plain[law.name] for law in laws("weak")}
    inside, halves = covered(cases, ours), covered_by_halves(cases, ours)
    for (anchors, targets), kind in itertools.product(SPLITS, KINDS):
        every = [case.kind == kind and case.anchors == anchors for case in cases]
        told = [here and not case.withheld for here, case in zip(every, cases, strict=True)]
        use = told if any(told) else every
        calm = [here and case.model != ERRATIC for here, case in zip(use, cases, strict=True)]
        count = len({case.series for case, here in zip(cases, every, strict=True) if here})
        name = "NVLink" if kind == "nvlink" else "PCIe"
        yield f"## {name}, from N = {', '.join(map(str, anchors))} to {', '.join(map(str, targets))}\n"
        yield f"{count} series, {sum(every)} targets, {sum(every) - sum(told)} of them withheld."
        if any(told):
            yield (
                f"The 90 % interval held {inside[np.array(told)].mean():.1%} of the {sum(told)} answers, learned on half of "
                f"the sources {np.nanmean(halves[np.array(told)]):.1%}.\n"
            )
        else:
            yield "The errors below are those of answers that are not given.\n"
        yield f"| law | mean error | median | p90 | mean without {ERRATIC} | overhead, median error |\n{'|---' * 6}|"
        for label, eps in rows.items():
            all_, without = score(cases, eps, use), score(cases, eps, calm)
            yield (
                f"| {label} | {all_.mean:.2%} | {all_.median:.2%} | {all_.p90:.1%} | {without.mean:.2%} | {all_.overhead:.0%} |"
            )
        yield ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, metavar="TABLE", help="published throughputs (CSV)")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="where the result goes")
    parser.add_argument("--learn", action="store_true", help="print the prior, intervals and shares that should ship")
    args = parser.parse_args()
    cases = read_cases(args.table)
    grid = on_grid(cases)
    ours = held_out(cases, grid, lambda case: case.source)
    if args.learn:
        sys.stdout.write("\n".join(map(str, (*learned(cases, grid, ours), f"ships: {PRIOR}"))) + "\n")
        return
    sources = f"- {args.table.name}: {len({case.source for case in cases})} sources held out one at a time"
    lines = ["# Extrapolation from a few throughputs", "", describe_machine(), sources, "", READ, *tables(cases, grid, ours)]
    write_text(args.out / "extrapolation.md", "\n".join(lines).rstrip() + "\n")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
