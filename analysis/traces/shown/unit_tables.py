"""How are a sharded training's units shown to people? A row for each collective of each unit, in a step's order."""

from collections.abc import Sequence

from commprof.analysis.traces.all_ranks.units import UnitStep, UnitSummary, summarise_units
from commprof.commbench.display.sheet import Block, Column, Row, Table, Words, line
from commprof.commbench.units import format_bytes, format_seconds

_MAX_ROWS = 24
_COLUMNS = (
    Column(name="unit", width=20, left=True, before="", folds=True, key=True),
    Column(name="operation", width=14, left=True, before=" "),
    Column(name="for", width=9, left=True, before=" "),
    Column(name="size", width=10, before=" "),
    Column(name="transfer", width=8, before=" "),
    Column(name="waiting", width=8, before=" "),
    Column(name="hidden", width=6, before=" "),
)


def unit_blocks(steps: Sequence[UnitStep]) -> list[Block]:
    """Return the table of units and the sentence under it; nothing where no unit was seen."""
    units = summarise_units(steps)
    if not units:
        return []
    more = len(units) - _MAX_ROWS
    ahead = sum(own.prefetched for own in units)
    return [
        line("sharded units (medians over steps of the mean over ranks)", "strong"),
        Table(columns=_COLUMNS, rows=[_row(own) for own in units[:_MAX_ROWS]]),
        *([line(f"and {more} other collectives of units; --json has all")] if more > 0 else []),
        Words(f"Asked for ahead of their pass, marked +: {ahead} of {sum(own.op == 'all_gather' for own in units)} gathers."),
    ]


def _row(own: UnitSummary) -> Row:
    size = "?" if own.message_bytes is None else format_bytes(own.message_bytes)
    hidden = "-" if own.hidden_share is None else f"{own.hidden_share:.0%}"
    served = f"{own.direction}{'+' * own.prefetched}"
    return Row((own.unit, own.op, served, size, format_seconds(own.transfer_s), format_seconds(own.waiting_s), hidden))
