"""Which side is faster? By steps where all have trained on as many ranks, else by wires; or why that cannot be told.

Faster is a side that gains on every other by more than the ends of their medians' 95 % intervals, and what the medians of two
runs differ by (step/comparable.py), leave in doubt.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from commprof.analysis.report.numbers.data import samples_per_s
from commprof.analysis.report.numbers.titles import ranks
from commprof.analysis.report.numbers.wire_curves import busbw_at
from commprof.analysis.report.sides.sides import Ratio, Side, common_ranks, common_sizes, ratio, shared_curves
from commprof.analysis.runs.interval import Interval
from commprof.analysis.runs.load import Run
from commprof.analysis.scaling.decision import Answer
from commprof.analysis.step.comparable import pace_margin
from commprof.analysis.step.decided import DISTURBED
from commprof.commbench.units import format_bytes

_UNKNOWN = "Which is faster cannot be told"


@dataclass(frozen=True, slots=True, kw_only=True)
class Faster:
    """The answer in a few words, its colour, and as a sentence."""

    answer: str
    sign: Answer
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """What all sides have: rates with their intervals, in the order of the sides, 1/s or B/s; `whose` is what is faster."""

    whose: str
    of: str
    rates: tuple[tuple[float, Interval], ...]


def faster(sides: Sequence[Side], *, disturbed: bool) -> Faster:
    """Return which side is faster, nothing of runs that others disturbed or that did not do the same work."""
    found = _steps(sides) or _wires(sides)
    if found is None:
        return _cannot_tell("there is no number of ranks on which all of them trained, nor one on which all were benched")
    if disturbed:
        return _cannot_tell(DISTURBED)
    if not found.whose and not same_work([side.trainings[common_ranks(sides)[0]] for side in sides]):
        return _cannot_tell("a sample is not the same work for all of them")
    own, best = max(zip(found.rates, sides, strict=True), key=lambda each: each[0][0])
    others = [(ratio(own, rate), side.letter) for rate, side in zip(found.rates, sides, strict=True) if side is not best]
    over, other = min(others, key=lambda each: each[0].interval.low)
    told = _told(found, sides) if len(sides) == 2 else _has(best.letter, over, found.of, other)
    if over.interval.low <= pace_margin(max(side.material.drift for side in sides)):
        return _cannot_tell(f"{told}, no more than two runs may differ by")
    answer = f"{best.letter}{found.whose} is {'faster' if len(sides) == 2 else 'the fastest'}"
    return Faster(answer=answer, sign="yes", sentence=f"{answer}: {told}.")


def _told(found: _Measured, sides: Sequence[Side]) -> str:
    """Write B over A, as the page does above and below, whichever is faster."""
    (first, second), (base, own) = found.rates, sides
    return _has(own.letter, ratio(second, first), found.of, base.letter)


def _has(own: str, over: Ratio, of: str, other: str) -> str:
    return f"{own} has {over.value:.2f}x the {of.format(other=other)}"


def same_work(runs: Sequence[Run]) -> bool:
    """Say whether a sample costs these trainings as much computation, as far as their models tell."""
    kinds = {
        (run.info.workload.num_parameters, run.info.workload.sequence_length) for run in runs if run.info.workload is not None
    }
    return len(kinds) == 1


def _cannot_tell(reason: str) -> Faster:
    return Faster(answer=_UNKNOWN, sign="unknown", sentence=f"{_UNKNOWN}, because {reason}.")


def _steps(sides: Sequence[Side]) -> _Measured | None:
    for n in common_ranks(sides)[:1]:
        rates = tuple(samples_per_s(side.trainings[n]) for side in sides)
        return _Measured(whose="", of=f"samples per second of {{other}} on {ranks(n)}", rates=rates)
    return None


def _wires(sides: Sequence[Side]) -> _Measured | None:
    for n, curves in shared_curves(sides):
        size = common_sizes(curves)[-1]
        rates = tuple(busbw_at(side.material.runs, n, size)[:2] for side in sides)
        return _Measured(whose="'s wire", of=f"bus bandwidth of {{other}} on {ranks(n)} at {format_bytes(size)}", rates=rates)
    return None
