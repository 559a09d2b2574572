"""Which stages of a study were tried and have no result, and why."""

from collections.abc import Iterator
from pathlib import Path

from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import RUN_FILE, read_info

INCOMPLETE = "incomplete"
WHY_FILE = "why.txt"  # beside run.json, or alone where the try ended before it had one
_MOST_BYTES = 2000
_WITHOUT_CONTENTION = "; predictions do without it, and a study in another folder (--out) has it in them"


def failed_stages(root: Path) -> Iterator[tuple[str, str]]:
    """Yield the stages without a completed run, with what ended the last try. Raises BadInput for a damaged run.json."""
    tries: dict[str, tuple[int, Path]] = {}
    for folder in (root / INCOMPLETE).glob("*-*"):
        stage, _, number = folder.name.rpartition("-")
        if number.isdecimal():
            tries[stage] = max(tries.get(stage, (0, folder)), (int(number), folder))
    for stage, (_, folder) in sorted(tries.items()):
        if not (root / stage).exists():
            yield stage, _why(folder).rstrip(".") + (_WITHOUT_CONTENTION if stage.startswith("contention-") else "")


def _why(folder: Path) -> str:
    own = read_info(folder).failure if (folder / RUN_FILE).exists() else None
    return own or _written(folder / WHY_FILE) or "it did not end"


def _written(path: Path) -> str:
    if not path.is_file():
        return ""
    try:
        with path.open("rb") as source:
            return " ".join(source.read(_MOST_BYTES).decode(errors="replace").split())
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
