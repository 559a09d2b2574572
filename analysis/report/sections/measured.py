"""What a report says of what was measured: the wire, and the step's anatomy. None where the data hold nothing for it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from commprof.analysis.report.figures import predictions as plots
from commprof.analysis.report.figures.costs import bandwidth_figure, latency_figure
from commprof.analysis.report.figures.links import traffic_figure
from commprof.analysis.report.numbers.data import Anatomy, Material, anatomies, raw_files
from commprof.analysis.report.numbers.titles import ranks
from commprof.analysis.report.numbers.wire_curves import WireCurve, wire_curves
from commprof.analysis.report.page.html import Cell, Noted, Picture, Section, Table, between
from commprof.analysis.runs.load import select
from commprof.analysis.wire.fabric import RingTraffic, even_traffic, ring_traffic
from commprof.analysis.wire.results import CostModel
from commprof.commbench.records.slowdown import Slowdown
from commprof.commbench.units import format_bytes, format_rate, format_seconds

FIT_HEAD = ("Ranks", "Latency", "Bandwidth (algbw)", "busbw", "Half-bandwidth size", "Line off by", "Samples", "Verdict")


def wire_section(material: Material) -> Section | None:
    """Return bandwidth and latency over message size, and the fit."""
    curves = wire_curves(material)
    if not curves:
        return None
    sent = _sent(material)
    return Section(
        name="wire",
        title="The wire",
        folded=material.predicted is not None,
        sentences=(
            _wire_gist(curves),
            "Every time here is the fastest rank's, as in the fit: it arrived last, so it waited for nobody (over several "
            "nodes the slowest's: ranks end at different times there, however they began). The table of commprof bench has the "
            "slowest rank's, as nccl-tests does; that includes waiting.",
        ),
        pictures=(*_wire_pictures(material, curves), *_traffic_picture(sent)),
        tables=(
            *((_fit_table([curve.cost for curve in curves if curve.cost is not None]),) if material.costs else ()),
            _ceiling_table(curves),
            *_traffic_table(sent),
        ),
    )


def _wire_gist(curves: Sequence[WireCurve]) -> str:
    told = []
    for curve in curves:
        best = format_rate(max(curve.bus_bandwidth(curve.median_s)))
        told.append(f"{ranks(curve.world_size)} {format_seconds(min(curve.median_s))} at least, {best} bus bandwidth at best")
    costs = [curve.cost for curve in curves if curve.cost is not None and curve.cost.verdict != "sound"]
    doubts = "".join(f" The line on {ranks(cost.world_size)} is {cost.verdict}." for cost in costs)
    return f"An all-reduce: {'; '.join(told)}.{doubts}"


def anatomy_section(material: Material, pictures: tuple[Picture, ...] = (), tables: tuple[Table, ...] = ()) -> Section | None:
    """Return where a step's time goes at each world size; what is given stands beside what was measured."""
    found = anatomies(material.runs)
    if not found:
        return None
    slowdowns = [Slowdown.of(list(anatomy.run.steps.values())) for anatomy in found]
    measured = Picture(
        name="anatomy",
        title="Phases of a step",
        draw=partial(plots.anatomy_figure, found),
        alt="Phases of a step. " + "; ".join(f"{ranks(a.run.world_size)} {a.kind}: {format_seconds(a.step_s)}" for a in found),
        caption="Mean over the middle half of the steps by length, so that the parts add up. Other is the step less its four "
        f"phases. Steps of all ranks: {', '.join(f'{a.run.path.name} {a.num_steps}' for a in found)}.",
        sources=raw_files([anatomy.run for anatomy in found]),
    )
    return Section(
        name="step",
        title="The step's anatomy",
        folded=material.predicted is not None,
        sentences=(
            _step_gist(found),
            "A compute-only run sends nothing: it shows what ranks cost each other by computing side by side. What "
            f"{_sending(found)} of a synchronised run takes beyond that is communication and waiting.",
            *_cost_of_tracing(slowdowns),
        ),
        pictures=(measured, *pictures),
        tables=(_anatomy_table(found, slowdowns), *tables),
    )


def _sending(found: Sequence[Anatomy]) -> str:
    """Name what of a step sends: of a sharded one its forward pass and its optimizer may as well."""
    return "the step" if any(own.run.units or own.run.engine for own in found) else "the backward pass"


def _step_gist(found: Sequence[Anatomy]) -> str:
    steps = (f"{ranks(a.run.world_size)}, {a.kind}, {format_seconds(a.step_s)}" for a in found)
    shares = sorted(a.backward_s / a.step_s for a in found)
    between_ = f"{shares[0]:.0%}" if f"{shares[0]:.0%}" == f"{shares[-1]:.0%}" else f"{shares[0]:.0%} to {shares[-1]:.0%}"
    return f"A step: {'; '.join(steps)}. Backward takes {between_} of it."


