"""How are verdicts shown? What asks most of a reader first, and a count of each kind."""

from collections.abc import Sequence

from commprof.analysis.health.results import Verdict
from commprof.commbench.display.sheet import Block, Cell, Column, Row, Table, Tone, line

_WORDS = ("FAIL", "NOTE", "SKIP", "PASS")
_TONES: tuple[Tone, ...] = ("bad", "note", "faint", "good")


def check_sheet(verdicts: Sequence[Verdict]) -> list[Block]:
    """Lay the verdicts out, those that could not be judged for one reason together, and count them."""
    columns = (
        Column(width=4, left=True, before="", key=True),
        Column(left=True, folds=True, key=True),
        Column(left=True, before=": ", folds=True),
    )
    return [Table(columns=columns, rows=_rows(verdicts), hanging=6), _summary(verdicts)]


def _rows(verdicts: Sequence[Verdict]) -> list[Row]:
    together: dict[tuple[int, str, str], list[str]] = {}
    for index, verdict in enumerate(verdicts):
        own = "" if verdict.ok is None else str(index)
        together.setdefault((verdict.rank, own, verdict.message), []).append(verdict.name)
    return [
        Row((Cell(_WORDS[rank], _TONES[rank]), Cell(", ".join(names), "strong"), message))
        for (rank, _, message), names in together.items()
    ]


def _summary(verdicts: Sequence[Verdict]) -> Block:
    failed, noted, unjudged, passed = (sum(verdict.rank == kind for verdict in verdicts) for kind in range(4))
    counts = f"{failed} failed, {noted} noted, {unjudged} not checked, {passed} passed"
    return line(f"{'FAIL' if failed else 'PASS'}: {counts}", "bad" if failed else "good")
