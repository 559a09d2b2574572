"""How far is long work, and how long will the rest of it take? One line on standard error, from one process of a job.

    remaining = seconds so far / units done so far x units to come

unless the work knows better; nothing is said of it in the first two seconds. A terminal has one line, rewritten and gone at the
end. A log has a line after 5 s, then each time a tenth more has passed, at most a minute apart. There is no thread: what is
measured meanwhile is not disturbed, and the line stands still while a unit is under way.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from commprof.commbench.units import printable

TERMINAL_VARIABLE = "COMMPROF_TERMINAL"  # set for ranks whose standard error a launcher passes on to a terminal

_ERASE = "\r\x1b[K"
_REWRITE_EVERY_S = 0.2
_LINE_EVERY_S, _LINE_EVERY_SHARE, _LINE_AT_LEAST_EVERY_S = 5.0, 0.1, 60.0
_MEANS_NOTHING_S = 2.0
_COLUMNS = 80  # where a terminal does not say

Estimate = Callable[[float, float], float | None]
"""Seconds that remain, from the units done and the seconds passed; None while it cannot tell."""


class Report:
    """How many units are done, and what the latest one gave. `clear` makes room for results on the same terminal."""

    def __init__(
        self,
        title: str,
        total: float,
        *,
        enabled: bool,
        left_s: Estimate,
        shown: Callable[[float], str],
        clock: Callable[[], float],
    ) -> None:
        self._title, self._total, self._enabled = title, total, enabled
        self._left_s, self._shown, self._clock = left_s, shown, clock
        self._start_s = self._last_s = clock()
        self._terminal = terminal()
        self._told = False

    def __call__(self, done: float, text: str) -> None:
        """Show it where a line is due; in a log the last one too, unless all was over before the first."""
        if not self._enabled:
            return
        now_s = self._clock()
        passed_s = now_s - self._start_s
        closes = done >= self._total and self._told
        if now_s - self._last_s < self._pause_s(passed_s) and not closes:
            return
        self._last_s, self._told = now_s, True
        count = f"{self._title} {self._shown(done)}/{self._shown(self._total)}"
        self._write("  ".join(filter(None, (count, printable(text)))), self._words(done, passed_s))

    def clear(self) -> None:
        """Take the line from the terminal, until the next one."""
        if self._terminal is not None and self._told:
            clear_line(self._terminal)
            self._last_s = float("-inf")

    def _pause_s(self, passed_s: float) -> float:
        if self._terminal is not None:
            return _REWRITE_EVERY_S
        return min(max(_LINE_EVERY_S, _LINE_EVERY_SHARE * passed_s), _LINE_AT_LEAST_EVERY_S)

    def _words(self, done: float, passed_s: float) -> str:
        if done >= self._total:
            return f"took {format_wait(passed_s)}"
        left_s = self._left_s(done, passed_s) if passed_s >= _MEANS_NOTHING_S else None
        return "" if left_s is None else f"remaining {format_wait(left_s)}"

    def _write(self, head: str, time_words: str) -> None:
        tail = time_words and f"  {time_words}"
        if self._terminal is None:
            sys.stderr.write(f"{head}{tail}\n")
            sys.stderr.flush()
        else:
            rewrite(self._terminal, head[: max(0, _columns(self._terminal) - 1 - len(tail))] + tail)


@contextmanager
def progress(
    title: str,
    total: float,
    *,
    first: float = 0,
    enabled: bool = True,
    left_s: Estimate | None = None,
    shown: Callable[[float], str] = str,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Report]:
    """Yield what reports progress of `total` units, `first` of them done before; `shown` writes a number of units."""
    estimate = left_s or _evenly(first, total)
    report = Report(title, total, enabled=enabled, left_s=estimate, shown=shown, clock=clock)
    try:
        yield report
    finally:
        report.clear()


def _evenly(first: float, total: float) -> Estimate:
    return lambda done, passed_s: passed_s / (done - first) * (total - done) if done > first else None


@contextmanager
def activity(title: str) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows the latest word of something under way, on a terminal only."""
    stream = terminal()
    if stream is None:
        yield lambda text: None
        return
    try:
        rewrite(stream, title)
        yield lambda text: rewrite(stream, f"{title}  {printable(text)}")
    finally:
        clear_line(stream)


def terminal() -> IO[str] | None:
    """Return the terminal that people watch this process on; None where there is none, or one that cannot erase a line.

    A rank's standard error passes through its launcher; then it is the terminal of standard output, where that is one.
    """
    if os.environ.get("TERM") == "dumb":
        return None
    if sys.stderr.isatty():
        return sys.stderr
    return sys.stdout if TERMINAL_VARIABLE in os.environ and sys.stdout.isatty() else None


def rewrite(stream: IO[str], text: str) -> None:
    """Put the text in place of the terminal's last line, as much of it as fits."""
    stream.write(_ERASE + text[: _columns(stream) - 1])
    stream.flush()


def clear_line(stream: IO[str]) -> None:
    """Take away the line that was last rewritten; write nothing to what is no terminal."""
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        stream.write(_ERASE)
        stream.flush()


def _columns(stream: IO[str]) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or _COLUMNS
    except OSError:
        return _COLUMNS


def format_wait(seconds: float) -> str:
    """Write a time to wait, rounded as an estimate deserves: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
