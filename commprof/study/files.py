"""What of a study is on disk: stages that are measured, and tries that failed."""

from pathlib import Path

from commprof.commbench.records.ownership import check_free
from commprof.commbench.records.rundir import RUN_FILE, read_info


def is_measured(run: Path) -> bool:
    """Return whether a stage's run is there and completed."""
    return (run / RUN_FILE).exists() and read_info(run).status == "completed"


def set_aside(folder: Path, run: Path) -> None:
    """Keep what a failed try measured, where no analysis will take it for a whole run; BadInput while it is being written."""
    if not run.exists():
        return
    check_free(run)
    aside = folder / "incomplete"
    aside.mkdir(exist_ok=True)
    number = sum(1 for _ in aside.glob(f"{run.name}-*"))
    run.rename(aside / f"{run.name}-{number + 1}")
