"""Which GPUs did a table's ranks run on? nccl-tests' lines `Rank 0 Group 0 Pid 500 on node0 device 0 [0000:10:00] NAME`.

A list belongs to the table below it. Where the same ranks come more than once beside repeated rows, jobs ran side by side.
"""

import re
from collections.abc import Sequence

from commprof.analysis.readers.foreign import Device
from commprof.analysis.readers.formats.nccl_tests_columns import Row
from commprof.analysis.readers.formats.nccl_tests_rows import DEVICE, LIST_BEGINS
from commprof.commbench.records.quantities import MAX_RANKS

_PCI = re.compile(r"[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}")


def devices_of(lines: Sequence[str], rows: Sequence[Row]) -> tuple[tuple[Device, ...], str | None]:
    """Return the device list, and why the table is worthless where several jobs printed into it."""
    keys = {(row.size, row.dtype, row.words[:2]) for row in rows if row.size != "0"}
    repeated = len(keys) < sum(row.size != "0" for row in rows)
    found = [_device(match) for line in lines if (match := DEVICE.search(line))]
    by_rank = {(device.group, device.rank): device for device in found}
    if len(by_rank) < len(found) and (repeated or (len(by_rank) == 1 and _num_lists(lines) > 1)):
        jobs = len(found) // len(by_rank)
        return (), (
            f"{jobs} jobs of {len(by_rank)} rank{'s'[: len(by_rank) > 1]} each ran side by side (the device list has rank 0 "
            f"{jobs} times): nccl-tests was built without MPI; build it with MPI=1 and run again"
        )
    last = _last_list(lines)
    by_rank = {(d.group, d.rank): d for line in last if (match := DEVICE.search(line)) for d in (_device(match),)}
    groups = {device.group for device in by_rank.values()}
    return tuple(device for device in by_rank.values() if device.group == min(groups))[:MAX_RANKS], None


def _num_lists(lines: Sequence[str]) -> int:
    return sum(LIST_BEGINS in line for line in lines)


def _last_list(lines: Sequence[str]) -> Sequence[str]:
    """Return the lines from the last beginning of a list on: one above it is that of a test that gave no row."""
    begins = [index for index, line in enumerate(lines) if LIST_BEGINS in line and any(map(DEVICE.search, lines[index:]))]
    return lines[begins[-1] :] if begins else lines


def _device(match: re.Match[str]) -> Device:
    return Device(
        rank=int(match[1]),
        group=int(match[2] or 0),
        device=int(match[5]),
        hostname=match[4],
        name=match[7].strip()[:128],
        pci_bus_id=match[6] if _PCI.match(match[6]) else None,
    )
