"""A figure -> a file for a paper or a slide: PNG at 200 dots per inch, SVG or PDF.

Vector files keep text as text: SVG as such, PDF with its TrueType font inside (type 42), which publishers and editors take. No
file holds a date, so that the same data give the same file.
"""

from pathlib import Path
from typing import Literal

import matplotlib
from matplotlib.figure import Figure

from commprof.analysis.report.figures.canvas import styled
from commprof.commbench.records.rundir import replacing

FigureFormat = Literal["png", "svg", "pdf"]
FORMATS: tuple[FigureFormat, ...] = ("png", "svg", "pdf")

_NO_DATES: dict[FigureFormat, dict[str, str | None]] = {
    "png": {"Software": None},
    "svg": {"Creator": None, "Date": None, "Format": None, "Type": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}
_DOTS_PER_INCH = 200


def write_figure(figure: Figure, path: Path, form: FigureFormat) -> None:
    """Write the figure on white paper, replacing the file as a whole."""
    with styled(), matplotlib.rc_context({"pdf.fonttype": 42, "svg.hashsalt": path.stem}), replacing(path) as file:
        figure.savefig(file, format=form, dpi=_DOTS_PER_INCH, facecolor="white", metadata=_NO_DATES[form])
