"""What does a line of a table of throughputs say? Its cells, checked one by one, by the columns that its header has."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from commprof.analysis.scaling.columns.header import Columns
from commprof.analysis.scaling.columns.measures import Meaning, is_per_rank, meaning_of, plain, seconds_in
from commprof.analysis.scaling.columns.numbers import Number, decimal_comma, number_of
from commprof.analysis.scaling.series import Measure
from commprof.commbench.errors import BadInput
from commprof.commbench.records.quantities import MAX_RANKS
from commprof.commbench.units import printable

_SHOWN = 60  # characters of a cell
_NODES = re.compile(r"(?P<nodes>[0-9]+) ?(?:nodes?|hosts?)", re.IGNORECASE)
_TIMES = re.compile(r"(?P<first>[0-9]{1,6}) ?[x\u00d7*] ?(?P<second>[0-9]{1,3})(?: ?[a-z][a-z0-9 ]*)?", re.IGNORECASE)  # 2x8
_CARDS = re.compile(r"(?<=[0-9])(?: ?(?:x ?)?(?:gpus?|ranks?|[a-z]{1,3}[0-9]{2,4}\b.*)| ?\(.*\))$", re.IGNORECASE)  # 16 A100


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One measurement; `kind` is what the table calls it, with its unit; `batch` that of all ranks, None where not told."""

    ranks: int
    kind: str
    measure: Measure
    value: float
    interconnect: str
    ranks_per_node: int | None
    nodes: int | None = None
    batch: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How a table writes its values and ranks, told from a whole column: a decimal comma; nodes and ranks of each in `2x8`."""

    comma_is_decimal: bool = False
    pairs: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def habits_of(rows: Sequence[Mapping[str, str]], separator: str, line: int) -> Habits:
    """Return how a table's rows are written; raise BadInput where its commas may be decimal or of thousands."""
    comma = decimal_comma((row["value"] for row in rows), separator)
    if comma is None:
        raise BadInput(f"line {line}: a comma may be decimal or of thousands in {_some(rows)}; write numbers without it")
    pairs = {row["ranks"]: found for row in rows if (found := _TIMES.fullmatch(row.get("ranks", "")))}
    for nodes, side in (("first", "second"), ("second", "first")):  # 1x8, 2x8 are nodes of 8, and so are 8x1, 8x2
        if len({found[side] for found in pairs.values() if found[nodes] != "1"}) == 1:
            sizes = {cell: (int(found[nodes]), int(found[side])) for cell, found in pairs.items()}
            return Habits(comma_is_decimal=comma, pairs=sizes)
    return Habits(comma_is_decimal=comma)


def _some(rows: Sequence[Mapping[str, str]]) -> str:
    return repr(printable(next(row["value"] for row in rows if "," in row["value"]))[:_SHOWN])


