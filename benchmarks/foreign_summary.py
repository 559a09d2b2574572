"""What came of the foreign grid: errors, coverage and width of intervals, beside the simple models. Cells in, text out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, quantiles
from typing import Any, Self

_EXPOSED = 0.1  # of the measured step: less says little of communication
_BATCHES = {"accumulate": 2.0}


Savings = dict[str, tuple[float, float, float]]  # of each change: seconds a batch, and the ends of the 90 % interval


@dataclass(frozen=True, slots=True, kw_only=True)
class WayResult:
    """One way's prediction of a cell, seconds; without an interval the machine was too disturbed to predict.

    `savings`: what other modes would save.
    """

    step_s: float
    low_s: float | None
    high_s: float | None
    exposed_s: float
    ring_s: float
    amdahl_s: float
    assumptions: tuple[str, ...]
    savings: Savings


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    model: str
    hosts: int
    rate: str
    mode: str
    disturbed: bool
    repeat: int

    @property
    def name(self) -> str:
        beside = "neighbour" if self.disturbed else "quiet"
        return f"{self.model}-n{self.hosts}-{self.rate}-{self.mode}-{beside}-r{self.repeat}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult(Cell):
    """A cell, what was predicted of it and what it took."""

    single_s: float
    compute_s: float
    measured_s: float
    ways: dict[str, WayResult]

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        return cls(**{**document, "ways": {name: WayResult(**own) for name, own in document["ways"].items()}})

    @property
    def told(self) -> str:
        errors = (f"{name} {own.step_s / self.measured_s - 1:+.1%}" for name, own in self.ways.items())
        return f"measured {self.measured_s * 1e3:.0f} ms, predicted {', '.join(errors)}"


Pick = Callable[[CellResult], bool]


def results_text(
    results: Sequence[CellResult],
    num_cells: int,
    halves: Mapping[str, Sequence[str]],
    machine: str,
    now: Mapping[str, Savings],
) -> str:
    """Return the whole page of results; `machine` says where they were measured.

    `now`: what each plain cell's changes would save by the model as it is now, by the cell's name.
    """
    stated = "; ".join(f"{name}: {', '.join(models)}" for name, models in halves.items())
    head = [
        "# Predictions on foreign loops",
        "",
        machine,
        f"- {len(results)} of {num_cells} checks (make benchmark-foreign-grid), each predicted on disk before it was run",
        f"- the halves of the loops that may be fitted on in turn, stated before: {stated}",
    ]
    return "\n".join([*head, *_sections(results, halves), *_savings(results, now)]) + "\n"


def _sections(results: Sequence[CellResult], halves: Mapping[str, Sequence[str]]) -> Iterator[str]:
    picks: dict[str, Pick] = {"all": lambda cell: True, "quiet": lambda cell: not cell.disturbed}
    picks["beside a neighbour"] = lambda cell: cell.disturbed
    for name, models in halves.items():
        picks[f"half {name}"] = lambda cell, models=models: cell.model in models  # type: ignore[misc]
    for hosts in (2, 4, 8):
        picks[f"{hosts} hosts"] = lambda cell, hosts=hosts: cell.hosts == hosts  # type: ignore[misc]
    for way in ("given", "compute", "carried"):
        yield from ("", f"## From {way}", "")
        yield (
            "| cells | checks | median | p90 | worst | bias | in 90 % | width | too disturbed | exposed: median, bias "
            "| nearer than ring, Amdahl |"
        )
        yield "|---|---|---|---|---|---|---|---|---|---|---|"
        for name, pick in picks.items():
            found = [(cell, cell.ways[way]) for cell in results if way in cell.ways and pick(cell)]
            if len(found) > 1:
                yield f"| {name} | {' | '.join(_row(found))} |"


def _row(found: Sequence[tuple[CellResult, WayResult]]) -> Iterator[str]:
    errors = [own.step_s / cell.measured_s - 1 for cell, own in found]
    spans = [
        (cell.measured_s, own.low_s, own.high_s) for cell, own in found if own.low_s is not None and own.high_s is not None
    ]
    inside = sum(low <= measured_s <= high for measured_s, low, high in spans)
    exposed = [
        own.exposed_s / (cell.measured_s - cell.compute_s) - 1
        for cell, own in found
        if cell.measured_s - cell.compute_s > _EXPOSED * cell.measured_s
    ]
    yield str(len(found))
    yield f"{median(map(abs, errors)):.1%}"
    yield f"{quantiles(map(abs, errors), n=10, method='inclusive')[-1]:.1%}"
    yield f"{max(errors, key=abs):+.1%}"
    yield f"{fmean(errors):+.1%}"
    yield f"{inside} of {len(spans)}" + (f" ({inside / len(spans):.0%})" if spans else "")
    yield f"{median((high - low) / measured_s for measured_s, low, high in spans):.1%}" if spans else "-"
    yield str(len(found) - len(spans))
    yield f"{median(map(abs, exposed)):.1%}, {fmean(exposed):+.1%} ({len(exposed)})" if exposed else "-"
    yield ", ".join(str(_nearer(found, name)) for name in ("ring_s", "amdahl_s"))


def _nearer(found: Sequence[tuple[CellResult, WayResult]], model: str) -> int:
    """Return in how many cells the schedule was nearer than a simple model."""
    return sum(abs(own.step_s - cell.measured_s) < abs(getattr(own, model) - cell.measured_s) for cell, own in found)


def _savings(results: Sequence[CellResult], now: Mapping[str, Savings]) -> Iterator[str]:
    """Yield what each change saved a batch over every plain cell from which its saving was foretold, all repeats of both."""
    rows = [
        _saving(before, cell, now)
        for before in results
        for cell in results
        if _place(before) == _place(cell) and before.mode == "plain" and cell.mode in now.get(before.name, {})
    ]
    yield from ("", "## What a change saves a batch", "")
    for name, disturbed in (("quiet", False), ("beside a neighbour", True)):
        some = [row for row in rows if row.disturbed == disturbed]
        held, held_now = sum(row.held for row in some), sum(row.held_now for row in some)
        yield f"- {name}: {held} of {len(some)} in the intervals that were on disk before, {held_now} in those of the model now"
    yield from ("", "| model | hosts | change | neighbour | predicted | on disk before | the model now | measured |")
    yield "|---|---|---|---|---|---|---|---|"
    yield from (row.text for row in rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Saving:
    disturbed: bool
    held: bool
    held_now: bool
    text: str


def _saving(before: CellResult, cell: CellResult, now: Mapping[str, Savings]) -> _Saving:
    saved_s, low_s, high_s = before.ways["compute"].savings[cell.mode]
    _, now_low_s, now_high_s = now[before.name][cell.mode]
    measured_s = before.measured_s - cell.measured_s / _BATCHES.get(cell.mode, 1.0)
    held, held_now = low_s <= measured_s <= high_s, now_low_s <= measured_s <= now_high_s
    spans = ((low_s, high_s, held), (now_low_s, now_high_s, held_now))
    ends = " | ".join(f"{low * 1e3:+.0f} to {high * 1e3:+.0f} ms{'' if ok else ', missed'}" for low, high, ok in spans)
    place = f"| {cell.model} | {cell.hosts} | {cell.mode} | {'yes' if cell.disturbed else 'no'}"
    text = f"{place} | {saved_s * 1e3:+.0f} ms | {ends} | {measured_s * 1e3:+.0f} ms |"
    return _Saving(disturbed=cell.disturbed, held=held, held_now=held_now, text=text)


def _place(cell: CellResult) -> tuple[object, ...]:
    return cell.model, cell.hosts, cell.rate, cell.disturbed
