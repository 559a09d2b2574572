"""What if it were another wire? Published all-reduce curves, so that the answer needs no hardware.

presets.csv has one line per curve and size: in-place times that the named source prints (us, float32, nccl-tests), from 256 KiB
to 1 GiB where it goes so far. They are single means from somebody else's machine: a guide to what such a link does, no promise.
"""

import csv
from pathlib import Path

from commprof.analysis.readers.foreign import Device, Figure, ForeignSweep, ForeignTime
from commprof.commbench.errors import BadInput

_TABLE = Path(__file__).with_name("presets.csv")
_ITERATIONS = 20


def preset_names() -> tuple[str, ...]:
    """Return the names of the curves that ship with the program."""
    return tuple(dict.fromkeys(row["name"] for row in _rows()))


def preset(name: str) -> ForeignSweep:
    """Return one curve as a sweep; raises BadInput for an unknown name."""
    rows = [row for row in _rows() if row["name"] == name]
    if not rows:
        raise BadInput(f"no preset {name!r}; known are {', '.join(preset_names())}")
    first = rows[0]
    ranks, nodes, gpu = int(first["ranks"]), int(first["nodes"]), first["gpu"]
    return ForeignSweep(
        dialect="preset",
        times=tuple(
            ForeignTime(message_bytes=int(row["bytes"]), time_s=Figure(value=float(row["time_us"]) * 1e-6), in_place=True)
            for row in rows
        ),
        op=first["op"],
        op_source="the preset says so",
        num_ranks=ranks,
        ranks_source="the preset says so",
        devices=tuple(
            Device(rank=rank, group=0, device=rank % (ranks // nodes), hostname=f"node{rank * nodes // ranks}", name=gpu)
            for rank in range(ranks)
        ),
        mode="pipelined",
        calls_per_sample=_ITERATIONS,
        notes=(f"{gpu}, {first['link']}", f"published at {first['source']}; another machine of the kind may differ"),
    )


def _rows() -> list[dict[str, str]]:
    with _TABLE.open(newline="") as file:
        return list(csv.DictReader(file))
