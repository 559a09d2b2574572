"""What sides have to say to each other: set-up, steps and wires, side by side. Ratios are over A, the side named first."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from commprof.analysis.report.figures import predictions as plots
from commprof.analysis.report.figures.costs import bandwidth_figure, latency_figure
from commprof.analysis.report.numbers.data import anatomies, raw_files, samples_per_s
from commprof.analysis.report.numbers.titles import ranks
from commprof.analysis.report.numbers.wire_curves import WireCurve
from commprof.analysis.report.page.html import Cell, Noted, Picture, Section, Table, between
from commprof.analysis.report.sections.measured import FIT_HEAD, fit_row
from commprof.analysis.report.sections.origin import file_link
from commprof.analysis.report.sections.training import per_second
from commprof.analysis.report.sides.sides import Side, common_sizes, differences, ratio, shared_curves
from commprof.analysis.runs.load import Run, select
from commprof.commbench.units import format_bytes, format_rate, format_seconds

_MOST_CURVES = 6
_NOT_KNOWN = "-"


def setup_section(sides: Sequence[Side], page: Path) -> Section:
    """Return the facts in which the sides differ, and folded those that they share."""
    apart, shared = differences(sides)
    letters = tuple(side.letter for side in sides)
    words = frozenset(range(len(sides) + 1))
    places = tuple(file_link(side.path / "run.json", page, side.name) for side in sides)
    return Section(
        name="setup",
        title="What differs",
        tables=(
            Table(
                title="Set-up in which they differ",
                note="Several values of one side are those of its runs. The names lead to each one's run.json.",
                head=("What", *letters),
                rows=(("Run or study", *places), *((name, *texts) for name, texts in apart.items())),
                words=words,
            ),
            Table(
                title=f"{len(shared)} facts that they share",
                head=("What", "Value"),
                rows=tuple((name, texts[0]) for name, texts in shared.items()),
                words=frozenset({0, 1}),
                folded=True,
            ),
        ),
    )


def step_section(sides: Sequence[Side]) -> Section | None:
    """Return the phases and the median steps of all sides, each over A's; None where nobody trained."""
    found = [(side, anatomy) for side in sides for anatomy in anatomies(side.material.runs)]
    if not found:
        return None
    parts = [anatomy for _, anatomy in found]
    picture = Picture(
        name="anatomy",
        title="Phases of a step",
        draw=partial(plots.anatomy_figure, parts, [f"{side.letter}, {ranks(a.run.world_size)}" for side, a in found]),
        alt="Phases of a step. "
        + "; ".join(f"{side.letter}, {ranks(a.run.world_size)} {a.kind}: {format_seconds(a.step_s)}" for side, a in found),
        caption="Mean over the middle half of the steps by length, so that the parts add up. Steps of all ranks: "
        f"{', '.join(f'{side.letter} {a.run.path.name} {a.num_steps}' for side, a in found)}.",
        sources=tuple(f"{side.letter}: {name}" for side, a in found for name in raw_files([a.run])),
    )
    return Section(name="step", title="Step against step", pictures=(picture,), tables=(_step_table(sides),))


def _step_table(sides: Sequence[Side]) -> Table:
    base = {(run.world_size, run.synchronised): run for run in _trained(sides[0])}
    rows = [_step_row(side, run, base.get((run.world_size, run.synchronised))) for side in sides for run in _trained(side)]
    return Table(
        title="Steps in numbers",
        note="Medians over the steps of all ranks, and below them their 95 % intervals. Over A: samples per second over those "
        "of A's run of as many ranks, and how far the two medians' intervals let that be.",
        head=("Side", "Run", "Ranks", "Kind", "Median step", "Steps", "Samples/s", "Over A"),
        rows=tuple(rows),
        words=frozenset({0, 1, 3}),
    )


def _trained(side: Side) -> list[Run]:
    return select(side.material.runs, kind="train")


