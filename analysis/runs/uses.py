"""What can a run be used for? As its run.json, the names of its files and what a bench has timed tell."""

from collections.abc import Iterator

from commprof.analysis.runs.load import Run
from commprof.analysis.runs.names import kind_of
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import read_records
from commprof.commbench.records.sharding import UNITS_FILE
from commprof.commbench.records.training_kind import follows_ddp
from commprof.commbench.records.types import CollectiveMeasurement

_RAW_FILES = {
    "bench": ("collectives.jsonl",),
    "links": ("links.jsonl", "pairs.jsonl"),
    "contention": ("contention.jsonl",),
    "train": ("steps.rank00000.jsonl",),
}
_LONGEST_REASON = 120


def uses_of(run: Run) -> str:
    """Return the verbs that read such a run, and what is missing where it has not completed."""
    kind, status = run.info.kind, run.info.status
    if kind == "study":
        return "report, plots, predict, advise, check, fit" + ("" if status == "completed" else f"; it is {status}")
    raw = (run.path / name for name in _RAW_FILES[kind])
    if not any(file.is_file() and file.stat().st_size for file in raw):
        return "nothing: it holds no measurement" + _ended(run)
    try:
        others = _with_others(run)
    except BadInput as damage:
        return f"nothing: {damage}"
    return f"{', '.join(_verbs(run))}{others}" + ("" if status == "completed" else f"; only as far as it got{_ended(run)}")


def _verbs(run: Run) -> Iterator[str]:
    """Yield the verbs that take such a run by itself."""
    yield from ("report", "plots")
    if run.info.kind == "bench" and run.world_size > 1:
        yield "fit"
    if run.info.kind in ("bench", "links"):
        yield "check"
    if run.traced:
        yield "trace"


def _with_others(run: Run) -> str:
    """Say which verbs take it beside other runs, and beside which."""
    kind, alone = kind_of(run), run.world_size == 1
    if kind == "bench" and not alone:
        return _with_a_profile(run)
    if kind in ("contention", "compute"):
        return "; with a profile and a bench predict, advise"
    if kind == "train" and alone and (run.path / UNITS_FILE).is_file():
        return "; with benches of what is sent predict --strategy"
    if kind != "train" or not (alone or run.info.imported_from is not None) or not (run.path / "gradients.json").is_file():
        return ""
    work = run.info.workload
    return "; with a bench predict, advise" if work is None or follows_ddp(work.kind, run.world_size) else ""


def _with_a_profile(run: Run) -> str:
    """Say what a bench is good for beside a profile: DDP's buckets need an all-reduce, shards the two halves of one.

    Raises BadInput where its file is malformed.
    """
    measured = read_records(run.path / "collectives.jsonl", CollectiveMeasurement)
    shards = False
    for measurement in measured:
        if run.prices_buckets(measurement):
            return "; with a profile on one rank predict, advise"
        shards |= measurement.op in ("all_gather", "reduce_scatter")
    return "; with a sharded profile on one rank predict --strategy" if shards else ""


def _ended(run: Run) -> str:
    """Say how a run that is not complete stands, and how a sweep goes on."""
    if run.info.status == "completed":
        return ""
    reason = " ".join((run.info.failure or "").split())
    shown = reason if len(reason) <= _LONGEST_REASON else reason[: _LONGEST_REASON - 3] + "..."
    more = f": {shown}" if shown else " (or was killed without a word)" if run.info.status == "running" else ""
    again = f"; commprof bench --resume RUN --nproc {run.world_size} goes on" if run.info.kind == "bench" else ""
    return f"; it is {run.info.status}{more}{again}"
