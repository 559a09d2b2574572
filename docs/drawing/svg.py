"""Shapes and words of the picture, as SVG that is read in light and in dark.

Colours are classes with one rule for each scheme. Text is set by the reader's own font, so widths are estimated from the number
of letters, on the wide side.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

LETTER = 6.6  # pixels of a letter of 12 px, wide for most fonts
Point = tuple[float, float]

_ROUND = 7.0  # of an arrow's corners

STYLE = """
  svg { --paper: #ffffff; --floor: #f4f6f8; --box: #ffffff; --line: #c3ccd4; --ink: #1b242c; --soft: #5b6772;
        --way: #0072b2; --tint: #e9f3fa; --verb: #a3480a; --arrow: #8894a0; }
  @media (prefers-color-scheme: dark) {
    svg { --paper: #0f1419; --floor: #171e25; --box: #1f2831; --line: #3b4752; --ink: #e8edf1; --soft: #9dabb7;
          --way: #6cbcf0; --tint: #17303f; --verb: #f0a868; --arrow: #74818d; }
  }
  text { font-family: system-ui, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif; font-size: 12px; fill: var(--ink); }
  .paper { fill: var(--paper); }
  .floor { fill: var(--floor); stroke: var(--line); }
  .box { fill: var(--box); stroke: var(--line); }
  .way { fill: var(--tint); stroke: var(--way); stroke-width: 1.5; }
  .title { font-size: 16px; font-weight: 700; }
  .name { font-size: 14px; font-weight: 650; }
  .soft { fill: var(--soft); }
  .count { fill: var(--soft); font-size: 11px; text-anchor: end; }
  .verb { font-family: ui-monospace, "SFMono-Regular", "DejaVu Sans Mono", monospace; font-size: 11.5px; fill: var(--verb); }
  .middle { text-anchor: middle; }
  .arrow { fill: none; stroke: var(--arrow); stroke-width: 1.4; }
  .arrow-way { fill: none; stroke: var(--way); stroke-width: 2; }
  .head { fill: var(--arrow); }
  .head-way { fill: var(--way); }
"""


@dataclass(frozen=True)
class Rect:
    """A place in the picture, in pixels from its upper left corner."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Where it ends on the right."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """Where it ends below."""
        return self.y + self.height

    @property
    def middle(self) -> float:
        """Half way between left and right."""
        return self.x + self.width / 2


def document(width: float, height: float, title: str, description: str, shapes: Sequence[str]) -> str:
    """Return the whole picture; screen readers are told its title and its description."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(width)} {_n(height)}" '
        f'width="{_n(width)}" height="{_n(height)}" role="img" aria-labelledby="title description">'
    )
    marks = "".join(
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="{size}" markerHeight="{size}" orient="auto" '
        f'markerUnits="userSpaceOnUse"><path class="{name}" d="M0 0 8 4 0 8z"/></marker>'
        for name, size in (("head", 9), ("head-way", 11))
    )
    told = f'<title id="title">{escape(title)}</title>\n<desc id="description">{escape(description)}</desc>'
    paper = rectangle("paper", Rect(0, 0, width, height), radius=12)
    return "\n".join([head, told, f"<style>{STYLE}</style>", f"<defs>{marks}</defs>", paper, *shapes, "</svg>"]) + "\n"


def rectangle(kind: str, at: Rect, radius: float = 8) -> str:
    """Return a box with round corners."""
    size = f'width="{_n(at.width)}" height="{_n(at.height)}" rx="{_n(radius)}"'
    return f'<rect class="{kind}" x="{_n(at.x)}" y="{_n(at.y)}" {size}/>'


def words(x: float, y: float, *parts: tuple[str, str]) -> str:
    """Return one line of text that stands on y, of parts with a kind each, which follow one another in any font."""
    first, *others = (f'class="{kind}">{escape(text)}' for kind, text in parts)
    rest = "".join(f'<tspan dx="9" {part}</tspan>' for part in others)
    return (
        f'<text x="{_n(x)}" y="{_n(y)}" {first}{rest}</text>'
        if not rest
        else (f'<text x="{_n(x)}" y="{_n(y)}"><tspan {first}</tspan>{rest}</text>')
    )


def wrapped(text: str, width: float) -> list[str]:
    """Cut text into lines of at most so many pixels."""
    return textwrap.wrap(text, int(width / LETTER))


def arrow(points: Sequence[Point], *, way: bool) -> str:
    """Return a line through the points with an arrow's head at its end; its corners are round."""
    path = [f"M{_n(points[0][0])} {_n(points[0][1])}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        start, end = _towards(corner, before), _towards(corner, after)
        path.append(f"L{_n(start[0])} {_n(start[1])}Q{_n(corner[0])} {_n(corner[1])} {_n(end[0])} {_n(end[1])}")
    path.append(f"L{_n(points[-1][0])} {_n(points[-1][1])}")
    kind = "-way" if way else ""
    return f'<path class="arrow{kind}" d="{"".join(path)}" marker-end="url(#head{kind})"/>'


def _towards(corner: Point, other: Point) -> Point:
    """Return the point where a round corner begins, on its way to another point."""
    length = abs(other[0] - corner[0]) + abs(other[1] - corner[1])
    share = min(_ROUND, length / 2) / length
    return corner[0] + share * (other[0] - corner[0]), corner[1] + share * (other[1] - corner[1])


def _n(value: float) -> str:
    """Return a number without digits that nobody sees."""
    return f"{value:.1f}".removesuffix(".0")
