"""Advice for a terminal: plain text of 80 columns, each change with the line of the configuration that makes it."""

import textwrap
from collections.abc import Callable, Iterator, Sequence

from commprof.analysis.advice.results import Advice, Bottleneck, Costs, EpochCost, RankAdvice, Threshold
from commprof.analysis.runs.interval import Interval
from commprof.analysis.step.results import Change
from commprof.commbench.units import format_estimate, format_rate, format_seconds, printable

_WIDTH = 80
_HEAD = f"  {'saves a batch (90 %)':>26}  {'speedup':>7}  "
_INDENT = " " * len(_HEAD)
_HOUR_S = 3600.0


def advice_text(advice: Advice) -> str:
    """Lay out all advice, world size by world size, then what epochs cost."""
    fixed = "batch per rank fixed" if advice.scaling == "weak" else "batch in all fixed"
    single = format_seconds(advice.single_step_s)
    lines = _wrapped(f"one rank: {single} a step; speedup in samples/s over one rank with the same change; {fixed}")
    for ranks in advice.ranks:
        lines += ["", *_ranks_lines(ranks, advice.scaling)]
    if advice.costs is not None:
        lines += ["", *_cost_lines(advice.costs)]
    return "\n".join(lines)


def _ranks_lines(ranks: RankAdvice, scaling: str) -> Iterator[str]:
    step = format_estimate(ranks.step_s, ranks.interval_s.low, ranks.interval_s.high)
    carried = "; the wire is extrapolated" if ranks.extrapolated else ""
    yield from _wrapped(
        f"{ranks.world_size} ranks: {step} a step, {ranks.speedup:.2f}x; {format_seconds(ranks.exposed_s)} of it is "
        f"communication that nothing hides{carried}"
    )
    yield from _change_lines(ranks.changes)
    yield f"{_HEAD}other hardware: what if"
    for what_if in ranks.what_ifs:
        yield from _row(what_if.seconds_saved, what_if.interval_s, what_if.speedup, what_if.what)
    for note in ranks.notes:
        yield from _wrapped(f"({note})", "  ")
    samples = "samples per rank" if scaling == "weak" else "samples in all"
    yield from _wrapped(_threshold_text(ranks.smallest_batch, "batch", samples, _count), "  ")
    yield from _wrapped(_threshold_text(ranks.smallest_model, "model", "parameters", _parameters), "  ")
    yield from _wrapped(_bottleneck_text(ranks.bottleneck), "  ")


def _change_lines(found: Sequence[Change]) -> Iterator[str]:
    yield f"{_HEAD}to change, best first" if found else "  no change of the configuration surely saves 1 % of the step"
    for change in found:
        assert change.interval_s is not None, "changes are judged by their intervals"
        yield from _row(change.seconds_saved, change.interval_s, change.speedup, change.what)
        yield from _wrapped(change.setting, "      ")
        yield from _wrapped(f"but {change.side_effect}", "      ") if change.side_effect else ()


def _row(seconds: float, span: Interval, speedup: float, what: str) -> Iterator[str]:
    saved = format_estimate(seconds, span.low, span.high)
    first, *more = textwrap.wrap(printable(what), _WIDTH - len(_HEAD))
    yield f"  {saved:>26}  {speedup:>6.2f}x  {first}"
    yield from (f"{_INDENT}{line}" for line in more)


def _threshold_text(found: Threshold, what: str, unit: str, form: Callable[[float], str]) -> str:
    tried = f"{form(found.smallest_tried)} to {form(found.largest_tried)} {unit}, now {form(found.now)}"
    if found.smallest is None:
        hope = "" if found.possibly is None else f"; by the interval perhaps from {form(found.possibly)} on"
        return f"smallest {what} that pays: none of {tried}{hope}"
    early = "" if found.possibly is None else form(found.possibly)
    late = "none is sure" if found.surely is None else form(found.surely)
    if found.smallest == found.smallest_tried:
        sure = "" if found.surely == found.smallest else f"; surely from: {late}"
        return f"smallest {what} that pays: every one of {tried}{sure}"
    return f"smallest {what} that pays: {form(found.smallest)} {unit} (90 %: {early} to {late}), now {form(found.now)}"


