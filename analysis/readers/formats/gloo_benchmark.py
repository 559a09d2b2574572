"""gloo's own benchmark: the algorithm as a title, `Options: processes=4, inputs=1`, then `size (B) elements min p50 p99 max`.

us, or ns with --nanos; the median is taken. Before 2021 there is no size, only elements, which are float. Its bandwidth is in
2^30 bytes and is left out. Each call is timed by itself.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from commprof.analysis.readers.foreign import ForeignSweep, ForeignTime, figure, whole_number
from commprof.analysis.readers.operation import operation_in
from commprof.commbench.errors import UnusableData

MARK = re.compile(r"Options: +processes=(\d{1,6}), inputs=(\d{1,6})")
_TITLE = re.compile(r"^\s*(?:Algorithm: +)?((?:[a-z0-9]+_)*[a-z0-9]+)\s*$", re.IGNORECASE)
_OTHER = re.compile("barrier|send|pairwise|local")  # no collective of ours, or a pair
_FLOAT_BYTES = 4


def read_gloo_benchmark(text: str) -> tuple[ForeignSweep, ...]:
    """Read every table of a collective; raises UnusableData where there is none."""
    lines = [line[:500] for line in text.splitlines()]
    starts = [index for index, line in enumerate(lines) if MARK.search(line)]
    tables = pairwise([*starts, len(lines)])
    found = tuple(sweep for start, end in tables if (sweep := _sweep(lines[:start], lines[start:end])) is not None)
    if not found:
        raise UnusableData("gloo's benchmark names no collective with sizes in it (a pair is measured with commprof links)")
    return found


def _sweep(above: Sequence[str], lines: Sequence[str]) -> ForeignSweep | None:
    options = MARK.search(lines[0])
    titles = [match[1].lower() for line in above if (match := _TITLE.match(line))]
    op = operation_in(titles[-1]) if titles and not _OTHER.search(titles[-1]) else None
    header = next((line for line in lines if {"elements", "p50"} <= set(line.split())), None)
    if options is None or op is None or header is None:
        return None
    columns = re.sub(r"\s+\(", "(", header).split()
    names = [name.partition("(")[0] for name in columns]
    median, unit = names.index("p50"), 1e-9 if "(ns)" in header else 1e-6
    times = [
        ForeignTime(message_bytes=size, time_s=time_s, in_place=True)
        for words in map(str.split, lines)
        if len(words) == len(columns)
        and (size := _size(words, names)) is not None
        and (time_s := figure(words[median], unit)) is not None
    ]
    if not times:
        return None
    inputs = int(options[2])
    return ForeignSweep(
        dialect="gloo's benchmark",
        times=tuple(times),
        op=op,
        op_source=f"its title says {titles[-1]}",
        num_ranks=int(options[1]),
        ranks_source="its options (processes)",
        sizes_per_rank=op in ("all_gather", "all_to_all", "gather", "scatter"),
        backend="gloo",
        notes=(f"each process gave {inputs} buffers, reduced among themselves first",) if inputs > 1 else (),
    )


def _size(words: Sequence[str], names: Sequence[str]) -> int | None:
    if "size" in names:
        return whole_number(words[names.index("size")])
    elements = whole_number(words[names.index("elements")])
    return None if elements is None else elements * _FLOAT_BYTES
