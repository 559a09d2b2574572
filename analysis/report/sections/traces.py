"""What a report says of a run's traces: where each rank's step went, how fast collectives were, who was waited for."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from commprof.analysis.report.figures.traces import PART_NAMES, budget_figure, collective_figure
from commprof.analysis.report.numbers.data import Material, raw_files
from commprof.analysis.report.numbers.titles import ranks
from commprof.analysis.report.numbers.wire_curves import WireCurve, wire_curves
from commprof.analysis.report.page.html import Cell, Picture, Section, Table
from commprof.analysis.report.sections.origin import file_link
from commprof.analysis.traces.all_ranks.budget import StepBudget
from commprof.analysis.traces.all_ranks.job import CollectiveSummary
from commprof.analysis.traces.all_ranks.parts import part_times
from commprof.analysis.traces.all_ranks.stragglers import STRETCHED
from commprof.analysis.traces.sets.traced_runs import TracedRun, read_traced
from commprof.analysis.traces.sets.untraced import counted_step_s
from commprof.analysis.traces.shown.text import words_on_waiting
from commprof.commbench.units import format_bytes, format_rate, format_seconds

_MAX_BARS = 24
_MAX_FINDINGS = 4
_MAX_KINDS = 32
_NOT_KNOWN = "-"

Points = dict[tuple[str, int], list[tuple[int, float]]]


def trace_section(material: Material, page: Path) -> Section | None:
    """Return the section on traces; None where no training run has any."""
    traced, refusals = read_traced(material.runs)
    if not traced and not refusals:
        return None
    telling = [one for one in traced if one.analysis.budgets]
    sending = [one for one in telling if one.run.sends]
    # Without communication a bar is computation from end to end: the table says as much.
    pictures = [_budget_picture(index, one) for index, one in enumerate(sending or telling)]
    return Section(
        name="traces",
        title="Where the step went",
        folded=material.predicted is not None,
        sentences=(
            *(words for one in sending for words in _words(one)),
            *(words for one in telling if one not in sending for words in _words(one)),
            "From the profiler's traces of a few steps, which it may slow; no other figure holds these steps. A "
            "collective waits until the last rank has arrived and transfers from then on; what a rank computes meanwhile hides "
            "it.",
        ),
        pictures=(*pictures, *_bandwidth_picture(material, traced)),
        tables=tuple(table for table in (_budget_table(telling, page), _collective_table(traced)) if table.rows),
        remarks=(*(words for one in traced for words in _limits(one)), *refusals),
    )


def _words(one: TracedRun) -> Iterator[str]:
    """Yield how much the profiler stretched the steps, and of a run that sends who was waited for and for how long."""
    yield from _on_stretching(one)
    if one.run.sends:
        words = words_on_waiting(one.analysis)
        yield f"{one.name}: {words[0].lower()}{words[1:]}"
        if one.analysis.matching.matched:
            yield f"{one.name}: {one.analysis.stragglers.message}."


def _on_stretching(one: TracedRun) -> Iterator[str]:
    untraced_s = counted_step_s(list(one.run.steps.values()))
    traced_s = part_times(one.analysis.budgets)[-1].step_ns / 1e9
    if untraced_s is not None and traced_s > STRETCHED * untraced_s:
        yield (
            f"{one.name}: its traced steps take {format_seconds(traced_s)}, {traced_s / untraced_s - 1:.0%} longer than the "
            f"{format_seconds(untraced_s)} of its steps without the profiler. They show what a step holds, not how long it is, "
            f"and those over {STRETCHED - 1:.0%} longer call no rank late."
        )


def _limits(one: TracedRun) -> Iterator[str]:
    told = [finding for finding in one.analysis.findings if finding.name not in {"cpu", "unmatched"} or one.run.sends]
    yield from (f"{one.name}: {finding.message}." for finding in told[:_MAX_FINDINGS])
    if len(told) > _MAX_FINDINGS:
        yield f"{one.name}: {len(told) - _MAX_FINDINGS} more findings; commprof trace {one.name} names them."
    if one.num_left_out:
        yield f"{one.name}: {one.num_left_out} traces of other windows were not read; name them to commprof trace."


def _budget_picture(index: int, one: TracedRun) -> Picture:
    shown = _bars(one.analysis.budgets)
    num_steps, num_shown = (len({own.step for own in budgets}) for budgets in (one.analysis.budgets, shown))
    which = "" if num_shown == num_steps else f" The last {num_shown} of {num_steps}; commprof trace --csv has all."
    counted = f"{num_shown} traced step{'s' * (num_shown > 1)} of {len(one.analysis.by_rank)} of {ranks(one.run.world_size)}"
    per_rank = ", ".join(
        f"rank {own.rank} {format_seconds(own.step_ns / 1e9)}, "
        f"{own.parts_ns['compute'] / own.step_ns:.0%} of it computing alone"
        for own in part_times(one.analysis.budgets)
        if own.rank is not None
    )
    return Picture(
        name=f"budget-{index}",
        title=f"{one.name}: where each rank's step went",
        draw=partial(budget_figure, shown),
        alt=f"Parts of each traced step. Median steps: {per_rank}.",
        caption=f"{counted}; the parts add up to the step's wall time. Faint: hidden behind computation.{which}",
        sources=one.sources,
    )


def _bars(budgets: Sequence[StepBudget]) -> list[StepBudget]:
    """Return the last steps, as many as a figure has room for, the ranks of each beside each other."""
    num_ranks = len({own.rank for own in budgets})
    last = sorted({own.step for own in budgets})[-max(1, _MAX_BARS // num_ranks) :]
    return sorted((own for own in budgets if own.step in last), key=lambda own: (own.step, own.rank))


def _bandwidth_picture(material: Material, traced: Sequence[TracedRun]) -> tuple[Picture, ...]:
    points = _points(traced)
    if not points:
        return ()
    sizes = {num_ranks for op, num_ranks in points if op == "all_reduce"}
    curves = [curve for curve in wire_curves(material) if curve.world_size in sizes]
    benches = [run for run in material.runs if run.info.kind == "bench" and run.world_size in {c.world_size for c in curves}]
    return (
        Picture(
            name="collectives",
            title="Collectives of the training, over message size",
            draw=partial(collective_figure, points, curves),
            alt=f"Bus bandwidth over message size, both logarithmic. {_best(points)}.",
            caption=f"Traced: medians over {_counted(traced)} collectives, from the shortest time that any rank spent in each. "
            f"They share cores and wire with computation and each other.{_on_bench(curves)}",
            sources=(*(source for one in traced if one.run.sends for source in one.sources), *raw_files(benches)),
        ),
    )


def _points(traced: Sequence[TracedRun]) -> Points:
    points: Points = {}
    for _, own in _summaries(traced):
        if own.message_bytes is not None and own.busbw_bytes_per_s is not None:
            points.setdefault((own.op, own.num_ranks), []).append((own.message_bytes, own.busbw_bytes_per_s))
    return dict(sorted(points.items()))


def _summaries(traced: Sequence[TracedRun]) -> Iterator[tuple[TracedRun, CollectiveSummary]]:
    return ((one, own) for one in traced if one.run.sends for own in one.analysis.collectives)


def _counted(traced: Sequence[TracedRun]) -> int:
    return sum(own.count for _, own in _summaries(traced) if own.busbw_bytes_per_s is not None)


def _best(points: Mapping[tuple[str, int], Sequence[tuple[int, float]]]) -> str:
    best = ((op, n, *max(series, key=lambda point: point[1])) for (op, n), series in points.items())
    return "; ".join(f"{op} on {ranks(n)} reaches {format_rate(rate)} at {format_bytes(size)}" for op, n, size, rate in best)


def _on_bench(curves: Sequence[WireCurve]) -> str:
    if not curves:
        return " No bench of as many ranks is among the runs."
    samples = ", ".join(f"{curve.num_samples} samples on {ranks(curve.world_size)}" for curve in curves)
    return f" Bench: the all-reduce alone, medians and 10th to 90th percentile, {samples}."


def _budget_table(traced: Sequence[TracedRun], page: Path) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for one in traced:
        for own in part_times(one.analysis.budgets):
            shares = (f"{part / own.step_ns:.1%}" for part in own.parts_ns.values())
            path = None if own.rank is None else one.by_rank[own.rank]
            file = "" if path is None else file_link(path, page, path.name)
            name = "all" if own.rank is None else str(own.rank)
            rows.append((one.name, name, format_seconds(own.step_ns / 1e9), *shares, file))
    return Table(
        title="Each rank's step, medians of its parts in shares of the median step",
        note="All: medians over steps of the mean over ranks. Medians of parts do not add up to 100 %. "
        "The traces open in ui.perfetto.dev; reduced ones, which commprof trace reads, do not.",
        head=("Run", "Rank", "Step", *(name.capitalize() for name in PART_NAMES.values()), "Trace"),
        rows=tuple(rows),
        words=frozenset({0, 3 + len(PART_NAMES)}),
        folded=True,
    )


def _collective_table(traced: Sequence[TracedRun]) -> Table:
    found = list(_summaries(traced))
    longest = sorted(found, key=lambda pair: -pair[1].count * pair[1].num_ranks * pair[1].time_s)[:_MAX_KINDS]
    more = f" The {_MAX_KINDS} that took longest of {len(found)} kinds." if len(found) > _MAX_KINDS else ""
    return Table(
        title="Collectives by operation and size",
        note="Medians. Time is what a rank spends in one, waiting included; fastest the shortest that any rank spent." + more,
        head=("Run", "Operation", "Size", "Ranks", "Count", "Time", "Fastest", "Waiting", "busbw"),
        rows=tuple(_collective_row(one, own) for one, own in longest),
        words=frozenset({0, 1}),
        folded=True,
    )


def _collective_row(one: TracedRun, own: CollectiveSummary) -> tuple[str, ...]:
    return (
        one.name,
        own.op,
        _NOT_KNOWN if own.message_bytes is None else format_bytes(own.message_bytes),
        str(own.num_ranks),
        str(own.count),
        format_seconds(own.time_s),
        _NOT_KNOWN if own.transfer_s is None else format_seconds(own.transfer_s),
        _NOT_KNOWN if own.waiting_share is None else f"{own.waiting_share:.0%}",
        _NOT_KNOWN if own.busbw_bytes_per_s is None else format_rate(own.busbw_bytes_per_s),
    )
