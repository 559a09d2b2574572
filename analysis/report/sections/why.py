"""What a report shows of why N ranks are not N times as fast: speedup, the waterfall, the parts of each step."""

from collections.abc import Iterator
from functools import partial

from commprof.analysis.report.figures import predictions as plots
from commprof.analysis.report.figures.waterfall import waterfall_figure
from commprof.analysis.report.numbers.data import Material, count_steps, raw_files
from commprof.analysis.report.numbers.decided import spoken_of
from commprof.analysis.report.numbers.titles import ranks
from commprof.analysis.report.numbers.verdict import Outcome
from commprof.analysis.report.numbers.waterfall import waterfall
from commprof.analysis.report.page.html import Picture, Table
from commprof.analysis.step.closing import closing
from commprof.analysis.step.results import Prediction, PredictionSet
from commprof.commbench.units import format_seconds

_NOT_KNOWN = "-"


def proof(material: Material, predicted: PredictionSet) -> tuple[Picture, ...]:
    """Return the pictures under the verdict: predicted beside measured, and what keeps it from N times."""
    return (_speedup_picture(material, predicted), *_waterfall_picture(material, predicted))


def _speedup_picture(material: Material, predicted: PredictionSet) -> Picture:
    checks = material.schedule_outcomes
    return Picture(
        name="speedup",
        title="Speedup: samples per second over one rank's",
        draw=partial(plots.speedup_figure, predicted, checks, material.shared),
        alt=f"Speedup against ranks. {_all_spoken(predicted, checks)}.",
        caption=_scaling_caption(material),
        sources=(*raw_files([*material.known, *material.checking]), material.predictions_file),
    )


def _waterfall_picture(material: Material, predicted: PredictionSet) -> Iterator[Picture]:
    """Yield why the number of ranks that the report speaks of is not that many times as fast."""
    n = spoken_of(material, predicted)
    overhead = next((own for own in predicted.overheads if own.world_size == n), None)
    if overhead is None:
        return
    check = next((outcome for outcome in material.schedule_outcomes if outcome.prediction.world_size == n), None)
    own = waterfall(overhead, check)
    used = [run for run in [*material.known, *material.checking] if run.info.kind == "train"]
    yield Picture(
        name="waterfall",
        title=f"Why not {n} times",
        draw=partial(waterfall_figure, own),
        alt=f"From {n} times one rank to {own.speedup:.2f} times, {own.end}: {own.words}.",
        caption=f"What makes a step longer than {format_seconds(own.linear_s)}, which {n} times would take, in brackets the "
        f"interval. From {count_steps(used)}.",
        sources=(*raw_files([*material.known, *material.checking]), material.predictions_file),
    )


def step_picture(material: Material, predicted: PredictionSet) -> Picture:
    """Return the seconds of a step over ranks, predicted beside measured."""
    checks = material.schedule_outcomes
    one_rank = format_seconds(predicted.single_step_s)
    return Picture(
        name="step-time",
        title=f"Step time at a fixed batch {'per rank' if predicted.scaling == 'weak' else 'in all'}",
        draw=partial(plots.step_figure, predicted, checks, material.shared),
        alt=f"Step time against ranks. One rank: {one_rank}; {_all_spoken(predicted, checks)}.",
        caption=_scaling_caption(material),
        sources=(*raw_files([*material.known, *material.checking]), material.predictions_file),
        instead="The figure of speedups above shows the same; seconds stand in the table.",
    )


def _scaling_caption(material: Material) -> str:
    caption = "Bars: the interval; thin lines: the simple models. "
    if material.schedule_outcomes:
        caption += f"Measured: median of {count_steps(material.checking)}. "
    return caption + ("Shaded: ranks ask for more threads than there are cores." if material.shared else "")


def _all_spoken(predicted: PredictionSet, checks: list[Outcome]) -> str:
    return "; ".join(_spoken(p, checks) for p in predicted.predictions if p.model == "schedule")


def overhead_picture(material: Material, predicted: PredictionSet) -> Picture:
    """Return what the prediction adds to one rank's step, part by part."""
    said = "; ".join(
        f"{ranks(o.world_size)}: slower computation {format_seconds(o.compute_s)}, waiting {format_seconds(o.waiting_s)}, "
        f"copies {format_seconds(o.copies_s)}, exposed communication {format_seconds(o.exposed_s)}"
        for o in predicted.overheads
    )
    training = [run for run in material.known if run.info.kind == "train"]
    measured = f" Diamonds: median of {count_steps(material.checking)}." if material.outcomes else ""
    return Picture(
        name="overhead",
        title="Why a step on N ranks takes longer than on one",
        draw=partial(plots.overhead_figure, predicted.overheads, material.schedule_outcomes),
        alt=f"Parts added to one rank's step. {said}.",
        caption=f"Predicted from {count_steps(training)}.{measured}",
        sources=(*raw_files([*material.known, *material.checking]), material.predictions_file),
    )


def overhead_table(material: Material, predicted: PredictionSet) -> Table:
    """Return the parts of each predicted step, whose sum it is."""
    steps_s = {outcome.prediction.world_size: outcome.measured_step_s for outcome in material.schedule_outcomes}
    rows = []
    for o in predicted.overheads:
        parts, total = closing((o.single_step_s, o.compute_s, o.waiting_s, o.copies_s, o.exposed_s))
        measured = format_seconds(steps_s[o.world_size]) if o.world_size in steps_s else _NOT_KNOWN
        rows.append((str(o.world_size), *(f"{part} {total.split()[1]}" for part in parts), total, measured))
    return Table(
        title="Why a step takes longer, in numbers",
        head=(
            "Ranks",
            "One rank's step",
            "Slower computation",
            "Waiting",
            "Copies",
            "Exposed",
            "Predicted step",
            "Measured step",
        ),
        rows=tuple(rows),
        words=frozenset(),
        folded=True,
    )


def _spoken(prediction: Prediction, checks: list[Outcome]) -> str:
    check = next((outcome for outcome in checks if outcome.prediction == prediction), None)
    text = f"{ranks(prediction.world_size)}: predicted {format_seconds(prediction.step_s)}, {prediction.speedup:.2f}x"
    return text + (f", measured {format_seconds(check.measured_step_s)}, {check.measured_speedup:.2f}x" if check else "")
