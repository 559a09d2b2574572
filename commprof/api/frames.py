"""Records -> DataFrames. A column is a record's field, its unit in its name; what a record derives is a column too.

A field that holds an interval becomes two columns, `low` and `high` in the place of `interval`; tuples become lists. A column's
type follows from its record, whatever rows there are: a table without rows groups and merges like any other.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from commprof.analysis.runs.interval import Interval
from commprof.analysis.runs.load import Run
from commprof.commbench.records.contention import ContentionMeasurement
from commprof.commbench.records.links import LinkMeasurement, PairMeasurement
from commprof.commbench.records.training import BucketTiming, ParameterTiming, StepMeasurement
from commprof.commbench.records.types import CollectiveMeasurement, RunInfo, Workload
from commprof.commbench.units import printable

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Row = dict[str, Any]
Types = Mapping[str, Any]
"""What a column holds, by its name: int, float, bool or str, or one of them or None."""

_INFO = (
    *("run_id", "kind", "status", "world_size", "num_nodes", "num_machines", "backend", "wire", "launcher"),
    *("cores_per_node", "threads_per_rank", "started_at", "ended_at", "failure", "imported_from", "git_commit"),
)
_DERIVED: dict[type, tuple[str, ...]] = {
    StepMeasurement: ("counts",),
    CollectiveMeasurement: ("median_s", "algbw_bytes_per_s", "busbw_bytes_per_s"),
    LinkMeasurement: ("median_s", "bandwidth_bytes_per_s"),
    PairMeasurement: ("median_s", "bandwidth_bytes_per_s"),
    ContentionMeasurement: ("compute_slowdown", "comm_slowdown"),
}


def frame(rows: Iterable[Mapping[str, Any]], types: Types, columns: Sequence[str] | None = None) -> "DataFrame":
    """Return the rows as a table; `columns`, by default those that have a type, are there even without rows.

    Whole numbers and flags keep their kind beside a missing one.
    """
    from pandas import DataFrame

    table = DataFrame.from_records([dict(row) for row in rows], columns=list(columns or types))
    dtypes = {name: _dtype(table[name], hint) for name, hint in types.items() if name in table}
    return table.astype({name: dtype for name, dtype in dtypes.items() if dtype is not None})


def html_table(table: "DataFrame", max_rows: int = 60) -> str:
    """Return a table as a page's element, without columns of lists, which would make a screen of each row."""
    names = [name for name in table if not table[name].map(lambda cell: isinstance(cell, list)).any()]
    texts = [name for name in names if table[name].map(lambda cell: isinstance(cell, str)).any()]
    formatters = {name: lambda cell: printable(cell) if isinstance(cell, str) else "" for name in texts}
    shown = table[names].to_html(index=False, na_rep="", max_rows=max_rows, float_format="{:.4g}".format, formatters=formatters)
    return str(shown)


def types_of(kind: type, derived: Sequence[str] = ()) -> dict[str, Any]:
    """Return what the columns hold that `row_of` makes of such a record."""
    hints = get_type_hints(kind)
    own = {field.name: hints[field.name] for field in fields(kind)}
    own |= {name: get_type_hints(getattr(kind, name).fget)["return"] for name in derived}
    return dict(_flat_types(own))


def _flat_types(types: Types) -> Iterator[tuple[str, Any]]:
    for name, hint in types.items():
        if hint in (Interval, Interval | None):
            yield from dict.fromkeys(_ends(name), float).items()
        else:
            yield name, hint


def _dtype(column: "Series[Any]", hint: object) -> Any:  # noqa: ANN401  pandas takes names and classes of types
    held = _held(hint) - {NoneType}
    if held == {int}:
        return "Int64" if column.isna().any() else "int64"
    if held == {bool}:
        return "boolean" if column.isna().any() else "bool"
    if held == {float}:
        return "float64"
    if held == {str} and column.isna().all():
        return type(column)(["text"]).dtype  # pandas 2 and 3 have different ones
    return None


