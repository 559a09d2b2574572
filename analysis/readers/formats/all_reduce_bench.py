"""all_reduce_bench.py of the ML Engineering book: bandwidths of a torch all-reduce, isolated, by payload.

A markdown table `payload | busbw | algbw` (KiB and MiB binary, GBps of 1e9 bytes), or in its first version one payload
in words. It prints means of rates and no times, so a time is payload / algbw. Each call is timed by itself, after a barrier.
With --profile_stability it prints every trial of one payload, which stands above the table: they become that size's samples.
"""

import re
from collections.abc import Iterator

from commprof.analysis.readers.foreign import Figure, ForeignSweep, ForeignTime, figure
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.types import SoftwareInfo

_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,20})?) ?([KMGT]i?B|B)")
_RATE = re.compile(r"(\d{1,9}(?:\.\d{1,20})?) ?GBps")
_RANKS = re.compile(r"over (\d{1,6}) ranks|trials, (\d{1,6}) ranks")
_TRIALS = re.compile(r"\((\d{1,6}) warmups? / (\d{1,6}) trials?\)")
_VERSIONS = re.compile(r"torch=([\w.+]{1,32}), *cuda=([\d.]{1,16}), *nccl=\(([\d, ]{1,24})\)")
_PROFILED = re.compile(r"The (\d{1,9}(?:\.\d{1,20})?) ?([KMGT]i?B) payload bandwidth")
_SINGLE = re.compile(r"all_reduce with a (\d{1,9}(?:\.\d{1,20})?) ?([KMGT]i?B) payload")


def read_all_reduce_bench(text: str) -> tuple[ForeignSweep, ...]:
    """Read every table, each with the preamble before it; raises UnusableData where there is none."""
    sweeps: list[ForeignSweep] = []
    rows: list[ForeignTime] = []
    columns: tuple[str, ...] = ()
    preamble = ""
    for line in [*(line[:500] for line in text.splitlines()), "end"]:
        cells = tuple(cell.strip() for cell in line.split("|")[1:-1])
        if {"busbw", "algbw"} <= set(map(str.lower, cells)):
            columns = tuple(map(str.lower, cells))
        elif columns and (time := _row(dict(zip(columns, cells, strict=False)), preamble)) is not None:
            rows.append(time)
        elif not cells or line == "end":
            if rows:
                sweeps.append(_sweep(rows, preamble))
                preamble, rows, columns = "", [], ()
            preamble += line + "\n"
    sweeps += [_sweep([time], part) for time, part in _singles(text)]
    if not sweeps:
        raise UnusableData("it has no row of payload, busbw and algbw")
    return tuple(sweeps)


def _row(cells: dict[str, str], above: str) -> ForeignTime | None:
    busbw, algbw = _rate(cells.get("busbw")), _rate(cells.get("algbw"))
    size = _SIZE.fullmatch(cells["payload"]) if "payload" in cells else _PROFILED.search(above)
    return _time(float(size[1]) * _UNITS[size[2]], algbw, busbw) if size and algbw else None


def _rate(cell: str | None) -> Figure | None:
    match = _RATE.fullmatch(cell or "")
    return figure(match[1], 1e9) if match else None


def _time(size: float, algbw: Figure, busbw: Figure | None) -> ForeignTime | None:
    if not algbw.low > 0:
        return None
    seconds = size / algbw.value
    slack = seconds * algbw.slack / algbw.value
    return ForeignTime(
        message_bytes=round(size),
        time_s=Figure(value=seconds, slack=slack),
        in_place=True,
        reduction="sum",
        algbw=algbw,
        busbw=busbw,
    )


def _singles(text: str) -> Iterator[tuple[ForeignTime, str]]:
    """Yield what the first version prints: one payload, then its algbw and its busbw."""
    for match in _SINGLE.finditer(text):
        part = text[match.start() : match.start() + 400]
        found = {name: re.search(rf"{name}: *([\d.]{{1,12}}) GBps", part) for name in ("algbw", "busbw")}
        rates = {name: figure(rate[1], 1e9) for name, rate in found.items() if rate}
        algbw = rates.get("algbw")
        time = _time(float(match[1]) * _UNITS[match[2]], algbw, rates.get("busbw")) if algbw else None
        if time is not None:
            yield time, part


def _sweep(rows: list[ForeignTime], preamble: str) -> ForeignSweep:
    ranks, trials, versions = _RANKS.search(preamble), _TRIALS.search(preamble), _VERSIONS.search(preamble)
    software = None
    if versions:
        nccl = ".".join(part.strip() for part in versions[3].split(","))
        software = SoftwareInfo(python="", torch=versions[1], cuda=versions[2], nccl=nccl)
    return ForeignSweep(
        dialect="all_reduce_bench",
        times=tuple(rows),
        op="all_reduce",
        op_source="all_reduce_bench measures nothing else",
        num_ranks=int(ranks[1] or ranks[2]) if ranks else None,
        ranks_source="the line above the table",
        warmup_iterations=int(trials[1]) if trials else 0,
        software=software,
        notes=()
        if _PROFILED.search(preamble)
        else ("times are worked out from mean rates, which lean towards the fast trials; nothing was validated",),
    )
