"""Cells of the sharded grid: what was predicted of each round, and how far off that was."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from commprof.analysis.strategies.results import StrategyAnswer
from commprof.commbench.units import format_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    model: str
    hosts: int
    rate: str
    mode: str
    held_out: bool

    @property
    def name(self) -> str:
        return f"{self.model}-{self.mode}-n{self.hosts}-{self.rate}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What was on disk before the check: the answer from ranks side by side that sent nothing, and from one rank."""

    side_by_side: StrategyAnswer
    one_rank: StrategyAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A round of a cell."""

    cell: Cell
    number: int
    expected: Expected
    measured_s: float

    def error(self, answer: StrategyAnswer) -> float:
        assert answer.step_s is not None
        return answer.step_s / self.measured_s - 1

    @property
    def inside(self) -> bool | None:
        """Whether the interval holds the measured step; None where the machine was too disturbed for one."""
        span = self.expected.side_by_side.interval_s
        return None if span is None else span.low <= self.measured_s <= span.high


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a row a round of a cell."""
    yield "| model | hosts | wire | mode | predicted | 90 % interval | measured | error | from one rank | held out |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        cell, own = row.cell, row.expected.side_by_side
        assert own.step_s is not None
        ends = own.interval_s
        span = "none" if ends is None else f"{format_seconds(ends.low)} to {format_seconds(ends.high)}"
        yield (
            f"| {cell.model} | {cell.hosts} | {cell.rate} | {cell.mode} | {format_seconds(own.step_s)} | {span} | "
            f"{format_seconds(row.measured_s)} | {row.error(own):+.1%} | {row.error(row.expected.one_rank):+.1%} | "
            f"{'yes' if cell.held_out else 'no'} |"
        )


def summary(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the errors of sharded cells, all and held out, how often intervals held, and how often the fastest was named."""
    sharded = [row for row in rows if row.cell.mode != "ddp"]
    for name, some in (("all", sharded), ("held out", [row for row in sharded if row.cell.held_out])):
        own = by_cell(some)
        if len(own) > 1:
            inside = [row.inside for row in some if row.inside is not None]
            told = [median(row.error(row.expected.side_by_side) for row in each) for each in own]
            yield f"- {name}, {len(own)} cells: side by side {_errors(told)}"
            yield f"  from one rank {_errors([median(row.error(row.expected.one_rank) for row in each) for each in own])}"
            yield f"  intervals hold {sum(inside)} of {len(inside)}, {len(some) - len(inside)} have none"
    groups: dict[tuple[str, int, str], list[list[Row]]] = {}
    for rounds in by_cell([row for row in rows if row.cell.mode not in ("no-prefetch", "accumulation")]):
        cell = rounds[0].cell
        groups.setdefault((cell.model, cell.hosts, cell.rate), []).append(rounds)
    compared = [group for group in groups.values() if len(group) > 1]
    named = sum(min(group, key=_predicted_s) is min(group, key=_measured_s) for group in compared)
    yield f"- the fastest strategy was predicted to be the fastest in {named} of {len(compared)} groups"


def by_cell(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rounds of each cell."""
    found: dict[Cell, list[Row]] = {}
    for row in rows:
        found.setdefault(row.cell, []).append(row)
    return list(found.values())


def _predicted_s(rounds: Sequence[Row]) -> float:
    return median(row.expected.side_by_side.step_s or float("inf") for row in rounds)


def _measured_s(rounds: Sequence[Row]) -> float:
    return median(row.measured_s for row in rounds)


def _errors(errors: Sequence[float]) -> str:
    tenths = quantiles(map(abs, errors), n=10, method="inclusive")
    return f"median {tenths[4]:.1%}, 90th percentile {tenths[8]:.1%}, worst {max(errors, key=abs):+.1%}"
