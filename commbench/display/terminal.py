"""Is a stream a terminal, and so who lays out the result?"""

import os
import sys
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from commprof.commbench.display.sheet import Sheet

_CANNOT_ERASE = ("dumb", "unknown")
_ERASE = "\r\x1b[K"


def is_terminal(stream: IO[str]) -> bool:
    """Say whether a stream is a terminal that knows more than plain lines."""
    return stream.isatty() and os.environ.get("TERM") not in _CANNOT_ERASE


def clear_line(stream: IO[str]) -> None:
    """Take away the last line where it is one that is drawn in place; write nothing to what is no terminal."""
    if is_terminal(stream):
        stream.write(_ERASE)
        stream.flush()


def show(sheet: "Sheet") -> None:
    """Print a result: by rich on a terminal, else as plain text, which costs no import."""
    if is_terminal(sys.stdout):
        from commprof.commbench.display.tables import console_on, print_sheet  # 50 ms that only a person waits for

        print_sheet(sheet, console_on(sys.stdout))
    else:
        from commprof.commbench.display.sheet import plain_text  # 5 ms, which --help does not wait for

        sys.stdout.write(plain_text(sheet) + "\n")
