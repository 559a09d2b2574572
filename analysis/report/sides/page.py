"""Runs side by side on one page: what differs in set-up first, then step against step and wire against wire.

A is the run or study that was named first; every ratio is over A's. What one side alone has to say follows, side by side.
"""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from commprof.analysis.report.numbers.data import raw_files, samples_per_s
from commprof.analysis.report.numbers.six_lines import SixLines
from commprof.analysis.report.numbers.titles import ranks
from commprof.analysis.report.numbers.weakening import warnings
from commprof.analysis.report.numbers.wire_curves import WireCurve, busbw_at
from commprof.analysis.report.page.html import Headline, Report, Section, render
from commprof.analysis.report.page.place import default_page
from commprof.analysis.report.page.written import Written
from commprof.analysis.report.sections.contention import contention_section
from commprof.analysis.report.sections.health import health_section
from commprof.analysis.report.sections.links import link_section
from commprof.analysis.report.sections.origin import file_section
from commprof.analysis.report.sections.predicted import bucket_section
from commprof.analysis.report.sections.training import per_second, training_section
from commprof.analysis.report.sides.decided import Faster, faster, same_work
from commprof.analysis.report.sides.sections import setup_section, step_section, wire_section
from commprof.analysis.report.sides.sides import (
    Ratio,
    Side,
    common_ranks,
    common_sizes,
    differences,
    ratio,
    shared_curves,
    sides_of,
)
from commprof.analysis.runs.disturbance import disturbance_text
from commprof.commbench.records.rundir import now_utc, write_text
from commprof.commbench.units import format_bytes, format_rate, format_seconds

COMPARISON = "comparison.html"


def write_comparison(paths: Sequence[Path], reason: str, out: Path | None) -> Written:
    """Write the page, by default comparison.html in the working directory."""
    sides = sides_of(paths, reason)
    page = out if out is not None else default_page(paths, COMPARISON)
    report = build_comparison(sides, reason, page)
    write_text(page, render(report))
    return Written(page=page, lines=report.sentences)


def build_comparison(sides: Sequence[Side], reason: str, page: Path) -> Report:
    """Put the page together: what all sides have first, then each side's own sections, lettered."""
    own = (section for side in sides for section in _own_sections(side, page))
    others = disturbance_text([run for side in sides for run in side.material.runs])
    decided = faster(sides, disturbed=others is not None)
    set_up = setup_section(sides, page)
    compared = [section for section in (step_section(sides), wire_section(sides)) if section is not None]
    return Report(
        title=", ".join(f"{side.letter}: {side.name}" for side in sides),
        subtitle=f"{len(sides)} side by side, not pooled: {reason}",
        headline=_headline(sides),
        sentences=_six_lines(sides, reason, decided, others).lines,
        sources=tuple(f"{side.letter}: {file}" for side in sides for file in raw_files(side.material.runs)),
        warnings=tuple(f"{side.letter}: {warning}" for side in sides for warning in warnings(side.material)),
        pictures=(),
        sections=(
            set_up,
            *compared,
            *own,
        ),
        written_at=now_utc(),
        answer=decided.answer,
        sign=decided.sign,
        summary=next((table for section in (*compared, set_up) for table in section.tables), None),
    )


def _headline(sides: Sequence[Side]) -> Headline | None:
    """Answer of two sides with throughput where both have trained on as many ranks, else with their wires."""
    if len(sides) != 2:
        return None
    if common := common_ranks(sides):
        return _step_headline(sides, common[0])
    curves = next(shared_curves(sides), None)
    return _wire_headline(sides, *curves) if curves is not None else None


def _step_headline(sides: Sequence[Side], world_size: int) -> Headline:
    first, second = (side.trainings[world_size] for side in sides)
    found = ratio(samples_per_s(second), samples_per_s(first))
    steps = " and ".join(f"{side.letter} {format_seconds(side.trainings[world_size].median_step_s())}" for side in sides)
    return Headline(
        number=f"{found.value:.2f}x",
        interval=_told(found),
        meaning=f"the samples per second of A, measured for B on {ranks(world_size)}",
        detail=f"Median steps: {steps}." + ("" if same_work([first, second]) else " A sample is not the same work for both."),
    )


