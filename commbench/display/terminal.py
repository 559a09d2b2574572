"""Is a stream a terminal, and so who lays out the result?"""

import os
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING, ClassVar

import msgspec

if TYPE_CHECKING:
    from commprof.commbench.display.sheet import Sheet

_CANNOT_ERASE = ("dumb", "unknown")
_ERASE = "\r\x1b[K\x1b[?25h"  # and shows the cursor, which a process that was killed while it drew left hidden


def is_terminal(stream: IO[str]) -> bool:
    """Say whether a stream is a terminal that knows more than plain lines."""
    return stream.isatty() and os.environ.get("TERM") not in _CANNOT_ERASE


def clear_line(stream: IO[str]) -> None:
    """Take away the last line where it is one that is drawn in place; write nothing to what is no terminal."""
    if is_terminal(stream):
        stream.write(_ERASE)
        stream.flush()


def drop_output() -> None:
    """Let Python hand the rest of the output to nobody; it would try the old reader again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_json(document: object, warning: str | None = None) -> None:
    """Write one JSON document; a warning goes to standard error, where it is no part of the document."""
    if warning is not None:
        tell(f"commprof: {warning}\n")
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")


def tell(line: str) -> None:
    """Write to standard error; where its reader has gone there is nobody else to tell, and no work that should end for it."""
    with suppress(OSError):
        sys.stderr.write(line)
        sys.stderr.flush()


class Output:
    """Prints what is measured, line by line, so that a pipe shows each as it comes.

    A reader that has gone, or a full disk, ends the printing and not what is measured: the other ranks would wait for this one.
    """

    lost: ClassVar[OSError | None] = None  # what happened to standard output, of which a process has one

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled

    def __call__(self, text: str) -> None:
        """Print a line now, on the rank that has a say."""
        if not self._enabled:
            return
        try:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
        except OSError as error:
            drop_output()
            Output.lost = error
            reason = "its reader has gone" if isinstance(error, BrokenPipeError) else error.strerror
            tell(f"the output goes nowhere from here on ({reason}); what is measured is written down as before\n")


def show(sheet: "Sheet") -> None:
    """Print a result: by rich on a terminal, else as plain text, which costs no import."""
    if is_terminal(sys.stdout):
        from commprof.commbench.display.tables import console_on, print_sheet  # 50 ms that only a person waits for

        print_sheet(sheet, console_on(sys.stdout))
    else:
        from commprof.commbench.display.sheet import plain_text  # 5 ms, which --help does not wait for

        sys.stdout.write(plain_text(sheet) + "\n")
