"""Runs -> one self-contained HTML file, the verdict first, and verification.json: every prediction beside its measurement."""

from collections.abc import Sequence
from pathlib import Path

from analysis.experiment import Cell
from analysis.plots import ranks
from analysis.report_data import Material, anatomies, cell_material, checked_too_early, gather, wire_curves
from analysis.report_measured import anatomy_section, wire_section
from analysis.report_origin import environment_section, file_section, warnings
from analysis.report_page import Headline, Report, Section, render
from analysis.report_predicted import (
    bucket_section,
    change_section,
    overhead_picture,
    overhead_table,
    prediction_section,
    proof,
)
from analysis.report_what_if import what_if_section
from analysis.results import CheckedPrediction, Prediction
from analysis.verdict import verdict
from commbench.rundir import now_utc, write_document, write_text
from commbench.units import format_bytes, format_rate, format_seconds


def write_report(paths: Sequence[Path], out: Path | None) -> Path:
    """Report on these runs, a study's folder standing for its runs, and return the page's path.

    The page goes to `out`, by default to analysis/report.html in the first folder; verification.json goes to that analysis/
    whenever a prediction has been checked. Raises BadInput where a folder is no run or the runs cannot be combined.
    """
    return _write(gather(paths), paths[0] / "analysis", out)


def write_cell_report(root: Path, cell: Cell, folder: Path) -> Path:
    """Report on one cell of the study at `root` in a folder of its own and return the page's path."""
    if folder == root / "analysis":
        return write_report([root], None)
    return _write(cell_material(cell.runs, folder), folder, None)


def _write(material: Material, derived: Path, out: Path | None) -> Path:
    page = out if out is not None else derived / "report.html"
    if material.outcomes:
        write_document(derived / "verification.json", verification(material))
    write_text(page, render(build_report(material, page)))
    return page


def build_report(material: Material, page: Path) -> Report:
    """Put the sections that the data allow in the order in which people ask."""
    predicted = material.predicted
    sections: list[Section | None] = [
        wire_section(material),
        anatomy_section(
            material,
            (overhead_picture(material, predicted),) if predicted else (),
            (overhead_table(material, predicted),) if predicted else (),
        ),
        bucket_section(material),
        _trace_section(material),
        prediction_section(material, predicted) if predicted else None,
        change_section(predicted) if predicted else None,
        what_if_section(material, predicted) if predicted else None,
        environment_section(material),
        file_section(material, page),
    ]
    return Report(
        title=material.root.resolve().name,
        subtitle=_subtitle(material),
        headline=_headline(material),
        sentences=_sentences(material),
        warnings=warnings(material),
        pictures=proof(material, predicted) if predicted else (),
        sections=tuple(section for section in sections if section is not None),
        written_at=now_utc(),
    )


def _trace_section(material: Material) -> Section | None:
    """Return what traces say; runs without any do not pay for the modules that read them."""
    if not any(run.traced for run in material.runs):
        return None
    from analysis.report_traces import trace_section

    return trace_section(material)


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


def _subtitle(material: Material) -> str:
    work = next((run.info.workload for run in material.runs if run.info.workload is not None), None)
    words = [f"{', '.join(str(n) for n in sorted({run.world_size for run in material.runs}))} ranks"]
    if work is not None:
        words = [work.experiment, f"{work.num_parameters:,} parameters", f"{work.samples_per_rank} samples per rank", *words]
    backends = sorted({run.info.backend for run in material.runs if run.world_size > 1})
    return ", ".join([*words, *backends])


def _sentences(material: Material) -> tuple[str, ...]:
    if material.predicted is not None:
        return tuple(verdict(material.predicted, material.schedule_outcomes, material.runs))
    return ("There is no prediction: it takes a finished training run on one rank and a bench of the wire.",)


def _headline(material: Material) -> Headline | None:
    """Answer with the largest world size that has cores enough; without a prediction, with what was measured."""
    if material.predicted is None:
        return _measured_headline(material)
    candidates = [p for p in material.predicted.predictions if p.model == "schedule"]
    roomy = [p for p in candidates if p.world_size not in material.shared]
    best = max(roomy or candidates, key=lambda p: p.world_size)
    check = next((o for o in material.schedule_outcomes if o.prediction == best), None)
    if check is None:
        meaning = f"the samples per second of one rank, predicted on {ranks(best.world_size)}"
        return Headline(number=f"{best.speedup:.2f}x", meaning=meaning, detail=f"No run has checked it yet. {_span(best)}")
    late = {run.info.run_id for run in checked_too_early(material)}
    when = "Computed afterwards" if check.run_id in late else "Predicted before the run"
    return Headline(
        number=f"{check.measured_speedup:.2f}x",
        meaning=f"the samples per second of one rank, measured on {ranks(best.world_size)}",
        detail=f"{when}: {best.speedup:.2f}x. {_span(best)}",
    )


def _span(prediction: Prediction) -> str:
    if prediction.interval_s is None:
        return ""
    low, high = (prediction.speedup * prediction.step_s / s for s in (prediction.interval_s.high, prediction.interval_s.low))
    return f"95 % interval of the prediction: {low:.2f}x to {high:.2f}x."


def _measured_headline(material: Material) -> Headline | None:
    found = anatomies(material.runs)
    if found:
        run = found[-1].run
        meaning = f"per step on {ranks(run.world_size)}, measured"
        return Headline(
            number=format_seconds(run.median_step_s()), meaning=meaning, detail=f"Median of {found[-1].num_steps} steps."
        )
    curves = wire_curves(material)
    if not curves:
        return None
    curve = curves[-1]
    rate, size = max(zip(curve.bus_bandwidth(curve.median_s), curve.message_bytes, strict=True))
    return Headline(
        number=format_rate(rate),
        meaning=f"bus bandwidth on {ranks(curve.world_size)}, measured",
        detail=f"Best median of the sweep, at {format_bytes(size)}.",
    )
