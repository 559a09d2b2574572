"""What a report says of predictions: beside the measurements, bucket by bucket, law by law, and what to change."""

from collections.abc import Iterator, Sequence
from functools import partial

from commprof.analysis.report.figures import predictions as plots
from commprof.analysis.report.figures.predictions import MODELS
from commprof.analysis.report.numbers.data import Material, count_steps, raw_files
from commprof.analysis.report.numbers.decided import decision_of
from commprof.analysis.report.numbers.titles import ranks
from commprof.analysis.report.numbers.verdict import laws
from commprof.analysis.report.page.html import Cell, Noted, Picture, Section, Table, between
from commprof.analysis.report.sections.assumptions import assumption_table
from commprof.analysis.report.sections.why import step_picture
from commprof.analysis.runs.load import Run, select
from commprof.analysis.step.language import MAY_SEEM_TO_LOSE
from commprof.analysis.step.results import Change, PredictionSet, ScheduledStep
from commprof.commbench.records.training import GradientTimeline
from commprof.commbench.units import format_bytes, format_seconds

_NOT_KNOWN = "-"
_CHANGE_HEAD = ("Ranks", "Change", "Saved per batch (90 %)", "Speedup with it", "Besides")
_MARKS = ("Ready", "Sent", "Landed")
_SLIVER = 0.02  # of the backward pass
_FEW_SIZES = 2  # numbers of ranks, whose errors stand in a table as well


def bucket_section(material: Material) -> Section | None:
    """Return the predicted and the measured schedule of every world size that has either."""
    steps = {step.world_size: step for step in material.predicted.schedules} if material.predicted else {}
    runs = {run.world_size: run for run in select(material.runs, kind="train", synchronised=True) if _has_buckets(run)}
    world_sizes = sorted(n for n in {*steps, *runs} if n > 1)
    if not world_sizes:
        return None
    timelines = {n: run.gradients for n, run in runs.items()}
    return Section(
        name="buckets",
        title="Gradient buckets",
        folded=material.predicted is not None,
        sentences=(
            _bucket_gist(steps, runs, world_sizes),
            "DDP sends gradients in buckets while backward still computes. A bucket is ready when its last gradient is "
            "(tick), waits for its turn (thin line), then travels (bar). Backward ends when the last bucket has landed.",
        ),
        pictures=tuple(_bucket_picture(n, steps.get(n), runs.get(n), material.predictions_file) for n in world_sizes),
        tables=tuple(_bucket_table(n, steps.get(n), timelines.get(n)) for n in world_sizes),
        remarks=tuple(_bucket_mismatches(steps, timelines)),
    )


def _bucket_gist(steps: dict[int, ScheduledStep], runs: dict[int, Run], world_sizes: Sequence[int]) -> str:
    """Say of each number of ranks how many buckets there are and when the last one lands after the last gradient."""
    told = []
    for n in world_sizes:
        timeline, step = runs[n].gradients if n in runs else None, steps.get(n)
        if timeline is not None:
            sizes = [bucket.num_bytes for bucket in timeline.buckets]
            late_s = timeline.buckets[-1].done_s - max(parameter.ready_s for parameter in timeline.parameters)
        else:
            assert step is not None, "a number of ranks has either"
            sizes = [bucket.num_bytes for bucket in step.buckets]
            late_s = step.buckets[-1].done_s - step.compute_end_s
        buckets = f"{len(sizes)} bucket{'s'[: len(sizes) > 1]} of up to {format_bytes(max(sizes))}"
        how = "measured" if timeline is not None else "predicted"
        told.append(f"{ranks(n)}: {buckets}, the last landed {format_seconds(max(0.0, late_s))} after the last gradient, {how}")
    return f"{'; '.join(told)}."


def prediction_section(material: Material, predicted: PredictionSet, answers: tuple[str, ...] = ()) -> Section:
    """Return every model beside the measurement, the assumptions, and what the laws make of it.

    `answers` say of each world size what was predicted and measured, and which assumption failed.
    """
    assumed = [
        f"Assumed for {ranks(p.world_size)}: {'; '.join(p.assumptions)}."
        for p in predicted.predictions
        if p.model == "schedule" and p.assumptions
    ]
    return Section(
        name="prediction",
        title="Predicted beside measured",
        folded=True,
        sentences=(
            _error_gist(material),
            *answers,
            f"One rank takes T_1 = {format_seconds(predicted.single_step_s)} per step. The simple models stand beside the "
            "bucket schedule so that what it adds, if anything, can be seen.",
        ),
        pictures=(step_picture(material, predicted), *((_error_picture(material),) if material.outcomes else ())),
        tables=(
            _model_table(material, predicted),
            *((assumption_table(material.checks),) if material.checks else ()),
            _formula_table(predicted),
            _law_table(material, predicted),
        ),
        remarks=(*assumed, *(f"Karp-Flatt, {laws(outcome)}" for outcome in material.schedule_outcomes)),
    )


