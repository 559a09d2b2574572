"""What every answer can do: become a table, a figure, a page's element, or the text that its verb prints."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from commprof.commbench.display.sheet import Block, plain_text
from commprof.commbench.units import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

_MAX_ROWS = 60


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

    def _repr_html_(self) -> str:
        table = self.to_frame().to_html(index=False, na_rep="", max_rows=_MAX_ROWS, float_format="{:.4g}".format)
        return f"<p>{escape(printable(self.headline()))}</p>{table}"
