"""What a report says of training: loss, accuracy, throughput, memory, and how much of the devices' peak was used.

samples/s = samples of one step on all ranks / median step; tokens/s counts padding, which is computed too. Model FLOP
utilisation is the model's own arithmetic over the peak of all devices, known for GPUs in the trainer's list only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import mean

from commprof.analysis.report.figures.learning import MAX_RUNS, Points, curve_figure, thinned
from commprof.analysis.report.numbers.data import Material, samples_per_s
from commprof.analysis.report.numbers.titles import ranks
from commprof.analysis.report.page.html import Cell, Noted, Picture, Section, Table, between
from commprof.analysis.runs.load import Run, select
from commprof.commbench.records.rundir import read_document, read_records
from commprof.commbench.records.training import EvaluationMeasurement, TrainingSummary
from commprof.commbench.units import format_bytes

_NOT_KNOWN = "-"
_MOST_POINTS = 120
_LEAST_STEPS = 2
_FLAT = 0.02  # of the first loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One training run with what it learned; `losses` are means over ranks by step, warm-up included."""

    run: Run
    losses: Points
    evaluations: tuple[EvaluationMeasurement, ...]
    summary: TrainingSummary | None

    @property
    def name(self) -> str:
        return self.run.path.name

    @property
    def key(self) -> str:
        """The run's place in a legend, which shows no text from a file."""
        return ranks(self.run.world_size)


def training_section(material: Material) -> Section | None:
    """Return what the training runs learned and how fast; None without a run whose gradients counted for all ranks."""
    found = trainings(material.runs)
    if not found:
        return None
    return Section(
        name="training",
        title="The training itself",
        folded=material.predicted is not None,
        sentences=(
            _gist(found),
            "How fast the samples went through, and what the model made of them. Compute-only runs are left out: their ranks "
            "do not share what they learn.",
        ),
        pictures=tuple(_pictures(found)),
        tables=(_table(found),),
    )


def _gist(found: Sequence[Training]) -> str:
    rates = "; ".join(f"{one.key} {per_second(samples_per_s(one.run)[0])}" for one in found if one.run.counted_steps())
    learned = [one for one in found if one.losses]
    loss = f" Loss {learned[-1].losses[0][1]:.3f} to {learned[-1].losses[-1][1]:.3f} in {learned[-1].name}." if learned else ""
    return f"Samples per second: {rates or 'none counted'}.{loss}"


def trainings(runs: Sequence[Run]) -> list[Training]:
    """Return the training runs that learned together, longest first among equals; raise BadInput for malformed files."""
    return [_training(run) for run in select(runs, kind="train", synchronised=True)]


def _training(run: Run) -> Training:
    by_step: dict[int, list[float]] = {}
    for measured in (step for steps in run.steps.values() for step in steps):
        if measured.loss is not None:
            by_step.setdefault(measured.step, []).append(measured.loss)
    evaluations, summary = run.path / "evaluations.jsonl", run.path / "training.json"
    known = read_document(summary, TrainingSummary) if summary.exists() else None
    return Training(
        run=run,
        losses=[(step, mean(losses)) for step, losses in sorted(by_step.items())],
        evaluations=tuple(read_records(evaluations, EvaluationMeasurement)) if evaluations.exists() else (),
        summary=known,
    )


def _pictures(found: Sequence[Training]) -> Iterator[Picture]:
    learned = [one for one in found if len(one.losses) >= _LEAST_STEPS]
    if learned:
        yield _loss_picture(learned)
    tested = [one for one in found if len(one.evaluations) > 1]  # a single value is told by the table
    if tested:
        yield _accuracy_picture(tested)


def _loss_picture(learned: Sequence[Training]) -> Picture:
    shown = sorted(learned, key=lambda one: -len(one.losses))[:MAX_RUNS]
    flat = all(abs(loss / one.losses[0][1] - 1) < _FLAT for one in shown for _, loss in one.losses if one.losses[0][1])
    ends = "; ".join(f"{one.name}: {one.losses[0][1]:.3f} to {one.losses[-1][1]:.3f}" for one in shown)
    counted = ", ".join(f"{one.name} {len(one.losses)} steps" for one in shown)
    return Picture(
        name="loss",
        title="Training loss over steps",
        draw=partial(
            curve_figure,
            {key: thinned(one.losses, _MOST_POINTS) for key, one in _keyed(shown).items()},
            "loss (nats)",
            marked=False,
        ),
        alt=f"Training loss against optimizer steps. First and last: {ends}.",
        caption=f"Cross-entropy, mean over ranks and over at most {_MOST_POINTS} stretches of steps. {_told(shown, learned)} "
        f"Samples: {counted}.",
        sources=tuple(f"{one.name}/steps.rank*.jsonl" for one in shown),
        instead=f"The loss hardly moves: {ends}." if flat else "",
    )


