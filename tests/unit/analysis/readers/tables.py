"""Made-up logs of benchmarks, in the ways in which those print a table."""

from collections.abc import Sequence
from dataclasses import dataclass

from commprof.analysis.readers.as_run import understand
from commprof.analysis.readers.dialect import read_log
from commprof.commbench.records.operations import OPERATIONS

SIZES = tuple(2**power for power in range(10, 31, 2))
LATENCY_S, BANDWIDTH = 20e-6, 100e9


@dataclass(frozen=True)
class Table:
    """How one nccl-tests prints: what differs between its versions, flags and launchers."""

    op: str = "all_reduce"
    ranks: int = 8
    columns: str = "type redop root"
    error: str = "#wrong"
    listed: int | None = None
    prefix: str = ""
    per_iteration: bool = False
    stamps: bool = False
    comment: str = "# "
    footer: str = "0 OK"
    wrong: str = "0"


def printed(value: float, width: int) -> str:
    """As nccl-tests prints: as many decimals, up to two, as the width takes."""
    return next((text for text in (f"{value:.2f}", f"{value:.1f}", f"{value:.0f}") if len(text) <= width), f"{value:.1e}")


def half(size: int, table: Table, wrong: str) -> str:
    seconds = LATENCY_S + size / BANDWIDTH
    algbw = size / seconds / 1e9
    busbw = algbw * OPERATIONS[table.op].bus_factor(table.ranks)
    extra = (
        f" {printed(seconds * 9e5, 7)} {printed(seconds * 2e6, 7)} {printed(seconds * 2e6, 7)} 7.50"
        if table.per_iteration
        else ""
    )
    return f" {printed(seconds * 1e6, 7)} {printed(algbw, 6)} {printed(busbw, 6)} {wrong}{extra}"


def row(size: int, table: Table) -> str:
    operation = OPERATIONS[table.op]
    words = {"type": "float", "redop": "sum" if operation.reduces else "none", "root": "0" if operation.rooted else "-1"}
    count = size // (4 * (table.ranks if operation.shared else 1))
    kind = "  ".join(words[name] for name in table.columns.split())
    in_place = "N/A" if table.op == "all_to_all" else table.wrong
    stamp = " 2026-07-01 12:00:00" if table.stamps else ""
    return f"{size:12} {count:12} {kind} {half(size, table, table.wrong)} {half(size, table, in_place)}{stamp}"


def lines(table: Table, sizes: Sequence[int] = SIZES) -> list[str]:
    listed = table.ranks if table.listed is None else table.listed
    per_half = "time algbw busbw " + table.error + (" i_min i_max i_p99 i_cv%" if table.per_iteration else "")
    head = [
        "nThread 1 nGpus 1 minBytes 8 maxBytes 99 step: 4(factor) warmup iters: 5 iters: 20 agg iters: 2 validation: 1 graph: 0"
    ]
    head += [
        f" Rank {r:2} Group  0 Pid {900 + r} on node{r // 8} device {r % 8:2} [0000:{r % 8:02x}:00] H100" for r in range(listed)
    ]
    head += [
        "",
        "      size         count  " + f"{table.columns} {per_half} {per_half}" + (" timestamp" if table.stamps else ""),
    ]
    text = [table.comment + line for line in head] + [row(size, table) for size in sizes]
    text += [f"# Out of bounds values : {table.footer}", "# Avg bus bandwidth    : 12.3"] if table.footer else []
    return [table.prefix + line for line in text]


def imported(text: str, name: str = "log.txt", op: str | None = None, ranks: int | None = None):  # noqa: ANN201
    (sweep,) = read_log(text)
    return understand(sweep, name, op=op, ranks=ranks)