def _cost_of_tracing(slowdowns: Sequence[Slowdown | None]) -> Iterator[str]:
    """Yield what tracing cost the runs that traced enough steps to tell."""
    ratios = [f"{slowdown.ratio:.2f}" for slowdown in slowdowns if slowdown is not None]
    if ratios:
        span = f"{min(ratios)} to {max(ratios)}" if min(ratios) != max(ratios) else ratios[0]
        yield f"Steps under the profiler took {span} times as long as those that count; no figure of this section holds them."


def _wire_pictures(material: Material, curves: Sequence[WireCurve]) -> tuple[Picture, ...]:
    samples = ", ".join(f"{curve.num_samples} samples on {ranks(curve.world_size)}" for curve in curves)
    caption = f"In-place all-reduce. Points are medians, bands the 10th to the 90th percentile; {samples}."
    sources = raw_files([run for run in select(material.runs, kind="bench") if run.world_size > 1])
    best = "; ".join(f"{ranks(c.world_size)} reach {format_rate(max(c.bus_bandwidth(c.median_s)))}" for c in curves)
    least = "; ".join(f"{ranks(c.world_size)} need {format_seconds(min(c.median_s))} at least" for c in curves)
    return (
        Picture(
            name="bandwidth",
            title="Bus bandwidth over message size",
            draw=partial(bandwidth_figure, curves),
            alt=f"Bus bandwidth over message size, both logarithmic. {best}.",
            caption=f"{caption} Bus bandwidth is 2(N-1)/N times size over time.{_on_ceiling(curves)}",
            sources=sources,
        ),
        Picture(
            name="latency",
            title="Time of one all-reduce over message size",
            draw=partial(latency_figure, curves),
            alt=f"Time of an all-reduce over message size, both logarithmic. {least}.",
            caption=caption,
            sources=sources,
        ),
    )


def _on_ceiling(curves: Sequence[WireCurve]) -> str:
    known = [c for c in curves if c.ceiling is not None and c.ceiling.busbw_bytes_per_s is not None]
    return " Dotted: the busiest link is full." if known else " What the links could carry at best is not known."


