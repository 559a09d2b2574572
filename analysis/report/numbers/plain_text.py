"""Text from files in characters that every font has: Latin letters, digits, signs. Nothing disappears, nothing is drawn wrong.

A TeX font or a figure's font lacks most of Unicode: what it lacks would stop pdflatex or come out as an empty box. Signs that
have a spelling get it, letters with marks lose them, all else is named by its code point: [U+1F600].
"""

import unicodedata

from commprof.commbench.units import printable

_SPELT = {
    **dict.fromkeys("\u2018\u2019\u201a\u2032", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u2033", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
    **dict.fromkeys("\u00a0\u2007\u2009\u202f", " "),
    "\u03bc": "\u00b5",
    "\u2026": "...",
    "\u2192": "->",
    "\u2264": "<=",
    "\u2265": ">=",
    "\u2248": "~",
}
_LONGEST_STEM = 80
_LATIN_LETTERS = frozenset(map(chr, range(0xC0, 0x100)))
_KNOWN = _LATIN_LETTERS | {"\u00b5", "\u00b0", "\u00b1"}


def plain(text: str) -> str:
    """Return the text in ASCII, Western Latin letters and the signs for micro, degree, plus-minus; controls are shown."""
    return "".join(map(_plain_character, printable(text)))


def shortened(text: str, longest: int) -> str:
    """Return plain text of at most `longest` characters, cut in its middle where it has more: names differ at their ends."""
    shown = plain(text)
    if len(shown) <= longest:
        return shown
    tail = (longest - 3) // 2
    return f"{shown[: longest - 3 - tail]}...{shown[-tail:]}"


def file_stem(text: str) -> str:
    """Return a file name made of a to z, 0 to 9 and hyphens that tells what the text does, its middle left out beyond 80."""
    letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    stem = "-".join("".join(c if c.isalnum() else " " for c in letters).split())
    if len(stem) > _LONGEST_STEM:
        half = _LONGEST_STEM // 2
        stem = f"{stem[: half - 1].strip('-')}-{stem[-half:].strip('-')}"
    return stem or "unnamed"


def _plain_character(character: str) -> str:
    if " " <= character <= "~" or character in _KNOWN:
        return character
    if character in _SPELT:
        return _SPELT[character]
    bare = "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))
    return bare if bare and bare.isascii() and bare.isprintable() else f"[U+{ord(character):04X}]"
