"""Text from files -> text that LaTeX prints as it is, and never obeys.

Each character that TeX acts upon becomes a command that prints it; signs that two of would make a third (-- a dash, ,, a quote)
are kept apart; brackets and stars cannot be taken for a command's options. Names too long for a line get places to break.
"""

import re

from markupsafe import Markup

from commprof.analysis.report.numbers.plain_text import plain

_COMMANDS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "$": r"\$",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "\u00b5": r"\textmu{}",
    "\u00b0": r"\textdegree{}",
    "\u00b1": r"\textpm{}",
}
_LONG_WORD = 16  # characters: longer ones may break at their signs
LONGEST_PIECE = 16  # characters: no piece between two places to break is longer
_BREAK_AFTER = frozenset("/_.:=,;|&?+")
_PIECE = re.compile(r"[^-/_.:=,;|&?+]*[-/_.:=,;|&?+]?")
_LIGATURE = re.compile(r"-(?=-)|,(?=,)")


def latex(text: str) -> Markup:
    """Return LaTeX that prints this text."""
    return Markup(" ".join(map(_word, plain(text).split(" "))))  # noqa: S704  every character has passed _COMMANDS


def longest_piece(text: str) -> int:
    """Return the characters of the longest piece that `latex` leaves whole: the narrowest line that can hold the text."""
    words = plain(text).split(" ")
    pieces = (piece for word in words for piece in (_PIECE.findall(word) if len(word) > _LONG_WORD else [word]))
    return min(max(map(len, pieces)), LONGEST_PIECE)


def _word(word: str) -> str:
    since_break, pieces = 0, []
    for character in word:
        pieces.append(_COMMANDS.get(character, character))
        since_break += 1
        if character == "-":  # TeX breaks after hyphens unasked
            since_break = 0
        elif len(word) > _LONG_WORD and (character in _BREAK_AFTER or since_break == LONGEST_PIECE):
            pieces.append(r"\allowbreak{}")
            since_break = 0
    return _LIGATURE.sub(lambda match: f"{match[0]}{{}}", "".join(pieces))
