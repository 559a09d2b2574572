"""Which run does a word name? A path that exists, before all else; below runs/ then

    latest          the newest run that is no stage of a study
    @train-n1       the newest of a kind, on so many ranks where it says so: bench, links, contention, train, compute, study
    20261122T10     how one run's name, or its path below runs/, begins

Newest is said of completed runs, or, for an argument that goes on with a run, of those that ended early. Newer runs that were
passed over are named. A training that sends nothing is `compute`, so that no `train` is one.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from commprof.analysis.runs.found import FoundRuns
from commprof.analysis.runs.load import Run
from commprof.commbench.errors import BadInput

KINDS = ("bench", "links", "contention", "train", "compute", "study")
_KIND = re.compile(rf"@({'|'.join(KINDS)})(?:-n(\d{{1,6}}))?")
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedRun:
    """The run that a word names; `told` says which it is, for people to see what was taken."""

    path: Path
    told: str


def kind_of(run: Run) -> str:
    """Return what a run is called: its kind, `compute` for a training that sends nothing."""
    silent = run.info.kind == "train" and run.info.workload is not None and not run.synchronised
    return "compute" if silent else run.info.kind


def names_a_kind(word: str) -> bool:
    """Say whether a word can be nothing but one of these names."""
    return word == "latest" or word.startswith("@")


def run_named(word: str, found: FoundRuns, *, ended_early: bool = False) -> NamedRun | None:
    """Return the run; None where no run's name begins like that.

    Raises BadInput where several do, where there is no such kind, where no run of it has completed (or ended early), and where
    not all folders were looked into: a newer one may lie there.
    """
    run: NamedRun | None
    if word == "latest":
        run = _newest(word, "run", found, found.outermost, ended_early=ended_early)
    elif word.startswith("@"):
        run = _of_kind(word, found, ended_early=ended_early)
    else:
        run = _beginning_with(word, found)
    if run is not None and not found.whole:
        raise BadInput(f"{word}: too many folders lie below {found.root} to look into all of them; name the run's path")
    return run


def _of_kind(word: str, found: FoundRuns, *, ended_early: bool) -> NamedRun:
    match = _KIND.fullmatch(word)
    if match is None:
        raise BadInput(f"{word} names no kind of run; write for example @train-n1, with one of {', '.join(KINDS)}")
    kind, ranks = match[1], match[2]
    alike = [run for run in found.runs if kind_of(run) == kind and ranks in (None, str(run.world_size))]
    what = f"{kind} run" + (f" on {ranks} rank{'s' * (ranks != '1')}" if ranks else "")
    return _newest(word, what, found, alike, ended_early=ended_early)


def _newest(word: str, what: str, found: FoundRuns, runs: Sequence[Run], *, ended_early: bool) -> NamedRun:
    """Return the newest of these runs that has the status wanted, and say which newer ones have another."""
    wanted: Callable[[Run], bool] = lambda run: (run.info.status == "completed") != ended_early  # noqa: E731
    place = next((number for number, run in enumerate(runs) if wanted(run)), None)
    if place is None:
        state = "that ended early" if ended_early else "that has completed"
        others = f"; {runs[0].path} is {runs[0].info.status}, name it to take it anyway" if runs else ""
        raise BadInput(f"{word}: no {what} {state} lies below {found.root}{others}; commprof ls lists what does")
    passed = ", ".join(f"{run.path.name} is {run.info.status}" for run in runs[: min(place, _MOST_NAMED)])
    return NamedRun(path=runs[place].path, told=f"{word}: {runs[place].path}" + (f" (newer: {passed})" if passed else ""))


def _beginning_with(word: str, found: FoundRuns) -> NamedRun | None:
    names = {found.name(run): run for run in found.runs}
    exact = [run for name, run in names.items() if word in (name, run.path.name)]
    begun = exact or [run for name, run in names.items() if name.startswith(word) or run.path.name.startswith(word)]
    if not begun:
        return None
    if len(begun) > 1:
        raise BadInput(f"{word} begins the names of {len(begun)} runs: {_listed([str(run.path) for run in begun])}; type more")
    return NamedRun(path=begun[0].path, told=f"{word}: {begun[0].path}")


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")
