"""How is a step's memory shown to people? A line for each device: the rank that took most, and when in its step."""

from collections import defaultdict
from collections.abc import Mapping
from statistics import median

from commprof.analysis.traces.one_rank.rank_trace import RankTrace
from commprof.analysis.traces.one_rank.work.memory import MemoryPeak
from commprof.commbench.display.sheet import Block, Words, line
from commprof.commbench.units import format_bytes, format_seconds

_CPU = "of the CPU's, what was given out before the trace began is no part"


def memory_blocks(by_rank: Mapping[int, RankTrace]) -> list[Block]:
    """Return the lines; nothing where no trace holds the allocator's events."""
    found: dict[tuple[str, int], list[MemoryPeak]] = defaultdict(list)
    for rank, own in by_rank.items():
        for peak in own.memory_peaks:
            found[peak.device, rank].append(peak)
    devices = sorted({device for device, _ in found})
    rows = [Words(_told(device, {rank: own for (name, rank), own in found.items() if name == device})) for device in devices]
    return [line("memory given out by torch's allocator", "strong"), *rows] if rows else []


def _told(device: str, by_rank: Mapping[int, list[MemoryPeak]]) -> str:
    rank = max(by_rank, key=lambda own: max(peak.peak_bytes for peak in by_rank[own]))
    own = by_rank[rank]
    most = max(own, key=lambda peak: peak.peak_bytes)
    taken = round(median(peak.taken_bytes for peak in own))
    note = f"; {_CPU}" if device == "cpu" else ""
    return (
        f"{device}: at most {format_bytes(most.peak_bytes)}, on rank {rank} in step {most.step}, "
        f"{format_seconds(most.after_ns / 1e9)} after it began; a step takes {format_bytes(taken)} beyond its begin (median)"
        f"{note}."
    )
