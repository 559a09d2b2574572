"""What the predicted step is made of, for a terminal: parts that add up to it, 80 columns."""

from collections.abc import Sequence

from commprof.analysis.step.closing import closing
from commprof.analysis.step.results import Overhead

_HEAD = ("one rank", "slower", "waiting", "copies", "exposed")


def parts_table(overheads: Sequence[Overhead]) -> list[str]:
    """Lay out each world size's step: one rank's share of it, and what N ranks add."""
    lines = [
        "the schedule's step and its parts: one rank's, slower computation, waiting for",
        "the slowest rank, copies into and out of buckets, exposed communication",
        f"{'ranks':>5}  {'  '.join(f'{name:>9}' for name in _HEAD)}  {'step':>10}",
    ]
    for o in overheads:
        parts, step = closing((o.single_step_s, o.compute_s, o.waiting_s, o.copies_s, o.exposed_s))
        lines.append(f"{o.world_size:>5}  {'  '.join(f'{part:>9}' for part in parts)}  {step:>10}")
    return lines