def _bottleneck_text(found: Bottleneck) -> str:
    backward, comm = format_seconds(found.backward_s), format_seconds(found.comm_s)
    if found.busbw_needed_bytes_per_s is None:
        return f"no bandwidth moves the bottleneck: messages' latency alone takes longer than backward's {backward}"
    needed, now = format_rate(found.busbw_needed_bytes_per_s), format_rate(found.busbw_bytes_per_s)
    computing = found.comm_s <= found.backward_s
    side = "computation, though the last bucket cannot hide" if computing else "the wire"
    return (
        f"the bottleneck moves from the wire to computation at {needed} busbw, measured {now}: all buckets take {comm}, "
        f"backward {backward}, so now it is {side}"
    )


def _cost_lines(costs: Costs) -> Iterator[str]:
    unit = "GPU-hours" if costs.price_per_gpu_hour is None else f"at {costs.price_per_gpu_hour:g} a GPU-hour"
    epoch = "a million samples" if costs.samples_assumed else f"an epoch of {_count(costs.samples_per_epoch)} samples"
    yield f"cost of {epoch}, {unit} (90 %)"
    yield f"{'ranks':>7}  {'hours':>24}  {'cost':>24}  {'per added rank':>14}"
    for row in costs.rows:
        hours, cost = _spread(row.epoch_s, row.epoch_interval_s, _HOUR_S), _spread(row.cost, row.cost_interval)
        added = "-" if row.cost_per_added_rank is None else f"{row.cost_per_added_rank:+.3g}"
        yield f"{row.world_size:>7}  {hours:>24}  {cost:>24}  {added:>14}{' *' if row.extrapolated else ''}"
    if any(row.extrapolated for row in costs.rows):
        yield "      * the wire is extrapolated"
    yield from _wrapped(_cheapest_text(costs))


def _cheapest_text(costs: Costs) -> str:
    rows = {row.world_size: row for row in costs.rows}
    if costs.deadline_s is None:
        assert costs.cheapest is not None, "without a deadline every row is in time"
        return f"cheapest: {_ranks(costs.cheapest)}"
    goal = f"{costs.epochs} {'epoch' if costs.epochs == 1 else 'epochs'} in {costs.deadline_s / _HOUR_S:.3g} h"
    if costs.cheapest is None:
        return f"{goal}: at none of these numbers of ranks"
    text = f"{goal}: cheapest on {_ranks(costs.cheapest)}, {_whole(rows[costs.cheapest], costs.epochs)}"
    if costs.surely_cheapest == costs.cheapest:
        return f"{text}; in time even at the high end"
    if costs.surely_cheapest is None:
        return f"{text}; late at the high end, as all others are"
    sure = f"{_ranks(costs.surely_cheapest)}, {_whole(rows[costs.surely_cheapest], costs.epochs)}"
    return f"{text}; late at the high end, where {sure} are still in time"


def _whole(row: EpochCost, epochs: int) -> str:
    """Write time and cost of all epochs."""
    span = row.epoch_interval_s
    whole_s = None if span is None else Interval(low=epochs * span.low, high=epochs * span.high)
    return f"{_spread(epochs * row.epoch_s, whole_s, _HOUR_S)} h at a cost of {epochs * row.cost:.4g}"


def _spread(value: float, span: Interval | None, scale: float = 1.0) -> str:
    ends = "" if span is None else f" ({span.low / scale:.3g} to {span.high / scale:.3g})"
    return f"{value / scale:.3g}{ends}"


def _ranks(world_size: int) -> str:
    return "1 rank" if world_size == 1 else f"{world_size} ranks"


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _parameters(number: float) -> str:
    scale, unit = next((s, u) for s, u in ((1e9, "B"), (1e6, "M"), (1e3, "k"), (1.0, "")) if number >= s or s == 1.0)
    return f"{number / scale:.3g}{f' {unit}' if unit else ''}"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        printable(text),
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
