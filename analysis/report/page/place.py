"""Where does a report go, when nobody said where?

A study's stands in its own analysis/. Runs were only given to be read: their report goes to the working directory, and takes
the place of nothing there but a report.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import read_info

MARK: Final = "written by commprof"  # stands in the first lines of each report
_HEAD_BYTES: Final = 4096


def home_of(paths: Sequence[Path]) -> Path | None:
    """Return the folder that keeps what is derived from these paths: a study's analysis/; None for runs."""
    return paths[0] / "analysis" if len(paths) == 1 and read_info(paths[0]).kind == "study" else None


def default_page(paths: Sequence[Path], name: str) -> Path:
    """Return where a file of this name goes; raise BadInput where one stands that commprof did not write."""
    home = home_of(paths)
    if home is not None:
        return home / name
    page = Path(name)
    if page.exists() and MARK.encode() not in _head(page):
        raise BadInput(f"{name} in this folder is no report of commprof's; name another file with --out")
    return page


def _head(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)
