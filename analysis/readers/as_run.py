"""A foreign sweep -> a run folder of ours.

Only sizes and times are taken over; bandwidths are worked out from them as everywhere else. A log has one time per size and
placement, a mean: the record holds it as its only sample, of the slowest and of the fastest rank alike.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from commprof.analysis.readers.foreign import ForeignSweep, ForeignTime, usable
from commprof.analysis.readers.node_count import NodeCount, node_count
from commprof.analysis.readers.operation import operation
from commprof.analysis.readers.world_size import WorldSize, figure_notes, world_size
from commprof.commbench.errors import BadInput, UnusableData
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.records.quantities import MAX_RANKS
from commprof.commbench.records.rundir import RecordWriter, create_run, finish_run, now_utc
from commprof.commbench.records.types import SCHEMA_VERSION, CollectiveMeasurement, RankInfo, RunInfo, SoftwareInfo
from commprof.commbench.units import format_bytes, printable

_MAX_FILE_BYTES = 64 * 2**20
_MAX_WORD = 128
_APART = 1.5  # in place against out of place: two samples of nearly the same call
_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Understood:
    """A sweep of which all is known that a run needs; its times are those worth keeping."""

    sweep: ForeignSweep
    op: str
    op_source: str
    ranks: WorldSize
    nodes: NodeCount
    notes: tuple[str, ...]


def read_text(path: Path) -> str:
    """Read a log of bounded size; raise BadInput where it cannot be read. Bytes that are no text become question marks."""
    try:
        if not path.is_file():
            raise BadInput("it is no file; name log files" if path.exists() else "there is no such file")
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadInput(f"cannot read it: {error.strerror}") from None
    if len(content) > _MAX_FILE_BYTES:
        raise BadInput(f"it is larger than {format_bytes(_MAX_FILE_BYTES)}; cut the table out of it")
    utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))  # what PowerShell redirects to
    return content.decode("utf-16" if utf16 else "utf-8-sig", errors="replace")


def understand(sweep: ForeignSweep, name: str, *, op: str | None, ranks: int | None, nodes: int | None = None) -> Understood:
    """Conclude what a sweep measured; raises UnusableData with the reason where that cannot be."""
    if sweep.refused is not None:
        raise UnusableData(sweep.refused)
    times, dropped = usable(sweep.times)
    sweep = replace(sweep, times=_marked_wrong(times, sweep.failed_values))
    name_of_op, op_source = operation(sweep, name, op)
    size = world_size(sweep, name_of_op, ranks)
    if sweep.sizes_per_rank and OPERATIONS[name_of_op].shared:
        whole, beyond = usable(replace(t, message_bytes=t.message_bytes * size.value) for t in sweep.times)
        sweep, dropped = replace(sweep, times=whole), (*dropped, *beyond)
    _check_roots(sweep.times, size.value)
    count = node_count(sweep, size.value, nodes)
    ended = [] if sweep.ended_early is None else [f"NOT WHOLE: {sweep.ended_early}; check fails the run"]
    transport = [] if sweep.transport is None else [f"NCCL says: {sweep.transport}"]
    figures = figure_notes(sweep, name_of_op, size.value)
    notes = [*ended, *transport, *sweep.notes, *dropped, *size.notes, *count.notes, *figures, *_doubts(sweep, name_of_op)]
    said = tuple(printable(note) for note in notes)
    return Understood(sweep=sweep, op=name_of_op, op_source=op_source, ranks=size, nodes=count, notes=said)


def write_run(path: Path, understood: Understood, name: str) -> None:
    """Write the run folder; raises BadInput where it exists or cannot be."""
    create_run(path, run_info(understood, path.name, name))
    with RecordWriter(path / "collectives.jsonl") as writer:
        for measurement in measurements(understood):
            writer.append(measurement)
    ended_early = understood.sweep.ended_early
    finish_run(path, "completed" if ended_early is None else "failed", None if ended_early is None else printable(ended_early))


def measurements(understood: Understood) -> Iterator[CollectiveMeasurement]:
    """Yield one record per size, placement and kind of element; a size that comes more than once has more than one sample."""
    sweep, reduces = understood.sweep, OPERATIONS[understood.op].reduces
    grouped: dict[tuple[int, bool, str, str | None, int | None], list[ForeignTime]] = defaultdict(list)
    for time in sweep.times:
        reduction = (time.reduction or "sum") if reduces else None
        grouped[time.message_bytes, time.in_place, time.dtype, reduction, time.root].append(time)
    for (message_bytes, in_place, dtype, reduction, root), times in grouped.items():
        samples = tuple(time.time_s.value for time in times)
        wrong = [time.num_wrong for time in times if time.num_wrong is not None]
        yield CollectiveMeasurement(
            op=understood.op,
            dtype=dtype,
            message_bytes=message_bytes,
            world_size=understood.ranks.value,
            mode=sweep.mode,
            in_place=in_place,
            warmup_iterations=sweep.warmup_iterations,
            slowest_rank_s=samples,
            fastest_rank_s=samples,
            timer=sweep.dialect,
            num_wrong=max(wrong) if wrong else None,
            reduction=reduction,
            root=root,
            calls_per_sample=sweep.calls_per_sample,
            cuda_graph=sweep.cuda_graph,
        )


def run_info(understood: Understood, run_id: str, name: str) -> RunInfo:
    """Return the identity card of the run that a log becomes."""
    sweep = understood.sweep
    return RunInfo(
        schema_version=SCHEMA_VERSION,
        run_id=run_id,
        kind="bench",
        status="running",
        started_at=now_utc(),
        command=("commprof", "import", _word(name)),
        backend=sweep.backend,
        world_size=understood.ranks.value,
        num_nodes=understood.nodes.value or 1,
        launcher="import",
        cores_per_node=1,
        threads_per_rank=1,
        ranks=tuple(
            RankInfo(
                rank=device.rank,
                local_rank=device.device,
                hostname=_word(device.hostname),
                device_name=_word(device.name),
                pci_bus_id=device.pci_bus_id,
            )
            for device in sweep.devices
            if device.rank < understood.ranks.value and device.device < MAX_RANKS
        ),
        software=replace(sweep.software or SoftwareInfo(python="unknown"), python="unknown"),
        environ={name: _word(value) for name, value in sweep.environ},
        imported_from=_word(name),
        nodes_from=understood.nodes.source,
        transport=None if sweep.transport is None else printable(sweep.transport),
    )


def _word(text: str) -> str:
    return printable(text)[:_MAX_WORD]


def _check_roots(times: Sequence[ForeignTime], num_ranks: int) -> None:
    for time in times:
        if time.root is not None and not 0 <= time.root < num_ranks:
            raise UnusableData(f"a row names rank {time.root} as its root, and of {num_ranks} ranks it is none")


def _marked_wrong(times: Sequence[ForeignTime], failed_values: int | None) -> tuple[ForeignTime, ...]:
    """Mark every time as wrong where the footer counts wrong values that no row shows."""
    if not failed_values or any(time.num_wrong for time in times):
        return tuple(times)
    return tuple(replace(time, num_wrong=failed_values) for time in times)


def _doubts(sweep: ForeignSweep, op: str) -> Iterator[str]:
    """Yield what speaks against the times themselves."""
    wrong = sum(bool(time.num_wrong) for time in sweep.times)
    if wrong:
        total = f" ({sweep.failed_values} values)" if sweep.failed_values else ""
        yield f"validation FAILED at {wrong} of {len(sweep.times)} times{total}: mend the installation; fit refuses the run"
    if OPERATIONS[op].in_place:  # what nccl-tests prints of any other in place is another operation
        yield from _placements_apart(sweep.times)


def _placements_apart(times: Sequence[ForeignTime]) -> Iterator[str]:
    places: dict[int, dict[bool, float]] = defaultdict(dict)
    for time in times:
        places[time.message_bytes][time.in_place] = time.time_s.value
    ratios = {size: both[True] / both[False] for size, both in places.items() if len(both) == 2}
    apart = {size: max(ratio, 1 / ratio) for size, ratio in ratios.items() if max(ratio, 1 / ratio) > _APART}
    if not apart:
        return
    slower = {ratios[size] > 1 for size in apart}
    steady = len(apart) > len(ratios) / 2 and len(slower) == 1
    cause = (
        f"{'in' if True in slower else 'out of'} place is the slower one, which is no disturbance"
        if steady
        else "one disturbed"
    )
    worst = sorted(apart, key=lambda size: -apart[size])[:_NAMED]
    named = ", ".join(f"{format_bytes(size)} ({apart[size]:.1f}x)" for size in worst)
    yield f"in and out of place are over {_APART:g}x apart at {len(apart)} of {len(places)} sizes, {cause}: {named}"
