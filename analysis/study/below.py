"""All experiments below a folder: studies cell by cell, and loose runs put together where they can be combined.

A run is left out, with the reason, where it did not complete, cannot be read, or its training read another data set than those
asked for.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from commprof.analysis.runs.found import NO_RUNS_INSIDE
from commprof.analysis.runs.load import Run, check_combinable, load_run
from commprof.analysis.step.kept import PREDICTIONS_FILE
from commprof.analysis.study.experiment import Cell, cell_folder, cells_of, is_grid
from commprof.commbench.errors import BadInput, CommprofError
from commprof.commbench.records.rundir import RUN_FILE, read_info


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Runs that belong together; `folder` is where their predictions lie, if there are any."""

    name: str
    runs: tuple[Run, ...]
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which data are drawn: without the first `warmup_steps` of each run, and of these data sets only (none: of all)."""

    warmup_steps: int = 0
    datasets: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What lies below a folder. `grids` are the studies of several cells, which have figures of their own."""

    experiments: tuple[Experiment, ...]
    grids: tuple[tuple[Path, tuple[Cell, ...]], ...]
    left_out: tuple[str, ...]


def find_experiments(root: Path, wanted: Wanted) -> Found:
    """Search a folder and all below it. Raises BadInput where no run is left, naming the mend."""
    runs, studies, left_out = _read_runs(root)
    if not runs:
        raise BadInput(f"no completed run below {root}; make one with commprof study or commprof train, or name another folder")
    kept = [_without_first(run, wanted.warmup_steps) for run in runs if _is_wanted(run, wanted.datasets)]
    _check_datasets(runs, kept, root, wanted.datasets)
    left_out += [f"{run.path.name}: {_told_dataset(run)}" for run in runs if not _is_wanted(run, wanted.datasets)]
    experiments: list[Experiment] = []
    grids = []
    for parent in dict.fromkeys(run.path.parent for run in kept):
        own = [run for run in kept if run.path.parent == parent]
        cells = cells_of(own) if parent in studies else []
        if not cells:
            experiments += loose_experiments(own, "" if parent == root.resolve() else _place(parent, root))
            continue
        grid = is_grid(parent, cells)
        grids += [(parent, tuple(cells))] if grid else []
        experiments += _cells(parent, cells, _place(parent, root), grid=grid)
    return Found(experiments=tuple(experiments), grids=tuple(grids), left_out=tuple(left_out))


def _place(folder: Path, root: Path) -> str:
    top = root.resolve()
    return top.name if folder == top else str(folder.relative_to(top))


def _cells(study: Path, cells: Sequence[Cell], place: str, *, grid: bool) -> Iterator[Experiment]:
    for cell in cells:
        name = f"{place} {cell.name}" if grid else place
        yield Experiment(name=name, runs=cell.runs, folder=cell_folder(study, cell, grid=grid))


def same_dataset(left: str, right: str) -> bool:
    """Say whether two names differ in case and punctuation only: AGNews, ag_news."""
    return _letters(left) == _letters(right)


def _letters(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def _read_runs(root: Path) -> tuple[list[Run], set[Path], list[str]]:
    """Return completed runs by folder and start, the folders of studies, and what was left out."""
    runs, studies, left_out = [], set(), []
    for path in _run_folders(root.resolve()):
        try:
            info = read_info(path)
            if info.kind == "study":
                studies.add(path)
            elif info.status == "completed":
                runs.append(load_run(path))
            else:
                left_out.append(f"{path.name}: it is {info.status}, not completed")
        except CommprofError as error:
            left_out.append(str(error))
    return sorted(runs, key=lambda run: (run.path.parent, run.info.started_at, run.path)), studies, left_out


def _run_folders(root: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in NO_RUNS_INSIDE and not name.startswith("."))
        if RUN_FILE in names:
            yield Path(parent)


def loose_experiments(runs: Sequence[Run], place: str) -> Iterator[Experiment]:
    """Yield the trainings that may be combined, each with the measurements of the wire that fit them; those alone else."""
    training = [run for run in runs if run.info.workload is not None]
    others = [run for run in runs if run.info.workload is None]
    groups = _combined(training) or _combined(others)
    seen: dict[str, int] = {}
    for group in groups:
        fitting = [run for run in others if run not in group and _combinable([*group, run])] if training else []
        work = group[0].info.workload
        name = f"{place} {work.experiment if work is not None else group[0].info.kind}".strip()
        seen[name] = seen.get(name, 0) + 1
        numbered = name if seen[name] == 1 else f"{name} {seen[name]}"
        yield Experiment(name=numbered, runs=(*group, *fitting), folder=_predictions_folder([*group, *fitting]))


def _combined(runs: Iterable[Run]) -> list[list[Run]]:
    groups: list[list[Run]] = []
    for run in runs:
        group = next((group for group in groups if _combinable([*group, run])), None)
        if group is None:
            groups.append([run])
        else:
            group.append(run)
    return groups


def _combinable(runs: Sequence[Run]) -> bool:
    try:
        check_combinable(runs)
    except BadInput:
        return False
    return True


def _predictions_folder(runs: Sequence[Run]) -> Path:
    folders = [run.path / "analysis" for run in runs]
    return next((folder for folder in folders if (folder / PREDICTIONS_FILE).exists()), folders[0])


def _without_first(run: Run, num_steps: int) -> Run:
    if not num_steps:
        return run
    steps = {
        rank: tuple(replace(step, warmup=step.warmup or i < num_steps) for i, step in enumerate(own))
        for rank, own in run.steps.items()
    }
    return replace(run, steps=steps)


def _is_wanted(run: Run, datasets: Collection[str]) -> bool:
    if run.info.workload is None or not datasets:
        return True
    name = run.info.workload.dataset
    return name is not None and any(same_dataset(name, wanted) for wanted in datasets)


def _check_datasets(runs: Sequence[Run], kept: Sequence[Run], root: Path, datasets: Collection[str]) -> None:
    if not datasets or any(run.info.workload is not None for run in kept):
        return
    named = sorted({run.info.workload.dataset for run in runs if run.info.workload and run.info.workload.dataset})
    known = f"named there: {', '.join(named)}" if named else "no run there names its data set; leave --datasets out"
    raise BadInput(f"--datasets {','.join(sorted(datasets))}: no training below {root} read it; {known}")


def _told_dataset(run: Run) -> str:
    name = run.info.workload.dataset if run.info.workload is not None else None
    return "it names no data set" if name is None else f"it read {name}"