def _wire_headline(sides: Sequence[Side], world_size: int, curves: Sequence[WireCurve]) -> Headline:
    size = common_sizes(curves)[-1]
    first, second = (busbw_at(side.material.runs, world_size, size) for side in sides)
    found = ratio(second[:2], first[:2])
    rates = " and ".join(f"{side.letter} {format_rate(rate[0])}" for side, rate in zip(sides, (first, second), strict=True))
    return Headline(
        number=f"{found.value:.2f}x",
        interval=_told(found),
        meaning=f"the bus bandwidth of A, measured for B on {ranks(world_size)} at {format_bytes(size)}",
        detail=f"Medians: {rates}.",
    )


def _told(found: Ratio) -> str:
    return f"{found.interval.low:.2f}x to {found.interval.high:.2f}x, from the ends of both medians' 95 % intervals."


def _six_lines(sides: Sequence[Side], reason: str, decided: Faster, others: str | None) -> SixLines:
    """Say which side is faster, and of what one side alone tells, where it stands; `others` is who disturbed the runs."""
    apart, _ = differences(sides)
    told = [*_steps_told(sides), *_wires_told(sides)]
    warned = sum(len(warnings(side.material)) for side in sides)
    alone = f"is told of one side alone: commprof report {shlex.quote(str(sides[0].path))}"
    return SixLines(
        verdict=f"{decided.sentence} They are not pooled: {reason}. {' '.join(told)}".strip(),
        why=f"They differ in {', '.join(apart)}." if apart else "Nothing that was recorded of their set-up differs.",
        how_sure=(f"{others} " if others is not None else "")
        + "Ratios reach between the ends of both medians' 95 % intervals."
        + (f" Read with care: {warned} {'warning' if warned == 1 else 'warnings'} in the report." if warned else ""),
        cost=f"{alone}.",
        change=f"{alone}.",
        next_command=f"commprof report {shlex.quote(str(sides[0].path))}: side A by itself",
    )


def _steps_told(sides: Sequence[Side]) -> Iterator[str]:
    for n in common_ranks(sides)[:1]:
        told = ", ".join(f"{side.letter} {per_second(samples_per_s(side.trainings[n])[0])}" for side in sides)
        yield f"Step against step on {ranks(n)}, samples per second: {told}."


def _wires_told(sides: Sequence[Side]) -> Iterator[str]:
    for n, curves in list(shared_curves(sides))[:1]:
        size = common_sizes(curves)[-1]
        times = (curve.median_s[curve.message_bytes.index(size)] for curve in curves)
        told = ", ".join(f"{side.letter} {format_seconds(time)}" for side, time in zip(sides, times, strict=True))
        yield f"Wire against wire on {ranks(n)}, an all-reduce of {format_bytes(size)}: {told}."


def _own_sections(side: Side, page: Path) -> Iterator[Section]:
    """Yield what one side has to say beside the comparison, its letter in front of titles and behind names."""
    material = side.material
    found = (
        link_section(material),
        contention_section(material),
        bucket_section(material),
        _trace_section(side, page),
        training_section(material),
        health_section(material),
        file_section(material, page),
    )
    yield from (_lettered(section, side.letter) for section in found if section is not None)


def _trace_section(side: Side, page: Path) -> Section | None:
    """Return what traces say; sides without any do not pay for the modules that read them."""
    if not any(run.traced for run in side.material.runs):
        return None
    from commprof.analysis.report.sections.traces import trace_section

    return trace_section(side.material, page)


def _lettered(section: Section, letter: str) -> Section:
    mark = letter.lower()
    return replace(
        section,
        name=f"{section.name}-{mark}",
        title=f"{letter}: {section.title}",
        pictures=tuple(replace(picture, name=f"{picture.name}-{mark}") for picture in section.pictures),
    )
