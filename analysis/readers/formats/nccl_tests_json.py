"""nccl-tests' JSON (-J), versions 1 to 3.

One document: config, results[{size, count, type, redop, root, out_of_place{time | cpu_time, alg_bw, bus_bw, nwrong}, in_place}]
(us, GB/s), out_of_bounds, average_bus_bandwidth. Its quirks: booleans are the words "true" and "false", NaN is "nan", root is
padded text, `devices` has one entry a process and not one a GPU, and the collective is named nowhere but in args[0]. The whole
environment lies in `env`; it is not read.
"""

import math
import re
from collections.abc import Iterator
from itertools import starmap

import msgspec

from commprof.analysis.readers.ending import promised_bytes
from commprof.analysis.readers.foreign import (
    Device,
    Figure,
    ForeignSweep,
    ForeignTime,
    data_type,
    library_version,
    whole_number,
)
from commprof.analysis.readers.formats.nccl_tests import CPU_TIME, NAMES
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.types import SoftwareInfo
from commprof.commbench.units import format_bytes

_NEWEST = 3
_PRINTED_DECIMALS = 6


class _Half(msgspec.Struct):
    time: float | str | None = None
    cpu_time: float | str | None = None
    alg_bw: float | str | None = None
    bus_bw: float | str | None = None
    nwrong: float | str | None = None


class _Result(msgspec.Struct):
    size: int
    count: int | None = None
    type: str = "float"
    redop: str | None = None
    root: str | int | None = None
    out_of_place: _Half | None = None
    in_place: _Half | None = None


class _Device(msgspec.Struct):
    rank: int | None = None
    hostname: str = ""
    device: int = 0
    group: int = 0
    device_hex: str = ""
    device_info: str = ""


class _Config(msgspec.Struct):
    nthreads: int = 1
    ngpus: int = 1
    minimum_bytes: int = 0
    maximum_bytes: int = 0
    step_factor: int = 0
    step_bytes: int = 0
    warmup_iters: int = 0
    iterations: int = 20
    aggregated_iterations: int = 1
    validation: int = 1
    graph: int = 0
    blocking_collectives: str | bool | int = "false"
    devices: list[_Device] = msgspec.field(default_factory=list)


class _OutOfBounds(msgspec.Struct):
    count: int = 0


class _Document(msgspec.Struct):
    results: list[_Result]
    version: int = 1
    args: list[str] = msgspec.field(default_factory=list)
    nccl_version: int | None = None
    config: _Config = msgspec.field(default_factory=_Config)
    devices: list[_Device] = msgspec.field(default_factory=list)
    out_of_bounds: _OutOfBounds | None = None
    errors: list[str] = msgspec.field(default_factory=list)


def read_nccl_tests_json(text: str) -> tuple[ForeignSweep, ...]:
    """Read one JSON document; raises UnusableData where it is cut off, no nccl-tests output, or of a newer version."""
    try:
        document = msgspec.json.decode(text, type=_Document)
    except msgspec.MsgspecError as error:
        raise UnusableData(f"it is not whole nccl-tests JSON: {error}") from None
    if document.version > _NEWEST:
        raise UnusableData(f"its JSON has version {document.version}, known are 1 to {_NEWEST}; import the text output instead")
    return (_sweep(document),)


def _sweep(document: _Document) -> ForeignSweep:
    config, devices = document.config, document.config.devices or document.devices
    blocking = str(config.blocking_collectives).lower() not in ("false", "0")
    op, op_source = _program(document.args)
    cpu_time = any(half.cpu_time is not None for result in document.results for half in _halves(result))
    notes = []
    if not config.validation:
        notes.append("validation was off: nobody knows whether the results were right")
    return ForeignSweep(
        dialect=f"nccl-tests JSON v{document.version}",
        times=tuple(time for result in document.results for time in _times(result)),
        op=op,
        op_source=op_source,
        num_ranks=config.nthreads * config.ngpus * len(devices) or None,
        ranks_source="nthreads * ngpus * processes",
        devices=tuple(starmap(_device, enumerate(devices))) if config.nthreads * config.ngpus == 1 else (),
        mode="isolated" if blocking else "pipelined",
        calls_per_sample=1 if blocking else max(1, config.iterations * config.aggregated_iterations),
        warmup_iterations=max(0, config.warmup_iters),
        cuda_graph=config.graph > 0,
        software=SoftwareInfo(python="", nccl=library_version(document.nccl_version)) if document.nccl_version else None,
        ended_early=_ended_early(document),
        failed_values=document.out_of_bounds.count if document.out_of_bounds else None,
        notes=tuple(notes),
        refused=CPU_TIME if cpu_time else None,
    )


def _ended_early(document: _Document) -> str | None:
    """Return why the sweep is not whole: an error that it reports, or a size that it announces and does not hold."""
    errors = [error.strip() for error in document.errors if error.strip(" \n") not in ("", "no error")]
    if errors:
        return f"the log reports an error: {errors[0][:160]}"
    config, size = document.config, document.results[-1].size if document.results else 0
    most = promised_bytes(config.maximum_bytes, size, factor=config.step_factor, step=config.step_bytes)
    if most is None or document.out_of_bounds is not None:
        return None
    return f"config announces sizes to {format_bytes(most)}, the last is {format_bytes(size)}, and there is no footer"


def _halves(result: _Result) -> list[_Half]:
    return [half for half in (result.out_of_place, result.in_place) if half is not None]


def _times(result: _Result) -> Iterator[ForeignTime]:
    known = data_type(result.type)
    if known is None:
        return
    root = whole_number(str(result.root).strip()) if result.root is not None else None
    for in_place, half in ((False, result.out_of_place), (True, result.in_place)):
        time_s = None if half is None else _figure(half.time, 1e-6)
        if half is None or time_s is None:
            continue
        wrong = _figure(half.nwrong, 1.0)
        yield ForeignTime(
            message_bytes=result.size,
            time_s=time_s,
            in_place=in_place,
            dtype=known[0],
            count=result.count,
            reduction=None if result.redop in (None, "none", "") else result.redop,
            root=root,
            algbw=_figure(half.alg_bw, 1e9),
            busbw=_figure(half.bus_bw, 1e9),
            num_wrong=None if wrong is None else int(wrong.value),
        )


def _figure(value: float | str | None, scale: float) -> Figure | None:
    """Return a number that was printed with six decimals; None for "nan", "inf" and what else is no number."""
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return Figure(value=number * scale, slack=0.5 * 10**-_PRINTED_DECIMALS * scale) if math.isfinite(number) else None


def _program(args: list[str]) -> tuple[str | None, str]:
    for arg in args:
        if match := re.search(r"(\w{4,14})_perf$", arg[-64:]):
            return NAMES.get(match[1], match[1]), f"args name {match[1]}_perf"
    return None, ""


def _device(index: int, device: _Device) -> Device:
    return Device(
        rank=index if device.rank is None else device.rank,
        group=device.group,
        device=device.device,
        hostname=device.hostname,
        name=device.device_info.strip()[:128],
        pci_bus_id=device.device_hex if ":" in device.device_hex else None,
    )