def _ceiling_table(curves: Sequence[WireCurve]) -> Table:
    """Return the best bandwidth beside what the links could carry, or why that is not known."""
    rows = []
    for curve in curves:
        assert curve.ceiling is not None
        best, size = max(zip(curve.bus_bandwidth(curve.median_s), curve.message_bytes, strict=True))
        ceiling = curve.ceiling.busbw_bytes_per_s
        share = ("-", "-") if ceiling is None else (format_rate(ceiling), f"{best / ceiling:.0%}")
        rows.append((str(curve.world_size), format_rate(best), format_bytes(size), *share, curve.ceiling.reason))
    return Table(
        title="What the links could carry",
        note="The ceiling is the bus bandwidth at which the busiest link is full in one direction, before protocol overhead.",
        head=("Ranks", "Best busbw", "At", "Ceiling", "Reached", "Why"),
        rows=tuple(rows),
        words=frozenset({5}),
        folded=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """The gradients of a step on several nodes of several ranks, and where a ring takes them; `sources` of a training's."""

    world_size: int
    num_nodes: int
    gradient_bytes: int
    traffic: RingTraffic
    sources: tuple[str, ...]


def _sent(material: Material) -> list[_Sent]:
    """Return what trainings sent, then what is predicted of numbers of ranks that none had."""
    found = []
    for run in select(material.runs, kind="train", synchronised=True):
        nodes = run.num_nodes or 1
        if run.gradients is not None and run.gradients.buckets and 1 < nodes < run.world_size:
            sent_bytes = sum(bucket.num_bytes for bucket in run.gradients.buckets)
            moved = ring_traffic(run.info.ranks, nodes, sent_bytes)
            found.append(_told(run.world_size, nodes, sent_bytes, moved, raw_files([run])))
    return found + [own for own in _predicted(material) if own.world_size not in {each.world_size for each in found}]


def _predicted(material: Material) -> Iterator[_Sent]:
    """Yield the traffic of predicted steps, on nodes of as many ranks as the benches over nodes had."""
    wide = [cost for cost in material.costs.values() if 1 < (cost.num_nodes or 1) < cost.world_size]
    if material.predicted is None or not wide:
        return
    benched = max(wide, key=lambda cost: cost.world_size)
    per_node = benched.world_size // (benched.num_nodes or 1)
    for step in material.predicted.schedules:
        nodes, spare = divmod(step.world_size, per_node)
        if nodes > 1 and not spare:
            sent_bytes = sum(bucket.num_bytes for bucket in step.buckets)
            moved = even_traffic(step.world_size, nodes, benched.ring_crossings, sent_bytes)
            yield _told(step.world_size, nodes, sent_bytes, moved, (material.predictions_file,))


def _told(world_size: int, num_nodes: int, sent_bytes: int, traffic: RingTraffic, sources: tuple[str, ...]) -> _Sent:
    return _Sent(world_size=world_size, num_nodes=num_nodes, gradient_bytes=sent_bytes, traffic=traffic, sources=sources)


def _traffic_picture(sent: Sequence[_Sent]) -> Iterator[Picture]:
    """Yield the way of the gradients on the most ranks."""
    if not sent:
        return
    own = max(sent, key=lambda each: (each.world_size, each.num_nodes))
    on = f"{ranks(own.world_size)} on {own.num_nodes} nodes"
    inside, line, switch = map(format_bytes, map(round, _moved(own.traffic)))
    yield Picture(
        name="traffic",
        title=f"Where the gradients of a step go, {on}",
        draw=partial(traffic_figure, own.traffic, own.num_nodes),
        alt=f"A ring over {on} takes {format_bytes(own.gradient_bytes)} of gradients: {inside} move inside a node, {line} "
        f"leave each node over its line, {switch} pass the switch.",
        caption="Of the node that moves most. A line is as wide as what it carries.",
        sources=own.sources,
    )


def _moved(traffic: RingTraffic) -> tuple[float, float, float]:
    return traffic.inside_bytes, traffic.line_bytes, traffic.switch_bytes


def _traffic_table(sent: Sequence[_Sent]) -> Iterator[Table]:
    """Yield where the gradients of a step go, where several ranks are on each of several nodes."""
    rows = [
        (
            *(str(own.world_size), str(own.num_nodes)),
            *(format_bytes(round(size)) for size in (own.gradient_bytes, *_moved(own.traffic))),
        )
        for own in sent
    ]
    if rows:
        yield Table(
            title="Where the gradients of a step go",
            note="A ring over all ranks in their order moves them so: each hop carries 2(N-1)/N of the gradients, and those "
            "that leave a node share its line. So does gloo; NCCL may run others, and shares them among a node's interfaces.",
            head=("Ranks", "Nodes", "Gradients", "Inside a node", "Out of each node", "Through the switch"),
            rows=tuple(dict.fromkeys(rows)),
            words=frozenset(),
        )


def _fit_table(costs: Sequence[CostModel]) -> Table:
    return Table(
        title="Fit: time = latency + size / bandwidth",
        note="Fitted on relative error to the medians. Ranges are 95 % intervals, by bootstrap over the samples; one sample a "
        "size gives none. At the half-bandwidth size latency and transfer weigh the same. Predictions use the measured "
        "medians, not the line.",
        head=FIT_HEAD,
        rows=tuple(fit_row(cost) for cost in costs),
        words=frozenset({7}),
    )


def fit_row(cost: CostModel) -> tuple[Cell, ...]:
    """Return one world size's row under FIT_HEAD."""
    latency, bandwidth = cost.latency_interval_s, cost.bandwidth_interval
    seconds, rate = format_seconds(cost.latency_s), format_rate(cost.bandwidth_bytes_per_s)
    estimates = (
        Noted(value=seconds, note=between(latency.low, latency.high, format_seconds)),
        Noted(value=rate, note=between(bandwidth.low, bandwidth.high, format_rate)),
    )
    return (
        str(cost.world_size),
        *((seconds, rate) if cost.single_samples else estimates),
        format_rate(cost.busbw_bytes_per_s),
        format_bytes(cost.half_bandwidth_bytes),
        f"{cost.line_error:.0%}",
        str(cost.num_samples),
        cost.verdict,
    )


def _anatomy_table(found: Sequence[Anatomy], slowdowns: Sequence[Slowdown | None]) -> Table:
    rows = []
    for a, slowdown in zip(found, slowdowns, strict=True):
        parts = (a.data_s, a.forward_s, a.backward_s, a.optimizer_s, a.other_s, a.step_s, a.run.median_step_s())
        run = Noted(value=a.run.path.name, note=f"{ranks(a.run.world_size)}, {a.kind}")
        rows.append((run, *map(format_seconds, parts), str(a.num_steps), _traced_step(slowdown)))
    head = ("Run", "Data", "Forward", "Backward", "Optimizer", "Other", "Sum", "Median step", "Steps", "Traced step")
    return Table(title="Phases in numbers", head=head, rows=tuple(rows), words=frozenset({0}), folded=True)


def _traced_step(slowdown: Slowdown | None) -> Cell:
    if slowdown is None:
        return "-"
    return Noted(value=format_seconds(slowdown.traced_s), note=f"{slowdown.ratio - 1:+.1%}, {slowdown.num_traced} steps")
