"""The nccl-tests table: same columns, same units, so that eyes and parsers that know it need nothing new.

`time` is the median over iterations of the slowest rank, in us; algbw and busbw are GB/s of 1e9 bytes; sizes are bytes.
"""

from collections.abc import Sequence
from statistics import mean

from commbench.hardware import Ceiling
from commbench.records import CollectiveMeasurement, RunInfo
from commbench.units import format_rate, printable

COLUMNS = """\
#
#                                                              out-of-place                       in-place
#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)"""


def header(run: RunInfo, ceiling: Ceiling) -> str:
    """Say who takes part and what the wire could carry at best, before anything is measured."""
    lines = [f"# commprof bench all_reduce: {run.world_size} ranks, backend {run.backend}", "#", "# Using devices"]
    lines += [
        f"#  Rank {rank.rank:2d} on {printable(rank.hostname)} device {rank.local_rank:2d} "
        f"[{printable(rank.pci_bus_id or 'host')}] {printable(rank.device_name)}"
        for rank in run.ranks
    ]
    limit = f"{format_rate(ceiling.bytes_per_s)} busbw: " if ceiling.bytes_per_s else "unknown: "
    return "\n".join([*lines, "#", f"# Theoretical ceiling {limit}{printable(ceiling.reason)}", COLUMNS])


def row(out_of_place: CollectiveMeasurement, in_place: CollectiveMeasurement) -> str:
    """Format one size."""
    left = f"{in_place.message_bytes:12d}  {in_place.num_elements:12d}  {'float':>8}  {'sum':>6}  {-1:6d}"
    return f"{left}  {_half(out_of_place)}  {_half(in_place)}"


def footer(measurements: Sequence[CollectiveMeasurement]) -> str:
    """Close the table as nccl-tests does: wrong elements over all sizes, and the mean bus bandwidth of all rows."""
    checked = [m.num_wrong for m in measurements if m.num_wrong is not None]
    wrong = f"{sum(checked)} {'OK' if not any(checked) else 'FAILED'}" if checked else "not checked (-c 0)"
    mean_busbw = mean(m.busbw_bytes_per_s for m in measurements) / 1e9
    return f"# Out of bounds values : {wrong}\n# Avg bus bandwidth    : {mean_busbw:g}\n#"


def _half(measurement: CollectiveMeasurement) -> str:
    wrong = "N/A" if measurement.num_wrong is None else str(measurement.num_wrong)
    time_us = measurement.median_s * 1e6
    time_text = f"{time_us:7.2f}" if time_us < 9999.995 else f"{time_us:7.0f}"
    algbw, busbw = measurement.algbw_bytes_per_s / 1e9, measurement.busbw_bytes_per_s / 1e9
    return f"{time_text}  {algbw:6.2f}  {busbw:6.2f}  {wrong:>5}"
