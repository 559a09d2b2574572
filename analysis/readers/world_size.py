"""On how many ranks was a table measured?

busbw / algbw is 2(n-1)/n for all_reduce and (n-1)/n for collectives in which every rank holds a share, so n = 2/(2 - r) or
1/(1 - r). Each row's rounding leaves an interval of n; the n that most rows agree on is the table's. It is checked against the
device list, against size / count where that is n too, and against what the log states. Broadcast, reduce and send_recv have
the factor 1: there only the device list or the user can tell.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from commprof.analysis.readers.foreign import ForeignSweep, ForeignTime, is_close, printed_over_derived
from commprof.analysis.readers.operation import share_ranks
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.records.quantities import MAX_RANKS

_AGREEING = 0.9  # of the rows that say anything; hand-made tables have a wrong digit here and there


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldSize:
    """The number of ranks, how it is known, and what speaks against it."""

    value: int
    source: str
    notes: tuple[str, ...] = ()


def world_size(sweep: ForeignSweep, op: str, asked: int | None = None) -> WorldSize:
    """Return the table's number of ranks; raises UnusableData where it cannot be known, is contradicted, or is 1."""
    stated = _stated(sweep, op)
    first, last, agreeing = by_ratio(sweep.times, op)
    _refuse_single(sweep, op, [] if last else stated)
    if not last:
        return _without_ratio(stated, asked, sweep)
    if asked is not None and not first <= asked <= last:
        raise UnusableData(f"--world-size {asked}: busbw / algbw says {_span(first, last)} ranks; drop --world-size")
    inside = [(value, source) for value, source in stated if first <= value <= last]
    others = [(value, source) for value, source in stated if not first <= value <= last]
    outside = [f"{source} says {value} ranks, busbw / algbw {_span(first, last)}" for value, source in others]
    if not inside and first < last and asked is None:
        raise UnusableData(f"its figures fit {_span(first, last)} ranks and nothing else tells; say --world-size N")
    if others and not inside and agreeing < _AGREEING and asked is None:
        return WorldSize(
            value=others[0][0], source=others[0][1], notes=(f"its busbw / algbw fits no number of ranks ({outside[0]})",)
        )
    value = inside[0][0] if inside else asked or first
    confirmed = ", ".join(source for _, source in inside) or ("--world-size" if asked else "")
    notes = [*outside]
    if agreeing < _AGREEING:
        notes.append(f"only {agreeing:.0%} of the rows have a busbw that fits {value} ranks")
    if first == last:
        source = f"busbw / algbw, {confirmed}" if confirmed else "busbw / algbw"
    else:
        source = f"{confirmed}; busbw / algbw fits {_span(first, last)}"
    return WorldSize(value=value, source=source, notes=tuple(notes))


def by_ratio(times: Iterable[ForeignTime], op: str) -> tuple[int, int, float]:
    """Return the smallest and largest n that most rows agree on, and the share of rows that do; 0, 0 where none tells."""
    factor = OPERATIONS[op].bus_factor
    if factor(2) == factor(3):
        return 0, 0, 1.0
    intervals = [found for time in times if (found := _interval(time, op)) is not None]
    if not intervals:
        return 0, 0, 1.0
    steps = [0] * (MAX_RANKS + 2)
    for low, high in intervals:
        steps[low] += 1
        steps[high + 1] -= 1
    votes, running = [], 0
    for step in steps:
        running += step
        votes.append(running)
    best = max(votes)
    agreeing = [n for n, count in enumerate(votes) if count == best]
    return agreeing[0], agreeing[-1], best / len(intervals)


def _interval(time: ForeignTime, op: str) -> tuple[int, int] | None:
    """Return the n that one row's rounding allows; None where it allows nearly all, or none."""
    if time.busbw is None or time.busbw.low <= 0:
        return None
    low, high = _algbw(time, op)
    ratio_low, ratio_high = time.busbw.low / high, time.busbw.high / low
    top = 2.0 if op == "all_reduce" else 1.0
    smallest = max(2, math.ceil(_ranks(ratio_low, top) - 1e-6))
    largest = min(MAX_RANKS, math.floor(_ranks(ratio_high, top) + 1e-6)) if ratio_high < top else MAX_RANKS
    return (smallest, largest) if smallest <= largest else None


def _ranks(ratio: float, top: float) -> float:
    return min(MAX_RANKS + 1.0, top / (top - ratio)) if ratio < top else MAX_RANKS + 1.0


def _algbw(time: ForeignTime, op: str) -> tuple[float, float]:
    """Return the limits of algbw: size / time, narrowed by the printed one where the two mean the same."""
    low = time.message_bytes / time.time_s.high
    high = time.message_bytes / max(time.time_s.low, 0.1 * time.time_s.value)
    printed = time.algbw
    if printed is None or not printed.low > 0:
        return low, high
    if printed.low <= high and low <= printed.high:
        return max(low, printed.low), min(high, printed.high)
    if time.busbw is not None and time.busbw.value == printed.value and op != "all_reduce":
        return low, high  # the old definition: algbw was already times (n-1)/n
    return printed.low, printed.high


def _stated(sweep: ForeignSweep, op: str) -> list[tuple[int, str]]:
    """Return what the log says of its ranks beside the ratio, the best witness first."""
    shares = share_ranks(sweep.times) if OPERATIONS[op].shared else None
    ranks = len({device.rank for device in sweep.devices})
    found = [(shares, "size / count"), (ranks, "the device list"), (sweep.num_ranks, sweep.ranks_source)]
    return [(value, source) for value, source in found if value]


def _refuse_single(sweep: ForeignSweep, op: str, stated: Sequence[tuple[int, str]]) -> None:
    """Raise UnusableData where the figures are those of one rank, or nothing but a list of one rank tells."""
    large = [time for time in sweep.times if time.busbw is not None and time.algbw is not None and time.algbw.low > 0]
    silent = large and all(time.busbw is not None and time.busbw.value == 0 for time in large)
    if (silent and OPERATIONS[op].bus_factor(1) == 0) or {value for value, _ in stated} == {1}:
        raise UnusableData(
            "it ran on one rank (n = 1: busbw is 0), which talks to nobody; if mpirun started it on more, nccl-tests was built "
            "without MPI: build it with MPI=1 and run again"
        )


def _without_ratio(stated: Sequence[tuple[int, str]], asked: int | None, sweep: ForeignSweep) -> WorldSize:
    values = {value for value, _ in stated}
    if asked is not None:
        notes = tuple(f"{source} says {value} ranks, --world-size {asked}" for value, source in stated if value != asked)
        return WorldSize(value=asked, source="--world-size", notes=notes)
    if not values:
        raise UnusableData("nothing in it tells the number of ranks; say --world-size N")
    if len(values) > 1:
        said = ", ".join(f"{source} says {value}" for value, source in stated)
        raise UnusableData(f"it contradicts itself on the number of ranks ({said}); say --world-size N")
    return WorldSize(value=stated[0][0], source=", ".join(source for _, source in stated))


def figure_notes(sweep: ForeignSweep, op: str, num_ranks: int) -> tuple[str, ...]:
    """Return what is odd about the printed rates beside size / time, from which everything is worked out anew."""
    off = printed_over_derived(sweep.times)
    share = OPERATIONS[op].bus_factor(num_ranks)
    if off is None or is_close(off, 1.0, 0.01):
        return ()
    if OPERATIONS[op].shared and is_close(off, share, 0.01):
        return ("its algbw is by nccl-tests' old definition, times (n-1)/n already; worked out anew from size and time",)
    return (f"the printed algbw is {off:.3g} times size / time; worked out anew",)


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"
