"""What of a study is on disk: stages that are measured, and tries that failed."""

from pathlib import Path

from commprof.analysis.study.failed import INCOMPLETE, WHY_FILE
from commprof.commbench.records.ownership import check_free
from commprof.commbench.records.rundir import RUN_FILE, read_info, write_text


def is_measured(run: Path) -> bool:
    """Return whether a stage's run is there and completed."""
    return (run / RUN_FILE).exists() and read_info(run).status == "completed"


def set_aside(folder: Path, run: Path, reason: str = "") -> None:
    """Keep what a failed try left, and why it failed where that is known, so that no analysis takes it for a whole run.

    Raises BadInput while the run is being written.
    """
    if not run.exists() and not reason:
        return
    if run.exists():
        check_free(run)
    aside = folder / INCOMPLETE
    aside.mkdir(exist_ok=True)
    number = sum(1 for _ in aside.glob(f"{run.name}-*"))
    kept = aside / f"{run.name}-{number + 1}"
    if run.exists():
        run.rename(kept)
    kept.mkdir(exist_ok=True)
    if reason:
        write_text(kept / WHY_FILE, f"{reason}\n")
