"""DeepSpeed's ds_bench: `---- Performance of all_reduce on 8 devices ----`, then Size, Description, Duration and rates.

The description `262144x4` is a rank's elements and their bytes, which is the size to the byte: the first column is rounded and
writes MB for 2^20. Its rates are by definitions of its own, in bits, and are left out. Calls follow each other.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from commprof.analysis.readers.foreign import ForeignSweep, ForeignTime, figure
from commprof.analysis.readers.formats.named_columns import OP_NAMES
from commprof.commbench.errors import UnusableData

TITLE = re.compile(r"Performance of (\w{1,40}) on (\d{1,6}) devices")
_ROW = re.compile(r"\b(\d{1,18})x(\d{1,2})\s+(\d{1,15}(?:\.\d{1,12})?)(?: (us|ms|s))?\s")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, None: 1e-6}  # --raw prints us and says so in the header
_DTYPES = {1: "int8", 2: "bfloat16", 4: "float32", 8: "float64"}


def read_ds_bench(text: str) -> tuple[ForeignSweep, ...]:
    """Read every table of a collective; raises UnusableData where there is none."""
    lines = [line[:500] for line in text.splitlines()]
    starts = [index for index, line in enumerate(lines) if TITLE.search(line)]
    tables = [lines[start:end] for start, end in pairwise([*starts, len(lines)])]
    found = tuple(sweep for table in tables if (sweep := _sweep(table)) is not None)
    if not found:
        raise UnusableData(
            "ds_bench's log has no table of a collective with rows (pt2pt is a pair: measure it with commprof links)"
        )
    return found


def _sweep(lines: Sequence[str]) -> ForeignSweep | None:
    title = TITLE.search(lines[0])
    times = [time for line in lines[1:] if (match := _ROW.search(f"{line} ")) and (time := _time(match)) is not None]
    if title is None or not times or title[1] == "pt2pt":
        return None
    guessed = any(time.dtype == "bfloat16" for time in times)
    return ForeignSweep(
        dialect="ds_bench",
        times=tuple(times),
        op=OP_NAMES.get(title[1], title[1]),
        op_source="its title",
        num_ranks=int(title[2]),
        ranks_source="its title",
        sizes_per_rank=title[1] == "all_gather",
        mode="pipelined",
        notes=("elements of 2 bytes are taken as bfloat16; it does not say which they are",) if guessed else (),
    )


def _time(match: re.Match[str]) -> ForeignTime | None:
    count, element_bytes = int(match[1]), int(match[2])
    time_s, dtype = figure(match[3], _UNITS[match[4]]), _DTYPES.get(element_bytes)
    if time_s is None or dtype is None:
        return None
    return ForeignTime(message_bytes=count * element_bytes, time_s=time_s, in_place=True, dtype=dtype)
