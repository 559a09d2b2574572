"""What is done to an input: a few changes, drawn without knowing it, that fit any file.

A place is a share of the input's length, or the next token there (a number, a quoted text, a word), so one drawn list of
changes serves every input, and shrinks.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hypothesis import strategies as st

_TOKEN = re.compile(rb'"[^"\n]*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|[A-Za-z_]+')
_MAX_GROWTH_BYTES = 2**16

# Values at the edges of types, of physics and of sense.
_WORDS = (
    "0 -1 1 -0.0 0.5 2 7 65536 65537 2147483648 9007199254740993 9223372036854775807 18446744073709551616 1e17 1e300 1e400 "
)
_WORDS += '-1e300 1e-300 5e-324 1e-13 NaN Infinity -inf null true false [] {} [0] [[1]] "" "x" "0" "1e9" float7 all_reduce '
_WORDS += "barrier all_gather send_recv gloo study running in_place GB/s GPUs ranks root - | # , ' ${oc.env:HOME} *a &a"
ODD = (
    *_WORDS.encode().split(),
    *(b'"\x1b[31m"', b'"\\ud800"', '"\u202e\u00e4\u2028"'.encode(), b"\x00", b"\xff\xfe", b"\n", b"\r", b"\t"),
    *(b"9" * 400, b'"' + b"x" * 3000 + b'"', b"[" * 3000, b'{"a":' * 500),
)


class Change(NamedTuple):
    """One change: where it begins, how far it reaches (both shares of the whole), and what is put there."""

    kind: str
    at: float
    reach: float
    value: bytes


def _token(content: bytes, change: Change) -> bytes:
    start, end = _token_at(content, change.at)
    return content[:start] + change.value + content[end:]


def _swap(content: bytes, change: Change) -> bytes:
    (a, b), (c, d) = sorted(_token_at(content, share) for share in (change.at, change.reach))
    return content if c < b else content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def _byte(content: bytes, change: Change) -> bytes:
    start = int(change.at * len(content))
    return content[:start] + change.value[:1] + content[start + 1 :]


def _insert(content: bytes, change: Change) -> bytes:
    start = int(change.at * len(content))
    return content[:start] + change.value + content[start:]


def _delete(content: bytes, change: Change) -> bytes:
    start = int(change.at * len(content))
    return content[:start] + content[start + 1 + int(change.reach**3 * (len(content) - start)) :]


def _repeat(content: bytes, change: Change) -> bytes:
    start = int(change.at * len(content))
    part = content[start : start + 1 + int(change.reach**3 * (len(content) - start))]
    return content[:start] + part * min(40, _MAX_GROWTH_BYTES // len(part)) + content[start:] if part else content


def _cut(content: bytes, change: Change) -> bytes:
    return content[: int(change.at * len(content))]


_KINDS: dict[str, Callable[[bytes, Change], bytes]] = {
    "token": _token,
    "swap": _swap,
    "byte": _byte,
    "insert": _insert,
    "delete": _delete,
    "repeat": _repeat,
    "cut": _cut,
}
_SHARE = st.floats(0, 1, exclude_max=True)
# Tokens most: what is still well formed gets past the parser.
CHANGES = st.lists(
    st.builds(
        Change,
        kind=st.sampled_from(["token"] * 6 + sorted(_KINDS)),
        at=_SHARE,
        reach=_SHARE,
        value=st.sampled_from(ODD) | st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=3,
)


def mutated(content: bytes, changes: Sequence[Change]) -> bytes:
    """Return an input with these changes, one after the other."""
    for change in changes:
        content = _KINDS[change.kind](content, change)
    return content


def _token_at(content: bytes, share: float) -> tuple[int, int]:
    """Return where the first token after a place begins and ends; the end of the input where none does."""
    match = _TOKEN.search(content, int(share * len(content)))
    return match.span() if match else (len(content), len(content))
