"""Advice as people read it: each change with the line of the configuration that makes it, thresholds, what epochs cost."""

from collections.abc import Callable, Iterator, Sequence

from commprof.analysis.advice.results import Advice, Bottleneck, Costs, EpochCost, RankAdvice, Threshold
from commprof.analysis.runs.interval import Interval
from commprof.analysis.runs.load import Run
from commprof.analysis.scaling.decision import Candidate, Decision, decide
from commprof.analysis.step.decided import DISTURBED, because, no_gain, turned_round
from commprof.analysis.step.language import MAY_SEEM_TO_LOSE
from commprof.analysis.step.results import Change
from commprof.commbench.display.sheet import Block, Cell, Column, Row, Table, Tone, Words, joined, line
from commprof.commbench.units import format_estimate, format_rate, format_seconds

_HOUR_S = 3600.0
_NOTHING = "Of disturbed runs nothing is advised or priced; end what else runs there, measure again, and ask once more."


def advice_sheet(advice: Advice, runs: Sequence[Run], disturbed: str | None = None) -> list[Block]:
    """Lay out the decision, all advice, world size by world size, and what epochs cost; `runs` are what it was made from.

    Where others `disturbed` the machine nothing is advised or priced: what a change saves would be told of their work.
    """
    fixed = "batch per rank fixed" if advice.scaling == "weak" else "batch in all fixed"
    single = format_seconds(advice.single_step_s)
    decision = str(decide_advised(advice, runs, disturbed=disturbed is not None))
    decided = [Words(decision, tone="strong", break_long_words=False)]
    if disturbed is not None:
        return joined([decided, [_wrapped(disturbed, tone="bad")], [_wrapped(_NOTHING)]])
    head = [_wrapped(f"one rank: {single} a step; speedup in samples/s over one rank with the same change; {fixed}")]
    costs = [] if advice.costs is None else list(_costs(advice.costs))
    return joined(
        [
            decided,
            head,
            *(list(_ranks_blocks(ranks, advice.scaling)) for ranks in advice.ranks),
            costs,
        ]
    )


def decide_advised(advice: Advice, runs: Sequence[Run], *, disturbed: bool) -> Decision:
    """Decide as `predict` does, from the same steps."""
    unknown = DISTURBED if disturbed else ""
    return decide(
        Candidate(
            world_size=own.world_size,
            speedup=own.speedup,
            within=(span := turned_round(own.speedup, own.step_s, own.interval_s)),
            predicted=own.speedup,
            interval=span,
            because="" if unknown or own.overhead is None else because([own.overhead], runs, own.world_size),
            unknown=unknown or own.too_disturbed or "",
            no_gain=no_gain(runs, own.world_size, predicted=own.shares_cores),
        )
        for own in advice.ranks
    )


def _ranks_blocks(ranks: RankAdvice, scaling: str) -> Iterator[Block]:
    step = _step_text(ranks)
    carried = "; the wire is extrapolated" if ranks.extrapolated else ""
    yield _wrapped(
        f"{ranks.world_size} ranks: {step} a step, {ranks.speedup:.2f}x; {format_seconds(ranks.exposed_s)} of it is "
        f"communication that nothing hides{carried}",
        tone="strong",
    )
    told = [own for own in ranks.changes if not own.doubt]
    if alike := [_change(own) for own in told if not own.alters_learning]:
        yield _savings("to change, best first", alike)
    elif ranks.too_disturbed is None:
        yield line("  no setting that leaves the updates as they are surely saves 1 % of the step")
    if others := [_change(own) for own in told if own.alters_learning]:
        yield _savings("to change with what is learnt", others)
    if doubtful := [_change(own) for own in ranks.changes if own.within_noise]:
        yield _savings("perhaps no saving", doubtful)
        yield _wrapped(f"({MAY_SEEM_TO_LOSE})", "  ")
    if untold := [_change(own) for own in ranks.changes if own.too_disturbed]:
        yield _savings("too disturbed to tell what is saved, or whether", untold)
    what_ifs = [_saving(own.seconds_saved, own.interval_s, own.speedup, own.what) for own in ranks.what_ifs]
    yield _savings("other hardware: what if", what_ifs)
    yield from (_wrapped(f"({note})", "  ") for note in ranks.notes)
    if ranks.too_disturbed is None:
        samples = "samples per rank" if scaling == "weak" else "samples in all"
        yield _wrapped(_threshold_text(ranks.smallest_batch, "batch", samples, _count), "  ")
        yield _wrapped(_threshold_text(ranks.smallest_model, "model", "parameters", _parameters), "  ")
    yield _wrapped(_bottleneck_text(ranks.bottleneck), "  ")


def _step_text(ranks: RankAdvice) -> str:
    if ranks.too_disturbed is not None:
        return f"{format_seconds(ranks.step_s)} (no interval: {ranks.too_disturbed.partition(':')[0]})"
    return format_estimate(ranks.step_s, ranks.interval_s.low, ranks.interval_s.high)


def _savings(title: str, rows: Sequence[Row]) -> Table:
    columns = (
        Column(name="saves a batch (90 %)", width=26, key=True),
        Column(name="speedup", width=7),
        Column(name=title, left=True, folds=True),
    )
    return Table(columns=columns, rows=rows, break_on_hyphens=True)


def _change(change: Change) -> Row:
    below = [_wrapped(change.setting, "      ", tone="faint")]
    below += [_wrapped(f"but {change.side_effect}", "      ", tone="note")] if change.side_effect else []
    return _saving(change.seconds_saved, change.interval_s, change.speedup, change.what, below)


def _saving(seconds: float, span: Interval | None, speedup: float, what: str, below: Sequence[Words] = ()) -> Row:
    """Write what is saved; a colour says that all of the interval is a gain, or a loss."""
    if span is None:
        return Row((f"{format_seconds(seconds)} (too disturbed)", f"{speedup:.2f}x", what), below)
    tone: Tone = "good" if span.low > 0 else "bad" if span.high < 0 else "plain"
    told = what if tone != "plain" else f"{what} (within noise)"
    return Row((Cell(format_estimate(seconds, span.low, span.high), tone), f"{speedup:.2f}x", told), below)


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


def _costs(costs: Costs) -> Iterator[Block]:
    unit = "GPU-hours" if costs.price_per_gpu_hour is None else f"at {costs.price_per_gpu_hour:g} a GPU-hour"
    epoch = "a million samples" if costs.samples_assumed else f"an epoch of {_count(costs.samples_per_epoch)} samples"
    yield line(f"cost of {epoch}, {unit} (90 %)", "strong")
    columns = (
        Column(name="ranks", width=7, before="", key=True),
        Column(name="hours", width=24),
        Column(name="cost", width=24),
        Column(name="per added rank", width=14),
        Column(before=""),
    )
    yield Table(columns=columns, rows=[_cost_row(row) for row in costs.rows])
    if any(row.extrapolated for row in costs.rows):
        yield line("      * the wire is extrapolated")
    yield _wrapped(_cheapest_text(costs))


def _cost_row(row: EpochCost) -> Row:
    hours, cost = _spread(row.epoch_s, row.epoch_interval_s, _HOUR_S), _spread(row.cost, row.cost_interval)
    added = "-" if row.cost_per_added_rank is None else f"{row.cost_per_added_rank:+.3g}"
    return Row((str(row.world_size), hours, cost, added, " *" if row.extrapolated else ""))


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


def _wrapped(text: str, indent: str = "", tone: Tone = "plain") -> Words:
    return Words(text, indent, indent + "  ", tone, break_long_words=False)
