"""How does work under way look on a terminal? One line by rich, drawn again in place and gone at the end.

    [bar] what is done, what it gave        what remains

No thread draws it: it stands still until it is told to change, which takes rich 0.3 ms. What remains is never cut; the rest is
where the terminal is too narrow, and below 100 columns there is no bar. The cursor stays visible, so that a process which is
killed leaves nothing to mend but the line.
"""

from typing import IO

from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.table import Column
from rich.text import Text

from commprof.commbench.display.tables import console_on
from commprof.commbench.display.terminal import clear_line

_BAR = 20
_ROOM_FOR_A_BAR = 100


class _Field(ProgressColumn):
    """One of the task's texts, on one line; with `whole` it is never cut."""

    def __init__(self, name: str, *, whole: bool) -> None:
        super().__init__(Column(no_wrap=whole))  # rich takes the width that lacks from columns that may wrap
        self._name = name

    def render(self, task: Task) -> Text:
        return Text(task.fields[self._name], no_wrap=True, overflow="crop")


class LiveLine:
    """The line; `total` is None for work that nobody can count. It appears when it is first drawn."""

    def __init__(self, stream: IO[str], total: float | None) -> None:
        console = console_on(stream)
        has_bar = total is not None and console.width >= _ROOM_FOR_A_BAR
        self._stream, self._closed = stream, False
        self._progress = Progress(
            *([BarColumn(_BAR, style="dim", complete_style="bold", finished_style="bold")] if has_bar else []),
            _Field("words", whole=False),
            _Field("left", whole=True),
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=total, words="", left="")

    def draw(self, words: str, left: str = "", done: float = 0) -> None:
        """Put this in place of what stands there; printable text."""
        if self._closed:
            return  # a thread that hears of the work may hear of its end later
        self._progress.update(self._task, completed=done, words=words, left=left and f" {left}")
        if self._progress.live.is_started:
            self._progress.refresh()
        else:
            clear_line(self._stream)
            self._progress.start()
            self._progress.console.show_cursor(True)

    def wipe(self) -> None:
        """Make room for other output, until it is drawn again."""
        if self._progress.live.is_started:
            clear_line(self._stream)

    def close(self) -> None:
        """Take it away for good."""
        self._closed = True
        self._progress.stop()
