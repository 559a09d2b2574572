"""What came of the foreign grid: errors, coverage and width of intervals, beside the simple models. Cells in, text out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, quantiles
from typing import Any, Self

_EXPOSED = 0.1  # of the measured step: less says little of communication
_BATCHES = {"accumulate": 2.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class WayResult:
    """One way's prediction of a cell, seconds; without an interval the machine was too disturbed to predict.

    `savings`: what other modes would save a batch, and the ends of the 90 % interval.
    """

    step_s: float
    low_s: float | None
    high_s: float | None
    exposed_s: float
    ring_s: float
    amdahl_s: float
    assumptions: tuple[str, ...]
    savings: dict[str, tuple[float, float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """A cell, what was predicted of it and what it took."""

    model: str
    hosts: int
    rate: str
    mode: str
    disturbed: bool
    repeat: int
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


def results_text(results: Sequence[CellResult], num_cells: int, halves: Mapping[str, Sequence[str]], machine: str) -> str:
    """Return the whole page of results; `machine` says where they were measured."""
    stated = "; ".join(f"{name}: {', '.join(models)}" for name, models in halves.items())
    head = [
        "# Predictions on foreign loops",
        "",
        machine,
        f"- {len(results)} of {num_cells} checks (make benchmark-foreign-grid), each predicted on disk before it was run",
        f"- the halves of the loops that may be fitted on in turn, stated before: {stated}",
    ]
    return "\n".join([*head, *_sections(results, halves), *_savings(results)]) + "\n"


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


def _savings(results: Sequence[CellResult]) -> Iterator[str]:
    """Yield what each change saved a batch over the plain cell of the same repeat, from which its saving was foretold."""
    yield from ("", "## What a change saves a batch", "")
    yield "| model | hosts | change | neighbour | predicted | 90 % interval | measured | inside |"
    yield "|---|---|---|---|---|---|---|---|"
    plain = {_place(cell): cell for cell in results if cell.mode == "plain" and "compute" in cell.ways}
    for cell in results:
        before = plain.get(_place(cell))
        if before is None or cell.mode not in before.ways["compute"].savings:
            continue
        saved_s, low_s, high_s = before.ways["compute"].savings[cell.mode]
        measured_s = before.measured_s - cell.measured_s / _BATCHES.get(cell.mode, 1.0)
        place = f"| {cell.model} | {cell.hosts} | {cell.mode} | {'yes' if cell.disturbed else 'no'}"
        predicted = f"{saved_s * 1e3:+.0f} ms | {low_s * 1e3:+.0f} to {high_s * 1e3:+.0f} ms"
        yield f"{place} | {predicted} | {measured_s * 1e3:+.0f} ms | {'yes' if low_s <= measured_s <= high_s else 'no'} |"


def _place(cell: CellResult) -> tuple[object, ...]:
    return cell.model, cell.hosts, cell.rate, cell.disturbed, cell.repeat
