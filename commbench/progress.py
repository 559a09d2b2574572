"""How far is long work, and how long will the rest of it take? One line on standard error, from one process of a job.

    remaining = seconds so far / units done so far x units to come

unless the work knows better; nothing is said of it in the first two seconds. A terminal has one line, drawn by rich twice a
second at most and gone at the end. A log has a line after 5 s, then each time a tenth more has passed, at most a minute apart.
There is no thread: what is measured meanwhile is not disturbed, and the line stands still while a unit is under way.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from commprof.commbench.display.terminal import is_terminal, tell
from commprof.commbench.units import printable

if TYPE_CHECKING:
    from commprof.commbench.display.live_line import LiveLine

TERMINAL_VARIABLE = "COMMPROF_TERMINAL"  # set for ranks whose standard error a launcher passes on to a terminal

_REDRAW_EVERY_S = 0.5
_LINE_EVERY_S, _LINE_EVERY_SHARE, _LINE_AT_LEAST_EVERY_S = 5.0, 0.1, 60.0
_MEANS_NOTHING_S = 2.0

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
        stream = terminal() if enabled else None
        self._line = None if stream is None else _live_line(stream, total)
        self._start_s = self._last_s = clock()
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
        words, left = "  ".join(filter(None, (count, printable(text)))), self._words(done, passed_s)
        if self._line is not None:
            self._line.draw(words, left, done)
        else:
            tell("  ".join(filter(None, (words, left))) + "\n")

    def clear(self) -> None:
        """Take the line from the terminal, until the next one."""
        if self._line is not None and self._told:
            self._line.wipe()
            self._last_s = float("-inf")

    def close(self) -> None:
        """Take the line from the terminal for good."""
        if self._line is not None:
            self._line.close()

    def _pause_s(self, passed_s: float) -> float:
        if self._line is not None:
            return _REDRAW_EVERY_S
        return min(max(_LINE_EVERY_S, _LINE_EVERY_SHARE * passed_s), _LINE_AT_LEAST_EVERY_S)

    def _words(self, done: float, passed_s: float) -> str:
        if done >= self._total:
            return f"took {format_wait(passed_s)}"
        left_s = self._left_s(done, passed_s) if passed_s >= _MEANS_NOTHING_S else None
        return "" if left_s is None else f"remaining {format_wait(left_s)}"


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
        report.close()


def _evenly(first: float, total: float) -> Estimate:
    return lambda done, passed_s: passed_s / (done - first) * (total - done) if done > first else None


@contextmanager
def activity(title: str) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows the latest word of something under way, on a terminal only."""
    stream = terminal()
    if stream is None:
        yield lambda text: None
        return
    shown = _live_line(stream, None)
    try:
        shown.draw(title)
        yield lambda text: shown.draw(f"{title}  {printable(text)}")
    finally:
        shown.close()


def _live_line(stream: IO[str], total: float | None) -> "LiveLine":
    from commprof.commbench.display.live_line import LiveLine  # 50 ms, before the work and not within it

    return LiveLine(stream, total)


def terminal() -> IO[str] | None:
    """Return the terminal that people watch this process on; None where there is none, or one that cannot erase a line.

    A rank's standard error passes through its launcher; then it is the terminal of standard output, where that is one.
    """
    if is_terminal(sys.stderr):
        return sys.stderr
    return sys.stdout if TERMINAL_VARIABLE in os.environ and is_terminal(sys.stdout) else None


def format_wait(seconds: float) -> str:
    """Write a time to wait, rounded as an estimate deserves: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