def _step_row(side: Side, run: Run, base: Run | None) -> tuple[Cell, ...]:
    spread, rate = run.step_interval_s(), samples_per_s(run)
    over = ratio(rate, samples_per_s(base)) if base is not None and base is not run else None
    return (
        side.letter,
        run.path.name,
        str(run.world_size),
        "synchronised" if run.synchronised else "compute only",
        Noted(value=format_seconds(run.median_step_s()), note=between(spread.low, spread.high, format_seconds)),
        str(len(run.counted_steps())),
        Noted(value=per_second(rate[0]), note=between(rate[1].low, rate[1].high, per_second)),
        _NOT_KNOWN
        if over is None
        else Noted(value=f"{over.value:.2f}x", note=f"{over.interval.low:.2f}x to {over.interval.high:.2f}x"),
    )


def wire_section(sides: Sequence[Side]) -> Section | None:
    """Return the curves and fits of all sides, and where sizes are shared each time over A's; None where nobody benched."""
    found = [(side, curve) for side in sides for curve in side.curves]
    if not found:
        return None
    fits = [(side.letter, *fit_row(curve.cost)) for side, curve in found if curve.cost is not None]
    tables = (
        Table(
            title="Fit: time = latency + size / bandwidth",
            note="Ranges are 95 % intervals, by bootstrap over the samples; one sample a size gives none.",
            head=("Side", *FIT_HEAD),
            rows=tuple(fits),
            words=frozenset({0, 8}),
        ),
        *(_size_table(sides, n, curves) for n, curves in shared_curves(sides)),
    )
    return Section(
        name="wire",
        title="Wire against wire",
        sentences=(
            "In-place all-reduces; times are the fastest rank's, which waited for nobody; over several nodes the slowest's.",
        ),
        pictures=tuple(_wire_pictures(found)),
        tables=tuple(table for table in tables if table.rows),
    )


def _wire_pictures(found: Sequence[tuple[Side, WireCurve]]) -> Iterator[Picture]:
    shown = found[:_MOST_CURVES]
    names, curves = [f"{side.letter}, {ranks(curve.world_size)}" for side, curve in shown], [curve for _, curve in shown]
    samples = ", ".join(f"{name} {curve.num_samples} samples" for name, curve in zip(names, curves, strict=True))
    more = f" {len(found) - len(shown)} more curves are in the tables." if len(found) > len(shown) else ""
    caption = f"Points are medians, bands the 10th to the 90th percentile; {samples}.{more}"
    benches = {side.letter: select(side.material.runs, kind="bench") for side, _ in shown}
    sources = tuple(f"{letter}: {name}" for letter, runs in benches.items() for name in raw_files(runs))
    best = "; ".join(f"{name} {format_rate(max(c.bus_bandwidth(c.median_s)))}" for name, c in zip(names, curves, strict=True))
    yield Picture(
        name="bandwidth",
        title="Bus bandwidth over message size",
        draw=partial(bandwidth_figure, curves, names),
        alt=f"Bus bandwidth over message size, both logarithmic. At best: {best}.",
        caption=caption,
        sources=sources,
    )
    least = "; ".join(f"{name} {format_seconds(min(c.median_s))}" for name, c in zip(names, curves, strict=True))
    yield Picture(
        name="latency",
        title="Time of one all-reduce over message size",
        draw=partial(latency_figure, curves, names),
        alt=f"Time of an all-reduce over message size, both logarithmic. At least: {least}.",
        caption=caption,
        sources=sources,
    )


def _size_table(sides: Sequence[Side], world_size: int, curves: Sequence[WireCurve]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for size in common_sizes(curves):
        places = [curve.message_bytes.index(size) for curve in curves]
        times_s = [curve.median_s[place] for curve, place in zip(curves, places, strict=True)]
        spreads = (
            between(curve.low_s[place], curve.high_s[place], format_seconds)
            for curve, place in zip(curves, places, strict=True)
        )
        cells = (Noted(value=format_seconds(t), note=spread) for t, spread in zip(times_s, spreads, strict=True))
        rows.append((format_bytes(size), *cells, *(f"{t / times_s[0]:.2f}x" for t in times_s[1:])))
    return Table(
        title=f"Times on {ranks(world_size)}, size by size",
        note="Medians, and below them the 10th to the 90th percentile of the samples. Over A: above 1 is slower.",
        head=("Size", *(side.letter for side in sides), *(f"{side.letter} over A" for side in sides[1:])),
        rows=tuple(rows),
        words=frozenset(),
        folded=True,
    )