def _error_gist(material: Material) -> str:
    off = [f"{ranks(o.prediction.world_size)} {o.relative_error:+.1%}" for o in material.schedule_outcomes]
    return f"The predicted step beside the measured: {', '.join(off)}." if off else "No run has checked these predictions yet."


def change_section(predicted: PredictionSet) -> Section:
    """Return what the simulator says would help."""
    if not predicted.changes:
        return Section(
            name="changes",
            title="What to try",
            sentences=("Nothing simulated surely saves more than 1 % of the step.",),
            folded=True,
        )
    return Section(
        name="changes",
        title="What to try",
        sentences=(
            "Each change went through the same simulator as the prediction. None of them has been run. Speedups are over one "
            "rank with the same change, which may gain from it as well: more is saved than the speedup shows.",
            *([f"{MAY_SEEM_TO_LOSE.capitalize()}."] if any(own.within_noise for own in predicted.changes) else []),
        ),
        tables=tuple(_change_tables(predicted.changes)),
    )


def _change_tables(changes: Sequence[Change]) -> Iterator[Table]:
    told = [change for change in changes if not change.doubt]
    for title, own in (
        ("Predicted gains, best first", [change for change in told if not change.alters_learning]),
        ("What changes the updates, and so what is learnt", [change for change in told if change.alters_learning]),
        ("Within noise: not told from no saving", [change for change in changes if change.within_noise]),
        ("Too disturbed: what is saved cannot be told", [change for change in changes if change.too_disturbed]),
    ):
        if own:
            rows, first = tuple(map(_change_row, own)), title.startswith("Predicted")
            yield Table(title=title, head=_CHANGE_HEAD, rows=rows, words=frozenset({1, 4}), folded=not first)


def _change_row(change: Change) -> tuple[Cell, ...]:
    span = change.interval_s
    seconds = format_seconds(change.seconds_saved)
    return (
        str(change.world_size),
        Noted(value=f"{change.what} ({change.doubt})" if change.doubt else change.what, note=change.setting),
        Noted(value=seconds, note=between(span.low, span.high, format_seconds)) if span else seconds,
        f"{change.speedup:.2f}x",
        change.side_effect or _NOT_KNOWN,
    )


def _has_buckets(run: Run) -> bool:
    return run.gradients is not None and bool(run.gradients.buckets)


def _bucket_picture(world_size: int, step: ScheduledStep | None, run: Run | None, predictions_file: str) -> Picture:
    timeline = run.gradients if run is not None else None
    captions, spoken, sources = [], [], []
    if step is not None:
        captions.append("Predicted: the simulated step nearest the median (1 step), its slowest rank.")
        spoken.append(f"predicted {format_seconds(step.step_s - step.backward_start_s)}")
        sources.append(predictions_file)
    if run is not None and timeline is not None:
        captions.append(f"Measured: medians over {timeline.num_steps} steps of rank {timeline.rank}.")
        spoken.append(f"measured {format_seconds(timeline.backward_s)}")
        sources.append(f"{run.path.name}/gradients.json")
    return Picture(
        name=f"buckets-{world_size}",
        title=ranks(world_size),
        draw=partial(plots.bucket_figure, step, timeline),
        alt=f"Buckets on the backward pass of {ranks(world_size)}. Backward with its communication: {', '.join(spoken)}.",
        caption=" ".join(captions),
        sources=tuple(sources),
        instead=_slivers(world_size, step, timeline),
    )


def _slivers(world_size: int, step: ScheduledStep | None, timeline: GradientTimeline | None) -> str:
    """Return what to say of buckets that travel too shortly to be seen, nothing of others."""
    kinds = []
    if step is not None:
        spans = [bucket.done_s - bucket.start_s for bucket in step.buckets]
        kinds.append(("predicted", max(spans, default=0.0), step.step_s - step.backward_start_s))
    if timeline is not None and timeline.buckets:
        kinds.append(("measured", max(b.done_s - b.launched_s for b in timeline.buckets), timeline.backward_s))
    if any(longest_s > _SLIVER * whole_s for _, longest_s, whole_s in kinds):
        return ""
    told = " and ".join(f"{format_seconds(s)} of {format_seconds(whole)}, {how}" for how, s, whole in kinds)
    return f"{ranks(world_size)}: the longest bucket is on the wire for {told}: too short for a picture."


def _bucket_table(world_size: int, step: ScheduledStep | None, timeline: GradientTimeline | None) -> Table:
    planned = step.buckets if step else ()
    seen = timeline.buckets if timeline else ()
    zero_s = step.backward_start_s if step else 0.0
    rows = []
    for index in range(max(len(planned), len(seen))):
        size, last, times = 0, _NOT_KNOWN, [_NOT_KNOWN] * 6
        if index < len(seen):
            bucket = seen[index]
            size = bucket.num_bytes
            times[3:] = map(format_seconds, (bucket.ready_s, bucket.launched_s, bucket.done_s))
        if index < len(planned):
            plan = planned[index]
            size, last = plan.num_bytes, plan.last_parameter
            times[:3] = (format_seconds(s - zero_s) for s in (plan.ready_s, plan.start_s, plan.done_s))
        rows.append((str(index + 1), format_bytes(size), last, *times))
    return Table(
        title=f"Buckets of {ranks(world_size)} in numbers, after backward began",
        head=("Bucket", "Size", "Last gradient", *(f"{w}, {k}" for k in ("predicted", "measured") for w in _MARKS)),
        rows=tuple(rows),
        words=frozenset({2}),
        folded=True,
    )


