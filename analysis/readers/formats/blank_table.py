"""Tables parted by blanks whose header names its units: `size(B) count type time(us) algbw(GB/s) busbw(GB/s)`.

AWS's nccom-test and NVSHMEM's collective tests print such; the collective stands in the command line or the title above.
What the names mean, named_columns.py says. NVSHMEM's size is the one that its own algbw is worked out from.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from commprof.analysis.readers.foreign import ForeignSweep
from commprof.analysis.readers.formats.named_columns import Statement, columns_of, sweeps_of

_MAX_LINE = 500
_NCCOM = re.compile(r"\bnccom-test\b(.{0,400})")
_NCCOM_OPS = {"allr": "all_reduce", "allg": "all_gather", "redsct": "reduce_scatter", "sendrecv": "send_recv"}
_NCCOM_OPS |= {"alltoall": "all_to_all", "alltoallv": "all_to_all", "all_reduce": "all_reduce", "all_gather": "all_gather"}
_NCCOM_RANKS = re.compile(r"(?:^|\s)(?:-r|--nworkers)[ =]*(\d{1,6})\b")
_NCCOM_NODES = re.compile(r"(?:^|\s)(?:-N|--nnodes)[ =]*(\d{1,6})\b")
_SHMEM = re.compile(r"^#\s*(?:host_|device_)?(reduction|reducescatter|alltoall|broadcast|bcast|fcollect)\w*\s*$")
_SHMEM_OPS = {"reduction": "all_reduce", "reducescatter": "reduce_scatter", "alltoall": "all_to_all", "fcollect": "all_gather"}
_SHMEM_OPS |= {"broadcast": "broadcast", "bcast": "broadcast"}
_SHMEM_PE = re.compile(r"^mype: \d{1,6} mype_node: (\d{1,6}) ")


def read_blank_table(text: str) -> tuple[ForeignSweep, ...]:
    """Read every table with a header of named units and at least one row; nothing where there is none."""
    lines = [line[:_MAX_LINE] for line in text.splitlines()]
    starts = [index for index, line in enumerate(lines) if _is_header(line)]
    found: list[ForeignSweep] = []
    for start, end in pairwise([*starts, len(lines)]):
        columns = columns_of(_cells(lines[start]))
        rows = [
            dict(zip(columns, cells, strict=True)) for line in lines[start + 1 : end] if _is_row(cells := _cells(line), columns)
        ]
        if rows:
            found += sweeps_of(rows, _said(lines[:start]))
    return tuple(found)


def _is_header(line: str) -> bool:
    names = columns_of(_cells(line))
    return bool(names) and any(name.startswith("time:") and name != "time:" for name in names)


def _is_row(cells: Sequence[str], columns: Sequence[str]) -> bool:
    return len(cells) == len(columns) and cells[0][:1].isdecimal()


def _cells(line: str) -> list[str]:
    """Part a line at blanks, a unit in brackets from its name not."""
    return re.sub(r"\s+\(", "(", line.strip().lstrip("#")).split()


def _said(above: Sequence[str]) -> Statement:
    """Return what the lines above a table say of it, the nearest first."""
    for line in reversed(above):
        if match := _NCCOM.search(line):
            return _nccom(match[1])
        if match := _SHMEM.match(line):
            ranks = sum(_SHMEM_PE.match(line) is not None for line in above)
            return Statement(
                dialect="NVSHMEM",
                op=_SHMEM_OPS[match[1]],
                op_source=f"the table's title says {match[1]}",
                num_ranks=ranks or None,
                ranks_source="its mype lines",
                backend="nvshmem",
            )
    return Statement(dialect="a table with named units")


def _nccom(arguments: str) -> Statement:
    words = [word for word in arguments.split() if word in _NCCOM_OPS]
    ranks, nodes = _NCCOM_RANKS.search(arguments), _NCCOM_NODES.search(arguments)
    return Statement(
        dialect="nccom-test",
        op=_NCCOM_OPS[words[-1]] if words else None,
        op_source=f"its command line says {words[-1]}" if words else "",
        num_ranks=int(ranks[1]) if ranks else None,
        ranks_source="its command line (-r)",
        num_nodes=int(nodes[1]) if nodes else None,
        nodes_source="its command line (-N)",
        backend="neuron",
    )