def _accuracy_picture(tested: Sequence[Training]) -> Picture:
    shown = sorted(tested, key=lambda one: -len(one.evaluations))[:MAX_RUNS]
    best = "; ".join(f"{one.name}: {one.evaluations[-1].accuracy:.4f} at the end" for one in shown)
    counted = ", ".join(f"{one.name} {one.evaluations[-1].num_samples} samples" for one in shown)
    return Picture(
        name="accuracy",
        title="Accuracy on held-out data",
        draw=partial(
            curve_figure,
            {key: [(e.step, e.accuracy) for e in one.evaluations] for key, one in _keyed(shown).items()},
            "accuracy (share of samples)",
            marked=True,
        ),
        alt=f"Accuracy against optimizer steps. {best}.",
        caption=f"Every held-out sample counted once over all ranks. {_told(shown, tested)} Evaluated on: {counted}.",
        sources=tuple(f"{one.name}/evaluations.jsonl" for one in shown),
    )


def _keyed(shown: Sequence[Training]) -> dict[str, Training]:
    """Name the runs for a legend by their ranks, numbered where several have as many."""
    keys = [one.key for one in shown]
    return {
        key if keys.count(key) == 1 else f"{key}, {keys[:place].count(key) + 1}": one
        for place, (key, one) in enumerate(zip(keys, shown, strict=True))
    }


def _told(shown: Sequence[Training], known: Sequence[Training]) -> str:
    lines = "; ".join(f"{key}: {one.name}" for key, one in _keyed(shown).items())
    return f"Lines: {lines}." + (f" {len(known) - len(shown)} shorter runs are not drawn." if len(known) > len(shown) else "")


def _table(found: Sequence[Training]) -> Table:
    return Table(
        title="Throughput, memory and what was learned",
        note="Samples and tokens per second from the median step of all ranks, below them their 95 % interval. "
        "Loss: the last. Utilisation: the model's own arithmetic over the devices' peak. From steps.rank*.jsonl, training.json "
        "and evaluations.jsonl.",
        head=(
            "Run",
            "Ranks",
            "Steps",
            "Samples/s",
            "Tokens/s",
            "Memory, most on a rank",
            "Utilisation",
            "Last loss",
            "Accuracy",
        ),
        rows=tuple((one.name, str(one.run.world_size), *_throughput(one), *_learned(one)) for one in found),
        words=frozenset({0}),
    )


def _throughput(one: Training) -> tuple[Cell, ...]:
    work = one.run.info.workload
    rate, spread = samples_per_s(one.run)
    tokens = work.sequence_length if work is not None else None
    rates = tuple(
        _NOT_KNOWN
        if each is None
        else Noted(value=per_second(each * rate), note=between(each * spread.low, each * spread.high, per_second))
        for each in (1, tokens)
    )
    return str(len(one.run.counted_steps())), *rates, _memory(one.summary), _utilisation(one.summary)


def per_second(value: float) -> str:
    """Write a rate of samples or tokens."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _memory(summary: TrainingSummary | None) -> str:
    if summary is None or not summary.peak_memory_bytes:
        return _NOT_KNOWN
    return f"{format_bytes(max(summary.peak_memory_bytes))} {summary.memory_kind}"


def _utilisation(summary: TrainingSummary | None) -> str:
    share = summary.model_flop_utilisation if summary is not None else None
    return _NOT_KNOWN if share is None else f"{share:.1%}"


def _learned(one: Training) -> tuple[Cell, Cell]:
    loss = f"{one.losses[-1][1]:.3f}" if one.losses else _NOT_KNOWN
    if not one.evaluations:
        return loss, _NOT_KNOWN
    last = one.evaluations[-1]
    return loss, Noted(value=f"{last.accuracy:.4f}", note=f"{last.num_samples} samples")
