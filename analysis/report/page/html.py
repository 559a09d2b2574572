"""A report as a value, and that value as one HTML page: no network, no script but one of its own, light and dark.

Everything in the value is untrusted text. It passes `printable` and HTML escaping at one place, the template's output;
only the figures, made here, go through as they are.
"""

import base64
import hashlib
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import matplotlib
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from commprof.analysis.report.explorer.page_data import Explorer
from commprof.analysis.report.figures.canvas import BLUE, GREEN, GREY, INK, ORANGE, PAPER, PURPLE, SKY, VERMILLION, styled
from commprof.analysis.report.page.marks import marks_of
from commprof.analysis.scaling.decision import Answer
from commprof.commbench.units import printable

_TEMPLATE = "report.html.j2"
_NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}
# The page sets these for light and for dark.
_PAGE_COLOURS = {INK: "currentColor", PAPER: "var(--page)"} | {
    colour: f"var(--{name})"
    for name, colour in {
        "grey": GREY,
        "blue": BLUE,
        "vermillion": VERMILLION,
        "green": GREEN,
        "purple": PURPLE,
        "orange": ORANGE,
        "sky": SKY,
    }.items()
}
_COLOUR = re.compile("|".join(_PAGE_COLOURS))
_GROUP_ID = re.compile(r'<g id="[^"]*"')
_HEAD = re.compile(r"^.*?<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>", re.DOTALL)
_PLACES = re.compile(r' (?:d|x|y|transform|points)="[^"]*"')
_LONG_NUMBER = re.compile(r"-?\d+\.\d{2,}")
# What the page's style sheet says of every figure, and turns by nothing.
_SAID_BY_THE_PAGE = re.compile(
    r" transform=\"rotate\(-0 [^\"]*\"|font-size: 11px; |font-family: [^;\"]*; |; stroke-linecap: (?:square|butt)"
)
_STYLE = re.compile(r'style="[^"]*"')
_BETWEEN_TAGS = re.compile(r">\s+<")
_STYLE_SHEET = re.compile(r"<defs>\s*<style.*?</defs>", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A file to open: `href` is relative to the report and percent-encoded."""

    text: str
    href: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """A value and, below it, what belongs to it: the interval in which a number lies, the setting behind a change."""

    value: str
    note: str


Cell = str | Link | Noted


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under a head; the columns in `words` hold words, the others numbers. Folded away until asked for, or not."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: frozenset[int]
    note: str = ""
    folded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A figure with what a reader needs to trust it: what it shows, from how many samples, from which raw files.

    `instead` is what a page says in its place where these data leave nothing to see in it. `draw` makes the figure, only where
    it is looked at.
    """

    name: str
    title: str
    draw: Callable[[], Figure]
    alt: str
    caption: str
    sources: tuple[str, ...]
    instead: str = ""

    @property
    def figure(self) -> Figure:
        """The figure, drawn anew."""
        return self.draw()

    @property
    def svg(self) -> Markup:
        return inline_svg(self.figure, self.name, self.alt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One answer: sentences, then what can be tried out, pictures, tables, and what else must be said.

    A `folded` one shows its first sentence alone until it is opened.
    """

    name: str
    title: str
    sentences: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    remarks: tuple[str, ...] = ()
    explorer: Explorer | None = None
    folded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """One big number, the interval in which it lies, and what it is; `detail` is what it was expected to be."""

    number: str
    meaning: str
    detail: str
    interval: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The whole page, the verdict first: `sentences` are its six lines; `sources` are the files that they rest on.

    `answer` is the verdict in a few words and `sign` its colour, for the navigation. `pictures` stand right below what can be
    tried out. `summary` and `measured` stand in place of all sections in a short answer: one table, and in a sentence how its
    numbers came about.
    """

    title: str
    subtitle: str
    headline: Headline | None
    sentences: tuple[str, ...]
    sources: tuple[str, ...]
    warnings: tuple[str, ...]
    pictures: tuple[Picture, ...]
    sections: tuple[Section, ...]
    written_at: str
    answer: str = ""
    sign: Answer = "unknown"
    summary: Table | None = None
    measured: str = ""

    @property
    def script(self) -> Markup:
        """The script that every page has."""
        return Markup(_script())  # noqa: S704  our own file

    @property
    def script_hashes(self) -> tuple[str, ...]:
        """What the page's policy must name for the browser to run its scripts, and no others."""
        own = "sha256-" + base64.b64encode(hashlib.sha256(_script().encode()).digest()).decode()
        return own, *(section.explorer.script_hash for section in self.sections if section.explorer is not None)

    @property
    def trials(self) -> tuple[Section, ...]:
        """The sections in which something can be tried out, which stand right after the verdict."""
        return tuple(section for section in self.sections if section.explorer is not None)

    @property
    def others(self) -> tuple[Section, ...]:
        return tuple(section for section in self.sections if section.explorer is None)


def between(low: float, high: float, form: Callable[[float], str]) -> str:
    """Write a range, the unit once where both ends have the same: 455 to 496 us."""
    first, last = form(low), form(high)
    number, _, unit = first.partition(" ")
    return f"{number if last.endswith(f' {unit}') else first} to {last}"


def render(report: Report) -> str:
    """Return the page; a name that the template misspells raises instead of showing nothing."""
    return _template().render(report=report)


@cache
def _script() -> str:
    return files(__package__).joinpath("page.js").read_text("utf-8")


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader(__package__, ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE)


def inline_svg(figure: Figure, name: str, alt: str) -> Markup:
    """Return the figure as an SVG element that takes the page's ink, palette and font; `name` keeps its ids its own."""
    buffer = io.StringIO()
    with styled():
        matplotlib.rcParams["svg.hashsalt"] = name  # until the style is left, which sets all as it was
        figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    svg = _GROUP_ID.sub("<g", buffer.getvalue())  # matplotlib numbers its groups alike in every figure
    svg = _STYLE_SHEET.sub("", svg)
    head = f'role="img" tabindex="0" aria-label="{escape(_text(alt))}"'
    svg = _HEAD.sub(lambda match: f"<svg {match[1]} {head}>", svg, count=1)
    svg = svg.replace("</svg>", f'<g fill="transparent">{"".join(_shown_marks(figure))}</g></svg>')
    svg = svg.replace("'DejaVu Sans'", "system-ui")
    svg = _BETWEEN_TAGS.sub("><", _PLACES.sub(_shortened, _SAID_BY_THE_PAGE.sub("", svg)))
    svg = _STYLE.sub(lambda style: style[0].replace("; ", ";").replace(": ", ":"), svg)
    return Markup(_COLOUR.sub(lambda match: _PAGE_COLOURS[match[0]], svg))  # noqa: S704  matplotlib escapes its text


def _shortened(places: re.Match[str]) -> str:
    """Write places to a tenth of a point, on one line: half of a page is places."""
    return _LONG_NUMBER.sub(lambda number: f"{float(number[0]):.1f}", " " + " ".join(places[0].split()))


def _shown_marks(figure: Figure) -> Iterator[str]:
    for mark in marks_of(figure):
        place = f'x="{mark.x}" y="{mark.y}" width="{mark.width}" height="{mark.height}"'
        yield f'<rect class="mark" {place} data-say="{escape(_text(mark.words))}"/>'


def _shown(value: object) -> object:
    """Make a value of the template safe to print; names of files that are no UTF-8 lose what cannot be written."""
    return value if isinstance(value, Markup) else _text(str(value))


def _text(value: str) -> str:
    return printable(value.encode(errors="replace").decode())
