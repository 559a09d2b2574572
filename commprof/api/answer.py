"""What every answer can do: become a table, a figure, a page's element, or the text that its verb prints.

An answer is equal to itself alone: it may hold arrays of events, and what is derived from the same files twice is two answers.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from html import escape
from itertools import islice
from typing import TYPE_CHECKING

from commprof.api.frames import html_table
from commprof.commbench.display.sheet import Block, plain_text
from commprof.commbench.units import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

_MAX_NAMES = 8
_MAX_WORDS = 20_000  # characters; a notebook keeps them


class Answer(ABC):
    """An answer of commprof. `str()` is what the verb prints."""

    __slots__ = ()

    @abstractmethod
    def to_frame(self) -> "DataFrame":
        """Return the answer as a tidy table."""

    @abstractmethod
    def plot(self) -> "Figure":
        """Draw the answer; the figure belongs to nobody's pyplot."""

    @abstractmethod
    def sheet(self) -> Sequence[Block]:
        """Return what the verb shows."""

    def __str__(self) -> str:
        return plain_text(self.sheet())

    @abstractmethod
    def headline(self) -> str:
        """Return the answer in one line."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {printable(self.headline())}>"

    def _repr_html_(self) -> str:
        words = str(self)
        if len(words) > _MAX_WORDS:
            words = words[:_MAX_WORDS].rpartition("\n")[0] + "\n... print the answer for all of it"
        folded = f"<details><summary>in words</summary><pre>{escape(words)}</pre></details>"
        return f"<p>{escape(printable(self.headline()))}</p>{html_table(self.to_frame())}{folded}"


def some(names: Iterable[str], separator: str = ", ") -> str:
    """Join the first few of what may be hundreds."""
    first = list(islice(names, _MAX_NAMES + 1))
    return separator.join(first[:_MAX_NAMES]) + f"{separator}..." * (len(first) > _MAX_NAMES)
