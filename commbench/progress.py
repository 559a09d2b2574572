"""Progress on standard error: a bar on a terminal, a plain line every few seconds in a log, nothing from other ranks."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from commbench.units import printable

_LINE_EVERY_S = 5.0


class Report(Protocol):
    def __call__(self, done: int, text: str) -> None:
        """Say how many units are done, and what the latest one gave."""


@contextmanager
def progress(title: str, total: int, *, first: int = 0, enabled: bool = True) -> Iterator[Report]:
    """Yield a function that reports progress of `total` units, `first` of them done before, with the time that remains."""
    if not enabled:
        yield lambda done, text: None
    elif sys.stderr.isatty():
        yield from _bar(title, total, first)
    else:
        yield _lines(title, total, first)


@contextmanager
def activity(title: str) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows the latest word of something under way: beside a spinner, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(escape(title)) as status:
        yield lambda text: status.update(escape(f"{title}  {printable(text)[:60]}"))


def _bar(title: str, total: int, first: int) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[text]}"), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, completed=first, text="")
        yield lambda done, text: bar.update(task, completed=done, text=text)


def _lines(title: str, total: int, first: int) -> Report:
    start_s = time.monotonic()
    last_s = start_s

    def report(done: int, text: str) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if done < total and now_s - last_s < _LINE_EVERY_S:
            return
        last_s = now_s
        remaining_s = (now_s - start_s) / max(done - first, 1) * (total - done)
        sys.stderr.write(f"{title} {done}/{total}  {text}  remaining {remaining_s:.0f} s\n")
        sys.stderr.flush()

    return report
