"""What came of the foreign programs: the step in both ways of recording, and as foretold. Results in, text out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramResult:
    """`pairs`: median steps {"record": seconds, "explicit": seconds}; `checked` is None where that is still to be run."""

    name: str
    skipped: str
    num_changed_lines: int
    pairs: Sequence[Mapping[str, float]]
    checked: Mapping[str, Any] | None


def results_text(results: Sequence[ProgramResult], machine: str) -> str:
    """Return the whole page of results; `machine` says where they were measured."""
    return "\n".join([*_head(machine), *_recorded(results), *_foretold(results), *_said(results)]) + "\n"


def _head(machine: str) -> Iterator[str]:
    yield from ("# Eight foreign programs", "", machine)
    yield "- one thread a rank; a step is the median of those that count, 25 to 35 a run (make benchmark-foreign-programs)"
    yield "- two ranks: the testbed's hosts at 1 Gbit/s; each prediction was on disk before the run that checked it"


def _recorded(results: Sequence[ProgramResult]) -> Iterator[str]:
    yield from ("", "## One rank, recorded in two ways, in turns", "")
    yield "| program | lines for record | for explicit | record | explicit | record over explicit, median (range) | pairs |"
    yield "|---|---|---|---|---|---|---|"
    for result in results:
        yield f"| {result.name} | 0 | {result.num_changed_lines} | {' | '.join(_pair_cells(result))} |"
    ratios = [median(_ratios(result)) for result in results if result.pairs]
    if ratios:
        largest = max(ratios, key=lambda ratio: abs(ratio - 1))
        yield from ("", f"Of {len(ratios)} programs: median difference {median(ratios) - 1:+.1%}, largest {largest - 1:+.1%}.")


def _pair_cells(result: ProgramResult) -> Iterator[str]:
    if not result.pairs:
        yield from (f"skipped: {result.skipped}" if result.skipped else "not run yet", "-", "-", "0")
        return
    for arm in ("record", "explicit"):
        yield f"{1e3 * median(pair[arm] for pair in result.pairs):.1f} ms"
    ratios = _ratios(result)
    yield f"{median(ratios) - 1:+.1%} ({min(ratios) - 1:+.1%} to {max(ratios) - 1:+.1%})"
    yield str(len(ratios))


def _ratios(result: ProgramResult) -> list[float]:
    return [pair["record"] / pair["explicit"] for pair in result.pairs]


def _foretold(results: Sequence[ProgramResult]) -> Iterator[str]:
    yield from ("", "## Two ranks, foretold from one", "")
    yield "| program | kind | gradients | one rank | foretold (90 %) | measured | error | in 90 % |"
    yield "|---|---|---|---|---|---|---|---|"
    for result in results:
        yield f"| {result.name} | {' | '.join(_checked_cells(result))} |"
    checked = [result.checked for result in results if result.checked is not None]
    if checked:
        errors = [abs(own["predicted"]["step_s"] / own["measured_s"] - 1) for own in checked]
        found = [own for own in map(_is_inside, checked) if own is not None]
        yield from ("", f"Median error {median(errors):.1%}, largest {max(errors):.1%}; {sum(found)} of {len(found)} in 90 %.")


def _checked_cells(result: ProgramResult) -> Iterator[str]:
    own = result.checked
    if own is None:
        yield from (f"skipped: {result.skipped}" if result.skipped else "not run yet", *("-" for _ in range(6)))
        return
    predicted = own["predicted"]
    span = "no interval" if predicted["low_s"] is None else f"{1e3 * predicted['low_s']:.0f} to {1e3 * predicted['high_s']:.0f}"
    yield own["kind"]
    yield f"{own['gradient_bytes'] / 1e6:.1f} MB"
    yield f"{1e3 * own['single_s']:.0f} ms"
    yield f"{1e3 * predicted['step_s']:.0f} ms ({span})"
    yield f"{1e3 * own['measured_s']:.0f} ms"
    yield f"{predicted['step_s'] / own['measured_s'] - 1:+.1%}"
    yield {True: "yes", False: "no", None: "-"}[_is_inside(own)]


def _is_inside(own: Mapping[str, Any]) -> bool | None:
    """Say whether the measured step is in the interval; None where the machine was too disturbed for one."""
    low_s, high_s = own["predicted"]["low_s"], own["predicted"]["high_s"]
    return None if low_s is None else bool(low_s <= own["measured_s"] <= high_s)


def _said(results: Sequence[ProgramResult]) -> Iterator[str]:
    yield from ("", "## What could not be seen, as record says it", "")
    for result in results:
        if result.checked is not None:
            told = sorted({line for lines in result.checked["unseen"] for line in lines})
            yield f"- {result.name}: {'; '.join(told) or 'nothing was missed'}"
