"""What is derived from runs is kept beside them where that may be written; elsewhere it is printed only, which is said.

A colleague's runs, an archive, a full disk: the answer does not depend on them being writable.
"""

import sys
from collections.abc import Callable
from typing import TypeVar

from commprof.commbench.units import printable

T = TypeVar("T")


def kept(write: Callable[[], T]) -> T | None:
    """Write what could also be left out, and return what that returns; say so, and return None, where it cannot be."""
    try:
        return write()
    except OSError as error:
        say_not_kept(error, "--out FILE")
        return None


def say_not_kept(error: OSError, mend: str) -> None:
    """Say on standard error which file was not written, why, and which flag writes it elsewhere."""
    sys.stderr.write(
        printable(f"commprof: not kept: cannot write {error.filename}: {error.strerror}; {mend} writes it elsewhere") + "\n"
    )
