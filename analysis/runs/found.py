"""Which runs lie below a folder? From their run.json alone; what they have measured is not read.

Bounded: at most 20,000 folders are looked into, four levels deep, and what a run or a study keeps to itself is not.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from commprof.analysis.runs.load import Run, in_order
from commprof.commbench.errors import CommprofError
from commprof.commbench.records.rundir import RUN_FILE, read_info

RUNS = Path("runs")  # where measuring verbs put them
MOST_FOLDERS = 20_000
NO_RUNS_INSIDE = frozenset({"incomplete", "analysis", "traces", "checkpoints", "logs"})
_DEEPEST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRuns:
    """The runs below `root`, the newest first; `unreadable` are the reasons of those that cannot be read.

    `whole` is False where there were more folders than are looked into.
    """

    root: Path
    runs: tuple[Run, ...]
    unreadable: tuple[str, ...]
    whole: bool

    def name(self, run: Run) -> str:
        """Return a run's path below the root; the root's own name for itself."""
        return str(run.path.relative_to(self.root)) if run.path != self.root else self.root.resolve().name

    @property
    def outermost(self) -> tuple[Run, ...]:
        """Return the runs that are no stage of a study found."""
        studies = {run.path for run in self.runs if run.info.kind == "study"} - {self.root}
        return tuple(run for run in self.runs if not studies.intersection(run.path.parents))


def find_runs(root: Path, most_folders: int = MOST_FOLDERS) -> FoundRuns:
    """Search a folder and what is below it; a folder that is not there holds no runs."""
    runs, unreadable, num_folders = [], [], 0
    for folder, is_run in _folders(root, _DEEPEST):
        num_folders += 1
        if num_folders > most_folders:
            break
        if not is_run:
            continue
        try:
            runs.append(Run(path=folder, info=read_info(folder), collectives=(), steps={}, gradients=None))
        except CommprofError as error:
            unreadable.append(str(error))
    newest = tuple(reversed(in_order(runs)))
    return FoundRuns(root=root, runs=newest, unreadable=tuple(unreadable), whole=num_folders <= most_folders)


def _folders(folder: Path, levels: int) -> Iterator[tuple[Path, bool]]:
    """Yield a folder and whether it is a run, then those below; a link to a run is followed, one to other folders is not."""
    try:
        with os.scandir(folder) as entries:
            inside = sorted((entry for entry in entries), key=lambda entry: entry.name)
    except OSError:  # not there, no folder, or not ours to read: no runs that anybody could name
        return
    yield folder, any(entry.name == RUN_FILE for entry in inside)
    for entry in inside if levels else ():
        if entry.name in NO_RUNS_INSIDE or entry.name.startswith(".") or not os.path.isdir(entry.path):
            continue
        below = Path(entry.path)
        if not entry.is_symlink():
            yield from _folders(below, levels - 1)
        elif os.path.isfile(below / RUN_FILE):  # unlike Path's, False where it may not be asked
            yield below, True
