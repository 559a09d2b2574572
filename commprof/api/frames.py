"""Records -> DataFrames. A column is a record's field, its unit in its name; what a record derives is a column too.

A field that holds an interval becomes two columns, `low` and `high` in the place of `interval`; tuples become lists.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

from commprof.analysis.runs.interval import Interval
from commprof.analysis.runs.load import Run
from commprof.commbench.records.training import BucketTiming, ParameterTiming, StepMeasurement
from commprof.commbench.records.types import (
    CollectiveMeasurement,
    ContentionMeasurement,
    LinkMeasurement,
    RunInfo,
    Workload,
)

if TYPE_CHECKING:
    from pandas import DataFrame

Row = dict[str, Any]

_INFO = (
    *("run_id", "kind", "status", "world_size", "num_nodes", "num_machines", "backend", "wire", "launcher"),
    *("cores_per_node", "threads_per_rank", "started_at", "ended_at", "failure", "imported_from", "git_commit"),
)
_DERIVED: dict[type, tuple[str, ...]] = {
    StepMeasurement: ("counts",),
    CollectiveMeasurement: ("median_s", "algbw_bytes_per_s", "busbw_bytes_per_s"),
    LinkMeasurement: ("median_s", "bandwidth_bytes_per_s"),
    ContentionMeasurement: ("compute_slowdown", "comm_slowdown"),
}


def frame(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None, kinds: Iterable[type] = ()) -> "DataFrame":
    """Return the rows as a table; `columns` are there even without rows.

    Whole numbers and flags that the types `kinds` allow to be missing keep their kind beside a missing one.
    """
    from pandas import DataFrame

    table = DataFrame.from_records([dict(row) for row in rows], columns=None if columns is None else list(columns))
    missable = {name: dtype for kind in kinds for name, dtype in _missable(kind).items() if name in table}
    return table.astype({name: dtype for name, dtype in missable.items() if table[name].isna().any()})


def _missable(kind: type) -> dict[str, str]:
    """Return the pandas type for each field that is a whole number or a flag."""
    kinds = {int: "Int64", int | None: "Int64", bool: "boolean", bool | None: "boolean"}
    return {name: kinds[hint] for name, hint in get_type_hints(kind).items() if hint in kinds}


def row_of(record: object, derived: Sequence[str] = ()) -> Row:
    """Return a record's fields and the properties named, flat."""
    assert is_dataclass(record)
    own = {field.name: getattr(record, field.name) for field in fields(record)}
    return dict(_flat(own | {name: getattr(record, name) for name in derived}))


def _flat(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, Interval):
            yield name.replace("interval", "low"), value.low
            yield name.replace("interval", "high"), value.high
        else:
            yield name, list(value) if isinstance(value, tuple) else value


def steps_frame(runs: Iterable[Run]) -> "DataFrame":
    own = (
        {**_whose(run), "rank": rank, **_measured(step)} for run in runs for rank, steps in run.steps.items() for step in steps
    )
    return frame(own, ("run_id", "world_size", "rank", *_columns(StepMeasurement)))


def collectives_frame(runs: Iterable[Run]) -> "DataFrame":
    return _records_frame(runs, CollectiveMeasurement, lambda run: run.collectives)


def links_frame(runs: Iterable[Run]) -> "DataFrame":
    return _records_frame(runs, LinkMeasurement, lambda run: run.links)


def contention_frame(runs: Iterable[Run]) -> "DataFrame":
    return _records_frame(runs, ContentionMeasurement, lambda run: run.contention)


def buckets_frame(runs: Iterable[Run]) -> "DataFrame":
    return _gradients_frame(runs, BucketTiming, lambda run: run.gradients.buckets if run.gradients else ())


def parameters_frame(runs: Iterable[Run]) -> "DataFrame":
    return _gradients_frame(runs, ParameterTiming, lambda run: run.gradients.parameters if run.gradients else ())


def info_frame(runs: Iterable[Run]) -> "DataFrame":
    """Return one row a run: what it is, then what it trained."""
    work = [field.name for field in fields(Workload)]
    rows = [{**_card(run.info), **_workload(run.info.workload, work), "path": str(run.path)} for run in runs]
    return frame(rows, (*_INFO, *work, "path"), (RunInfo, Workload))


def _card(info: RunInfo) -> Row:
    return {name: getattr(info, name) for name in _INFO}


def _workload(workload: Workload | None, names: Sequence[str]) -> Row:
    return {name: None if workload is None else getattr(workload, name) for name in names}


def _records_frame(runs: Iterable[Run], kind: type, records: Callable[[Run], Iterable[object]]) -> "DataFrame":
    rows = ({**_whose(run), **_measured(record)} for run in runs for record in records(run))
    return frame(rows, tuple(dict.fromkeys(("run_id", "world_size", *_columns(kind)))), (kind,))


def _gradients_frame(runs: Iterable[Run], kind: type, records: Callable[[Run], Iterable[object]]) -> "DataFrame":
    rows = (
        {**_whose(run), "rank": run.gradients.rank if run.gradients else 0, **_measured(record)}
        for run in runs
        for record in records(run)
    )
    return frame(rows, ("run_id", "world_size", "rank", *_columns(kind)))


def _whose(run: Run) -> Row:
    return {"run_id": run.info.run_id, "world_size": run.world_size}


def _measured(record: object) -> Row:
    return row_of(record, _DERIVED.get(type(record), ()))


def _columns(kind: type) -> tuple[str, ...]:
    return (*(field.name for field in fields(kind)), *_DERIVED.get(kind, ()))
