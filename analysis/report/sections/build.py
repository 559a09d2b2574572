"""Runs -> one self-contained HTML file, the verdict first, and verification.json: every prediction beside its measurement."""

from collections.abc import Sequence
from pathlib import Path

from commprof.analysis.advice.results import Budget
from commprof.analysis.report.figures.canvas import styled
from commprof.analysis.report.numbers.data import Material, cell_material, gather
from commprof.analysis.report.numbers.titles import answer_of, title_of
from commprof.analysis.report.numbers.weakening import warnings
from commprof.analysis.report.page.document import Results
from commprof.analysis.report.page.html import Report, Section, render
from commprof.analysis.report.page.place import default_page, home_of
from commprof.analysis.report.page.written import Written
from commprof.analysis.report.sections.contention import contention_section
from commprof.analysis.report.sections.headline import headline, ranks_table, verdict_sources
from commprof.analysis.report.sections.health import health_section
from commprof.analysis.report.sections.links import link_section
from commprof.analysis.report.sections.measured import anatomy_section, wire_section
from commprof.analysis.report.sections.origin import environment_section, file_section, how_measured, ledger
from commprof.analysis.report.sections.predicted import (
    bucket_section,
    change_section,
    prediction_section,
)
from commprof.analysis.report.sections.six_lines import six_lines
from commprof.analysis.report.sections.strategies import strategy_section
from commprof.analysis.report.sections.training import training_section
from commprof.analysis.report.sections.what_if import what_if_section
from commprof.analysis.report.sections.why import overhead_picture, overhead_table, proof
from commprof.analysis.runs.keeping import kept
from commprof.analysis.step.results import CheckedPrediction
from commprof.analysis.study.experiment import Cell
from commprof.commbench.records.rundir import now_utc, write_document, write_text

PAGE = "report.html"


def write_report(paths: Sequence[Path], out: Path | None, budget: Budget | None = None) -> Written:
    """Report on these runs, a study's folder standing for its runs; `budget` is what was said about money and epochs.

    The page goes to `out`, by default to a study's analysis/ or else to the working directory. A study whose predictions have
    been checked keeps verification.json too. Raises BadInput where a folder is no run or the runs cannot be combined.
    """
    page = out if out is not None else default_page(paths, PAGE)
    return _write(gather(paths, budget), home_of(paths), page)


def write_cell_report(root: Path, cell: Cell, folder: Path, page: Path | None = None) -> Written:
    """Report on one cell of a study, whose `folder` is its own; nothing is kept there where the page lies elsewhere."""
    if folder == root / "analysis":
        return write_report([root], None)
    page = page or folder / PAGE
    return _write(cell_material(cell.runs, folder), folder if page.parent == folder else None, page)


@styled()
def _write(material: Material, home: Path | None, page: Path) -> Written:
    if home is not None and material.outcomes:
        kept(lambda: write_document(home / "verification.json", verification(material)))
    if home is not None and material.checks:
        kept(lambda: write_document(home / "assumptions.json", material.checks))
    report = build_report(material, page)
    write_text(page, render(report))
    return Written(page=page, lines=report.sentences, ledger=ledger(material))


def build_report(material: Material, page: Path) -> Report:
    """Put the sections that the data allow in the order in which people ask."""
    predicted = material.predicted
    sections: list[Section | None] = [
        wire_section(material),
        link_section(material),
        contention_section(material),
        anatomy_section(
            material,
            (overhead_picture(material, predicted),) if predicted else (),
            (overhead_table(material, predicted),) if predicted else (),
        ),
        bucket_section(material),
        strategy_section(material),
        _trace_section(material, page),
        training_section(material),
        prediction_section(material, predicted, tuple(material.answers(predicted).values())) if predicted else None,
        change_section(predicted) if predicted else None,
        what_if_section(material, predicted),
        health_section(material),
        environment_section(material),
        file_section(material, page),
    ]
    answer, sign = answer_of(material)
    warned = warnings(material)
    return Report(
        title=title_of(material),
        subtitle=_subtitle(material),
        answer=answer,
        sign=sign,
        headline=headline(material),
        sentences=six_lines(material, len(warned)).lines,
        sources=verdict_sources(material),
        warnings=warned,
        pictures=proof(material, predicted) if predicted else (),
        sections=tuple(section for section in sections if section is not None),
        written_at=now_utc(),
        summary=ranks_table(material),
        measured=how_measured(material),
    )


def _trace_section(material: Material, page: Path) -> Section | None:
    """Return what traces say; runs without any do not pay for the modules that read them."""
    if not any(run.traced for run in material.runs):
        return None
    from commprof.analysis.report.sections.traces import trace_section

    return trace_section(material, page)


def verification(material: Material) -> tuple[CheckedPrediction, ...]:
    """Return every model's prediction beside the measured median of the run that checks it."""
    return tuple(
        CheckedPrediction(
            world_size=outcome.prediction.world_size,
            model=outcome.prediction.model,
            predicted_step_s=outcome.prediction.step_s,
            measured_step_s=outcome.measured_step_s,
            relative_error=outcome.relative_error,
            run_id=outcome.run_id,
        )
        for outcome in material.outcomes
    )


def results(material: Material, name: str) -> Results:
    """Return the numbers behind a report, for its JSON document."""
    return Results(
        name=name,
        runs=tuple(run.info for run in material.runs),
        fits=tuple(material.costs.values()),
        predictions=material.predicted,
        verification=verification(material),
        assumptions=material.checks,
        strategies=() if material.sharded is None else material.sharded.choices,
    )


def _subtitle(material: Material) -> str:
    work = next((run.info.workload for run in material.runs if run.info.workload is not None), None)
    words = [material.root.resolve().name]
    if work is not None:
        words += [f"{work.num_parameters:,} parameters", f"{work.samples_per_rank} samples per rank and step"]
    backends = sorted({run.info.backend for run in material.runs if run.world_size > 1})
    return ", ".join([*words, *backends])