def _bucket_mismatches(steps: dict[int, ScheduledStep], timelines: dict[int, GradientTimeline | None]) -> Iterator[str]:
    for n, step in steps.items():
        timeline = timelines.get(n)
        planned = [bucket.num_bytes for bucket in step.buckets]
        if timeline is not None and planned != [bucket.num_bytes for bucket in timeline.buckets]:
            yield (
                f"On {ranks(n)} DDP made {len(timeline.buckets)} buckets where the schedule has {len(planned)}, or of other "
                "sizes: compare them with care."
            )


def _error_picture(material: Material) -> Picture:
    checked = "; ".join(
        f"{MODELS[o.prediction.model]} on {ranks(o.prediction.world_size)} {o.relative_error:+.1%}" for o in material.outcomes
    )
    return Picture(
        name="errors",
        title="How far each model is off",
        draw=partial(plots.error_figure, material.outcomes),
        alt=f"Relative error of each model. {checked}.",
        caption="Left of zero a model promised a shorter step than was measured. Measured: median of "
        f"{count_steps(material.checking)}.",
        sources=(*raw_files(material.checking), material.predictions_file),
        instead=f"How far each model is off: {checked}."
        if len({o.prediction.world_size for o in material.outcomes}) <= _FEW_SIZES
        else "",
    )


def _model_table(material: Material, predicted: PredictionSet) -> Table:
    checks = {(o.prediction.world_size, o.prediction.model): o for o in material.outcomes}
    rows = []
    for p in predicted.predictions:
        check = checks.get((p.world_size, p.model))
        span = between(p.interval_s.low, p.interval_s.high, format_seconds) if p.interval_s else _NOT_KNOWN
        numbers = (format_seconds(p.step_s), span, f"{p.speedup:.2f}x", f"{p.efficiency:.0%}", format_seconds(p.exposed_s))
        measured = (format_seconds(check.measured_step_s), f"{check.relative_error:+.1%}") if check else (_NOT_KNOWN,) * 2
        rows.append((str(p.world_size), MODELS[p.model], *numbers, *measured))
    return Table(
        title="Every model at every world size",
        note="Exposed: the part of communication that nothing hides. Error: (predicted - measured) / measured.",
        head=("Ranks", "Model", "Step", "90 % interval", "Speedup", "Efficiency", "Exposed", "Measured step", "Error"),
        rows=tuple(rows),
        words=frozenset({1}),
    )


def _formula_table(predicted: PredictionSet) -> Table:
    formulas = dict.fromkeys((p.model, p.formula) for p in predicted.predictions)
    return Table(
        title="The models",
        note="alpha: latency of one message; B: bandwidth of a link; S: bytes of a bucket; f: communication over T_1 at the "
        "smallest benched world size, per further rank.",
        head=("Model", "Step on N ranks"),
        rows=tuple((MODELS[model], formula) for model, formula in formulas),
        words=frozenset({0, 1}),
        folded=True,
    )


def _law_table(material: Material, predicted: PredictionSet) -> Table:
    measured_s = {o.prediction.world_size: o.measured_step_s for o in material.schedule_outcomes}
    predicted_s = {p.world_size: p.step_s for p in predicted.predictions if p.model == "schedule"}
    rows, worth = [], decision_of(material).words
    for law in predicted.break_evens:
        n = law.world_size
        step_s = measured_s.get(n, predicted_s[n])
        times = (format_seconds(seconds) for seconds in (law.work_s, law.compute_s, law.comm_s))
        step = f"{format_seconds(step_s)} {'measured' if n in measured_s else 'predicted'}"
        ratios = (f"{law.ratio:.3g}", f"{law.ratio_needed:.3g}")
        rows.append((str(n), *times, *ratios, step, worth.get(n, _NOT_KNOWN)))
    return Table(
        title="Break-even",
        note="W: one rank alone for the samples of one step of N ranks. T_comm: all buckets sent one by one. R = W / T_comm; "
        "with nothing hidden N ranks pay if R > 1 / (1 - T_compute/W), which is N/(N-1) where they compute undisturbed. With "
        "overlap they pay if T_N < W. Worth having: surely faster than fewer ranks, as in the verdict.",
        head=("Ranks", "W", "T_compute", "T_comm", "R", "R needed", "T_N", "Worth having"),
        rows=tuple(rows),
        words=frozenset({7}),
    )
