"""Is there a terminal, and so who lays out the result?"""

import os
import sys
from typing import IO

from commprof.commbench.display.sheet import Sheet, plain_text

_CANNOT_ERASE = ("dumb", "unknown")


def is_terminal(stream: IO[str]) -> bool:
    """Say whether a stream is a terminal that knows more than plain lines."""
    return stream.isatty() and os.environ.get("TERM") not in _CANNOT_ERASE


def show(sheet: Sheet) -> None:
    """Print a result: by rich on a terminal, else as plain text, which costs no import."""
    if is_terminal(sys.stdout):
        from commprof.commbench.display.tables import console_on, print_sheet  # 50 ms that only a person waits for

        print_sheet(sheet, console_on(sys.stdout))
    else:
        sys.stdout.write(plain_text(sheet) + "\n")
