"""A terminal for tests: what a program sends to one, and what can then be seen on it."""

import os
import pty
import re
import subprocess
import sys
import termios
import threading
from collections.abc import Sequence
from pathlib import Path

from tests.forked import DEADLINE_S, Zygote, ended

_SCRIPT = Path(sys.executable).parent / "commprof"
_CONTROL = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Watched:
    """A pseudo-terminal whose other end is read while it is written to."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self._ours, self.theirs = pty.openpty()
        termios.tcsetwinsize(self.theirs, (rows, columns))
        self._read: list[bytes] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._listen, daemon=True)  # a failed test leaves it behind
        self._reader.start()

    def _listen(self) -> None:
        try:
            while part := os.read(self._ours, 65_536):
                with self._more:
                    self._read.append(part)
                    self._more.notify_all()
        except OSError:  # what Linux says once the last writer has gone
            return

    def wait_for(self, text: str, timeout_s: float) -> None:
        with self._more:
            assert self._more.wait_for(lambda: text in b"".join(self._read).decode(), timeout_s), f"never saw {text!r}"

    def seen(self) -> str:
        """Close the writing end and return all that was sent."""
        os.close(self.theirs)
        self._reader.join()
        os.close(self._ours)
        return b"".join(self._read).decode()


def on_terminal(words: Sequence[str], columns: int = 80, **environ: str) -> str:
    """Return what `commprof WORDS` sends to a terminal so wide as its standard output."""
    watched = Watched(columns)
    inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    subprocess.run(
        [str(_SCRIPT), *words],
        stdin=subprocess.DEVNULL,
        stdout=watched.theirs,
        stderr=subprocess.DEVNULL,
        env={**inherited, "TERM": "xterm-256color", **environ},
        timeout=DEADLINE_S,
    )
    return watched.seen()


def forked_on_terminal(zygote: Zygote, words: Sequence[str], columns: int = 80, **environ: str) -> str:
    """Return the same of a command that is forked instead of started, here; its locale is that of the tests."""
    watched = Watched(columns)
    place, nowhere = Path(os.ttyname(watched.theirs)), Path(os.devnull)
    environ = {"TERM": "xterm-256color", **environ}
    pid = zygote.start(["commprof", *words], Path.cwd(), out=place, err=nowhere, environ=environ)
    assert ended(pid, DEADLINE_S), words
    zygote.reap(pid)
    return watched.seen()


def screen(sent: str) -> tuple[list[str], bool]:
    """Return the lines that stand on a terminal after all of this was sent, and whether its cursor shows.

    Knows what a line of progress takes: new lines, carriage returns, the cursor's way up, erasing a line, colours.
    """
    lines, row, column, cursor = [""], 0, 0, True
    position = 0
    while position < len(sent):
        if found := _CONTROL.match(sent, position):
            position = found.end()
            private, number, kind = found.groups()
            if private:
                assert number == "25", f"unknown mode {number}"
                cursor = kind == "h"
            elif kind == "K":
                lines[row] = "" if number == "2" else lines[row][:column]
            elif kind == "A":
                row -= int(number or 1)
            else:
                assert kind == "m", f"unknown control {found[0]!r}"
            continue
        letter = sent[position]
        position += 1
        if letter == "\r":
            column = 0
        elif letter == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        else:
            lines[row] = f"{lines[row][:column]:{column}}{letter}{lines[row][column + 1 :]}"
            column += 1
    return [line.rstrip() for line in lines], cursor
