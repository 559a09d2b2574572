"""How are the runs below a folder shown? A row each and below it when it began and what it can be used for; or one document.

Times are UTC, as in run.json.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from commprof.analysis.runs.found import FoundRuns
from commprof.analysis.runs.load import Run
from commprof.analysis.runs.names import kind_of
from commprof.analysis.runs.uses import uses_of
from commprof.commbench.display.sheet import GAP, Block, Cell, Column, Row, Table, Tone, Words

_MOST_UNREADABLE = 5
_TONES: dict[str, Tone] = {"failed": "bad", "interrupted": "note", "running": "note"}
_COLUMNS = (
    Column(name="run", width=34, left=True, before="", key=True),
    Column(name="kind", width=10, left=True),
    Column(name="ranks", width=5),
    Column(name="model", width=12, left=True),
    Column(name="status", width=11, left=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRun:
    """An entry of `commprof ls --json`. `name` is its path below the folder searched; `num_stages` is a study's."""

    name: str
    path: str
    run_id: str
    kind: str
    world_size: int
    model: str | None
    status: str
    started_at: str
    used_for: str
    num_stages: int | None = None


def listed_runs(found: FoundRuns) -> list[ListedRun]:
    """Return the runs that are no stage of a study below the folder, the newest first."""
    inside = [run for run in found.outermost if run.path != found.root or run.info.kind != "study"]
    return [_listed(run, found) for run in inside]


def listing_sheet(listed: Sequence[ListedRun], found: FoundRuns, most: int) -> list[Block]:
    """Lay out the newest `most` of them, then how many are left out, and what could not be read."""
    blocks: list[Block] = [Table(columns=_COLUMNS, rows=[_row(own) for own in listed[:most]])] if listed else []
    left_out = []
    if len(listed) > most:
        left_out.append(f"{len(listed) - most} older runs are left out; --most {len(listed)} shows them")
    if not found.whole:
        left_out.append("there are too many folders to look into all of them; name one nearer to the runs")
    left_out += [f"cannot be read: {reason}" for reason in found.unreadable[:_MOST_UNREADABLE]]
    if len(found.unreadable) > _MOST_UNREADABLE:
        left_out.append(f"and {len(found.unreadable) - _MOST_UNREADABLE} more cannot be read")
    if listed and left_out:
        blocks.append(GAP)
    return [*blocks, *(Words(text, "", "  ", tone="note") for text in left_out)]


def _listed(run: Run, found: FoundRuns) -> ListedRun:
    stages = sum(own.path.parent == run.path for own in found.runs) if run.info.kind == "study" else None
    work = run.info.workload
    return ListedRun(
        name=_writable(found.name(run)),
        path=_writable(str(run.path)),
        run_id=run.info.run_id,
        kind=kind_of(run),
        world_size=run.world_size,
        model=None if work is None else work.experiment,
        status=run.info.status,
        started_at=run.info.started_at,
        used_for=uses_of(run),
        num_stages=stages,
    )


def _writable(name: str) -> str:
    """Return a name from a file system as text that JSON can hold."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


def _row(own: ListedRun) -> Row:
    inside = "" if own.num_stages is None else f"; {own.num_stages} runs inside, commprof ls {own.path} lists them"
    began = own.started_at[:16].replace("T", " ")
    below = Words(f"{began}, for {own.used_for}{inside}", "    ", "    ", tone="faint", break_long_words=False)
    ranks = f"to {own.world_size}" if own.kind == "study" else str(own.world_size)
    return Row((own.name, own.kind, ranks, own.model or "", Cell(own.status, _TONES.get(own.status, "plain"))), (below,))
