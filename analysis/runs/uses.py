"""What can a run be used for? As its run.json and the names of its files tell."""

from collections.abc import Iterator

from commprof.analysis.runs.load import Run
from commprof.analysis.runs.names import kind_of

_RAW_FILES = {
    "bench": "collectives.jsonl",
    "links": "links.jsonl",
    "contention": "contention.jsonl",
    "train": "steps.rank00000.jsonl",
}
_LONGEST_REASON = 120


def uses_of(run: Run) -> str:
    """Return the verbs that read such a run, and what is missing where it has not completed."""
    kind, status = run.info.kind, run.info.status
    if kind == "study":
        return "report, plots, predict, advise, check, fit" + ("" if status == "completed" else f"; it is {status}")
    raw = run.path / _RAW_FILES[kind]
    if not (raw.is_file() and raw.stat().st_size):
        return "nothing: it holds no measurement" + _ended(run)
    return ", ".join(_verbs(run)) + ("" if status == "completed" else f"; only as far as it got{_ended(run)}")


def _verbs(run: Run) -> Iterator[str]:
    kind, alone = kind_of(run), run.world_size == 1
    if kind == "bench":
        yield from ("fit", "check") if not alone else ("check",)
        if not alone:
            yield "predict and advise with a profile on one rank"
    elif kind == "links":
        yield "check"
    elif kind == "contention":
        yield "predict with a profile and a bench"
    elif kind == "compute":
        yield f"predict {run.world_size} ranks with a profile and a bench"
    elif (alone or run.info.imported_from is not None) and (run.path / "gradients.json").is_file():
        yield "predict and advise with a bench"
    if run.traced:
        yield "trace"
    yield "report, plots"


def _ended(run: Run) -> str:
    """Say how a run that is not complete stands, and how a sweep goes on."""
    if run.info.status == "completed":
        return ""
    reason = " ".join((run.info.failure or "").split())
    shown = reason if len(reason) <= _LONGEST_REASON else reason[: _LONGEST_REASON - 3] + "..."
    more = f": {shown}" if shown else " (or was killed without a word)" if run.info.status == "running" else ""
    again = f"; commprof bench --resume RUN --nproc {run.world_size} goes on" if run.info.kind == "bench" else ""
    return f"; it is {run.info.status}{more}{again}"