def line_of(cells: Mapping[str, str], columns: Columns, habits: Habits, line: int) -> Line:
    """Return what the cells of a line say, by column; raise BadInput naming the line and the mend."""
    nodes, per_node = (_whole(cells[name], line, name) if cells.get(name) else None for name in ("nodes", "gpus_per_node"))
    if pair := habits.pairs.get(cells.get("ranks", "")):
        nodes, per_node = pair
    ranks = _ranks(cells, nodes, per_node, line)
    kind, measure, value = _measured(cells, columns, habits, line)
    if ranks > 1 and cells["value"] == cells.get("of_one_rank"):
        raise BadInput(f"line {line}: {cells['value'][:_SHOWN]} of {ranks} ranks and of one; keep the column that is right")
    if nodes is not None and (ranks < nodes or (per_node and ranks > nodes * per_node)):
        size = f" of {per_node}" if per_node else ""
        raise BadInput(f"line {line}: {ranks} ranks on {nodes} nodes{size}; give the nodes that they ran on")
    if per_node is None and nodes is not None and nodes > 1:
        per_node = -(-ranks // nodes)
    return Line(
        ranks=ranks, kind=kind, measure=measure, value=value, interconnect=cells.get("interconnect", ""),
        ranks_per_node=per_node, nodes=nodes, batch=_batch(cells, ranks),
    )  # fmt: skip


def machine_of(cells: Mapping[str, str]) -> str:
    """Return what a line's machine is called; without a name two are one where card and interconnect are, "" with neither."""
    if named := cells.get("machine", ""):
        return named
    return f"{cells['gpu']} {cells.get('interconnect', '')}".strip() if cells.get("gpu") else ""


def _ranks(cells: Mapping[str, str], nodes: int | None, per_node: int | None, line: int) -> int:
    cell = cells.get("ranks")
    if cell is None:
        if nodes is None or per_node is None:
            raise BadInput(f"line {line}: nodes {cells['nodes'][:_SHOWN]!r} of {cells['gpus_per_node'][:_SHOWN]!r}; give both")
        return _whole(str(nodes * per_node), line, "ranks")
    if pair := _TIMES.fullmatch(cell):
        return _whole(str(int(pair["first"]) * int(pair["second"])), line, "ranks")
    if _NODES.fullmatch(cell):
        raise BadInput(f"line {line}: {cell[:_SHOWN]!r} names nodes, not ranks; name the column nodes and add gpus_per_node")
    return _whole(_CARDS.sub("", cell) if len(cell) <= _SHOWN else cell, line, "ranks")


def _measured(cells: Mapping[str, str], columns: Columns, habits: Habits, line: int) -> tuple[str, Measure, float]:
    unit, name = cells.get("unit", ""), columns.measured_name or cells.get("metric", "")
    number = _positive(cells["value"], habits, line, plain(name)[0].replace(" ", "_") if columns.measured else "value")
    meaning = columns.measured or _metric(name, unit, line)
    unit = " ".join(each for each in (unit, number.unit) if each)
    factor = 1.0
    if meaning.factor is None:
        told = seconds_in(unit.split(" ")[0])
        if told is None:
            raise BadInput(f"line {line}: a time without its unit; name the column step_s or step_ms")
        factor = told
    elif meaning.measure == "step_s" and not meaning.inverse and number.unit:
        raise BadInput(f"line {line}: {cells['value'][:_SHOWN]!r} and a unit in the header; keep one")
    measure: Measure = "throughput_per_rank" if meaning.measure == "throughput" and is_per_rank(unit) else meaning.measure
    value = meaning.value(number.value, factor)
    if measure == "mfu" and value > 100:
        raise BadInput(f"line {line}: MFU of {value:g} is over 100 %; is it a throughput?")
    return f"{name.lower().replace(' ', '_')} {unit}".strip(), measure, value


def _metric(name: str, unit: str, line: int) -> Meaning:
    meaning, told = meaning_of(name), unit.split(" ")[0]
    if isinstance(meaning, Meaning) and meaning.factor is None and told:
        meaning = meaning_of(f"{name} ({told})")
    if isinstance(meaning, Meaning):
        return meaning
    kind = f"{name.lower().replace(' ', '_')} {unit}".strip()
    raise BadInput(
        f"line {line}: metric {printable(kind)[:_SHOWN]!r} is not known; use step_time in s or ms, throughput or mfu"
    )


def _batch(cells: Mapping[str, str], ranks: int) -> float | None:
    """Return the batch of all ranks, None where no column tells it or its cell is no number."""
    told = number_of(cells.get("batch", ""), False)
    if told is not None:
        return told.value
    told = number_of(cells.get("batch_per_rank", ""), False)
    return None if told is None else told.value * ranks


def _whole(cell: str, line: int, name: str) -> int:
    cell = cell.removesuffix(".0")  # a number of ranks beside a gap was a float to whatever wrote the table
    bare = re.sub(r"(?<=[0-9])[, ](?=[0-9]{3}$)", "", cell)
    if not bare.isascii() or not bare.isdigit() or len(bare) > 6 or not 1 <= int(bare) <= MAX_RANKS:
        raise BadInput(f"line {line}: {name} {cell[:_SHOWN]!r} is no whole number from 1 to {MAX_RANKS}")
    return int(bare)


def _positive(cell: str, habits: Habits, line: int, name: str) -> Number:
    number = number_of(cell, habits.comma_is_decimal)
    if number is None or not 1e-30 < number.value < 1e30:
        shown = printable(cell)[:_SHOWN]
        raise BadInput(f"line {line}: {name[:_SHOWN]} {shown!r} is no number above 0; leave out rows that were not measured")
    return number
