"""Text from files -> text that LaTeX prints as it is, and never obeys.

Each character that TeX acts upon becomes a command that prints it; signs that two of would make a third (-- a dash, ,, a quote)
are kept apart; brackets and stars cannot be taken for a command's options. Names too long for a line get places to break.
"""

import re

from markupsafe import Markup

from analysis.plain_text import plain

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
_LONG_WORD = 16  # characters: in a narrow column no line holds more
_BREAK_AFTER = frozenset("/_.:=,;|&?+")
_LIGATURE = re.compile(r"-(?=-)|,(?=,)")


def latex(text: str) -> Markup:
    """Return LaTeX that prints this text."""
    return Markup(" ".join(map(_word, plain(text).split(" "))))  # noqa: S704  every character has passed _COMMANDS


def _word(word: str) -> str:
    since_break, pieces = 0, []
    for character in word:
        pieces.append(_COMMANDS.get(character, character))
        since_break += 1
        if len(word) > _LONG_WORD and (character in _BREAK_AFTER or since_break == _LONG_WORD):
            pieces.append(r"\allowbreak{}")
            since_break = 0
    return _LIGATURE.sub(lambda match: f"{match[0]}{{}}", "".join(pieces))