def _held(hint: object) -> set[object]:
    """Return the classes that a hint allows."""
    if get_origin(hint) is Literal:
        return {type(value) for value in get_args(hint)}
    if get_origin(hint) in (Union, UnionType):
        return {held for own in get_args(hint) for held in _held(own)}
    return {hint}


def row_of(record: object, derived: Sequence[str] = ()) -> Row:
    """Return a record's fields and the properties named, flat."""
    assert is_dataclass(record)
    own = {field.name: getattr(record, field.name) for field in fields(record)}
    return dict(_flat(own | {name: getattr(record, name) for name in derived}))


def _flat(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, Interval):
            yield from zip(_ends(name), (value.low, value.high), strict=True)
        else:
            yield name, [_plain(one) for one in value] if isinstance(value, tuple) else value


def _ends(name: str) -> tuple[str, str]:
    return name.replace("interval", "low"), name.replace("interval", "high")


def _plain(value: object) -> object:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def steps_frame(runs: Iterable[Run]) -> "DataFrame":
    own = (
        {**_whose(run), "rank": rank, **_measured(step)} for run in runs for rank, steps in run.steps.items() for step in steps
    )
    return frame(own, _types(StepMeasurement, rank=int))


def collectives_frame(runs: Iterable[Run]) -> "DataFrame":
    return _records_frame(runs, CollectiveMeasurement, lambda run: run.collectives)


def links_frame(runs: Iterable[Run]) -> "DataFrame":
    return _records_frame(runs, LinkMeasurement, lambda run: run.links)


def pairs_frame(runs: Iterable[Run]) -> "DataFrame":
    rows = (
        {**_whose(run), "sender_host": host_of[pair.sender], "receiver_host": host_of[pair.receiver], **_measured(pair)}
        for run in runs
        for host_of in ({own.rank: own.hostname for own in run.info.ranks},)
        for pair in run.pairs
    )
    return frame(rows, _types(PairMeasurement, sender_host=str, receiver_host=str))


def contention_frame(runs: Iterable[Run]) -> "DataFrame":
    return _records_frame(runs, ContentionMeasurement, lambda run: run.contention)


def buckets_frame(runs: Iterable[Run]) -> "DataFrame":
    return _gradients_frame(runs, BucketTiming, lambda run: run.gradients.buckets if run.gradients else ())


def parameters_frame(runs: Iterable[Run]) -> "DataFrame":
    return _gradients_frame(runs, ParameterTiming, lambda run: run.gradients.parameters if run.gradients else ())


def info_frame(runs: Iterable[Run]) -> "DataFrame":
    """Return one row a run: what it is, then what it trained."""
    work = types_of(Workload)
    card = types_of(RunInfo)
    rows = ({**_named(run.info, _INFO), **_named(run.info.workload, work), "path": str(run.path)} for run in runs)
    return frame(rows, {name: card[name] for name in _INFO} | work | {"path": str})


def _named(record: object | None, names: Iterable[str]) -> Row:
    return {name: getattr(record, name, None) for name in names}


def _records_frame(runs: Iterable[Run], kind: type, records: Callable[[Run], Iterable[object]]) -> "DataFrame":
    rows = ({**_whose(run), **_measured(record)} for run in runs for record in records(run))
    return frame(rows, _types(kind))


def _gradients_frame(runs: Iterable[Run], kind: type, records: Callable[[Run], Iterable[object]]) -> "DataFrame":
    rows = (
        {**_whose(run), "rank": run.gradients.rank if run.gradients else 0, **_measured(record)}
        for run in runs
        for record in records(run)
    )
    return frame(rows, _types(kind, rank=int))


def _whose(run: Run) -> Row:
    return {"run_id": run.info.run_id, "world_size": run.world_size, "path": str(run.path)}


def _types(kind: type, **more: type) -> dict[str, Any]:
    """Return what the columns of a table of measurements hold: whose they are first, and last where those lie."""
    return {"run_id": str, "world_size": int, **more, **types_of(kind, _DERIVED.get(kind, ())), "path": str}


def _measured(record: object) -> Row:
    return row_of(record, _DERIVED.get(type(record), ()))
