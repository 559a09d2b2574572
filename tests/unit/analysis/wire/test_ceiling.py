"""What a ring could reach at best on an emulated wire, worked out by hand; elsewhere nothing is said."""

from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.runs.load import Run
from commprof.analysis.wire.ceiling import wire_ceiling
from tests.factory import run_info


@pytest.mark.parametrize(
    ("wire", "world_size", "num_nodes", "expected"),
    [
        ("1gbit", 4, 4, 125e6),
        ("1gbit", 8, 4, 125e6),  # a ring leaves each host once, however many ranks it has
        ("1gbit", 2, 1, None),  # they talk through memory
        ("1gbit,1gbit,200mbit,1gbit", 4, 4, 25e6),
        ("1gbit,1gbit,200mbit,1gbit", 2, 2, 125e6),  # the slow host is not among them
        ("1gbit,1gbit,200mbit,1gbit", 5, 5, None),  # a name that is not of this run
        ("1gbit+spine2gbit", 4, 4, 62.5e6),  # four hosts share 250 MB/s
        ("1gbit+spine2gbit", 2, 2, 125e6),
        ("1gbit+inside10gbit+spine2gbit", 2, 1, 1.25e9),
        ("1gbit+inside10gbit+spine2gbit", 4, 2, 125e6),
        ("1gbit+5ms+loss0.1%", 4, 4, 125e6),
        ("ethernet", 4, 4, None),
    ],
)
def test_the_busiest_line_is_the_ceiling(wire: str, world_size: int, num_nodes: int, expected: float | None) -> None:
    info = replace(run_info(world_size=world_size), wire=wire, num_nodes=num_nodes)
    found = wire_ceiling(Run(path=Path("none"), info=info, collectives=(), steps={}, gradients=None))
    assert found.busbw_bytes_per_s == (None if expected is None else pytest.approx(expected))
    assert found.reason
