"""What is the predicted step made of? Parts that add up to it, as a table."""

from collections.abc import Sequence

from commprof.analysis.step.closing import closing
from commprof.analysis.step.results import Overhead
from commprof.commbench.display.sheet import Block, Column, Row, Table, line

_COLUMNS = (
    Column(name="ranks", width=5, before="", key=True),
    *(Column(name=name, width=9) for name in ("one rank", "slower", "waiting", "copies", "exposed")),
    Column(name="step", width=10),
)


def parts_blocks(overheads: Sequence[Overhead]) -> list[Block]:
    """Lay out each world size's step: one rank's share of it, and what N ranks add."""
    return [
        line("the schedule's step and its parts: one rank's, slower computation, waiting for"),
        line("the slowest rank, copies into and out of buckets, exposed communication"),
        Table(columns=_COLUMNS, rows=[_row(overhead) for overhead in overheads]),
    ]


def _row(o: Overhead) -> Row:
    parts, step = closing((o.single_step_s, o.compute_s, o.waiting_s, o.copies_s, o.exposed_s))
    return Row((str(o.world_size), *parts, step))
