"""A bench on one rank: make or reopen the run, sweep, and let rank 0 write and print.

A measurement is on disk before the next one begins. What ends the sweep early - a request to stop, a full disk, a lack of
memory - is agreed on by all ranks, so that all of them leave together.
"""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from commprof.commbench.bench import table
from commprof.commbench.bench.burst import measure_burst
from commprof.commbench.bench.ceiling import Ceiling, collective_ceiling
from commprof.commbench.bench.collectives import Arena
from commprof.commbench.bench.plan import PLAN_FILE, BenchPlan, Cell
from commprof.commbench.bench.sweep import Bench, measure
from commprof.commbench.display.terminal import Output
from commprof.commbench.errors import BadInput, Interrupted, OutOfMemory, RunFailed
from commprof.commbench.machine import hardware
from commprof.commbench.machine.facts import ENVIRONMENT_FILE, Hosts
from commprof.commbench.pace import SweepPace
from commprof.commbench.progress import progress
from commprof.commbench.ranks.launched import RankContext, detect_rank
from commprof.commbench.ranks.runtime import broadcast_text, process_group, rank_device, resolve_backend
from commprof.commbench.ranks.session import open_run
from commprof.commbench.ranks.stopping import StopRequest, stopped_by
from commprof.commbench.records.operations import check_operation
from commprof.commbench.records.rundir import RecordWriter, read_document, read_info, read_records, write_document
from commprof.commbench.records.types import BurstMeasurement, CollectiveMeasurement, SizeFailure
from commprof.commbench.timing import device_clock
from commprof.commbench.units import format_bytes, printable

FAILURES_FILE = "failures.jsonl"
_UNSEEN = Ceiling(bytes_per_s=None, reason="only rank 0 shows it")
_ROTATE_CACHES = 2  # times the last-level cache: what one round of the buffers drives out of it


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRequest:
    """A plan, and how its run is to be made, kept and shown."""

    plan: BenchPlan
    backend: str
    timeout_s: float
    root: Path
    folder: Path | None
    resume: bool
    json: bool
    stats: bool


def run_bench(request: BenchRequest) -> int:
    """Measure as one rank; rank 0 writes and prints. Returns 1 when a result was wrong.

    Raises Interrupted, OutOfMemory or RunFailed on every rank when the sweep ends early; what was measured is on disk.
    """
    context = detect_rank(os.environ)
    backend = resolve_backend(request.backend)
    device = rank_device(context, backend)
    plan = request.plan
    check_operation(plan.op, plan.dtype, plan.reduction, backend)
    if plan.cuda_graph and backend == "gloo":  # the driver is here, and torch was built without CUDA
        raise BadInput("-G captures NCCL's kernels, and this torch takes gloo; drop -G, or install torch with CUDA")
    if plan.root >= context.world_size:
        raise BadInput(f"-r {plan.root}: the ranks are 0 to {context.world_size - 1}")
    with (
        process_group(context, backend, request.timeout_s, device) as roll,
        open_run(
            "bench",
            context,
            device,
            roll=roll,
            backend=backend,
            root=request.root,
            path=request.folder,
            resume=request.resume,
        ) as run,
    ):
        stop = StopRequest()

        def announce(doing: str) -> None:
            if roll is not None:
                roll.doing = doing

        bench = Bench(
            plan=plan,
            device=device,
            clock=device_clock(device),
            rotate_bytes=0 if plan.hot else _ROTATE_CACHES * _cache_bytes(device),
            stop=lambda: stop.signum,
            announce=announce,
            arena=Arena(device),
        )
        if context.launcher == "single":
            sys.stderr.write("one rank sends nothing over a wire: this times copies in memory; --nproc 2 starts two ranks\n")
        recorder = Recorder(run, request, context, device)
        recorder.open()
        _sweep(bench, recorder)
    return recorder.close()


def _sweep(bench: Bench, recorder: "Recorder") -> None:
    cells, burst_to_come = recorder.remaining()
    effort = bench.plan.effort
    pace = SweepPace(cells, None if effort.iterations is not None else effort.budget_s)
    try:
        with progress("# bench", len(cells), enabled=recorder.tells, left_s=pace.left_s) as report:
            for done, (measurement, stopping) in enumerate(measure(bench, cells), 1):
                report.clear()
                recorder.keep(measurement)
                pace.note(bench.elapsed())
                report(done, format_bytes(measurement.message_bytes))
                if stopping:
                    raise Interrupted(stopped_by(stopping))
        if burst_to_come:
            burst, stopping = measure_burst(bench)
            recorder.keep_burst(burst)
            if stopping:
                raise Interrupted(stopped_by(stopping))
    except (Interrupted, KeyboardInterrupt):
        recorder.say_how_to_go_on()
        raise
    except OutOfMemory as error:
        failure = SizeFailure(op=error.op, message_bytes=error.message_bytes, rank=error.rank, reason="out of memory")
        recorder.keep_failure(failure, alone=error.alone)
        raise


class Recorder:
    """What rank 0 does with the measurements; the other ranks only hear whether it worked."""

    def __init__(self, run: Path, request: BenchRequest, context: RankContext, device: torch.device) -> None:
        self.run, self.request, self._context, self._device = run, request, context, device
        earlier = request.resume and context.rank == 0  # other hosts may not see the folder
        self.measured = _read(run / "collectives.jsonl", CollectiveMeasurement) if earlier else []
        self.bursts = _read(run / "bursts.jsonl", BurstMeasurement) if earlier else []
        self._row: dict[Cell, CollectiveMeasurement] = {}
        self._ceiling = _ceiling(run, request.plan.op) if context.rank == 0 else _UNSEEN
        self.tells = context.rank == 0
        self._say = Output(enabled=self.tells and not request.json)
        shown = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        self._narrow = shown is not None and not table.fits(request.plan, shown, stats=request.stats)

    def remaining(self) -> tuple[list[tuple[int, Cell]], bool]:
        """Return the cells that the run does not hold yet, in the order of the sweep, and whether the burst is to come."""
        plan = self.request.plan
        todo = plan.remaining(self._context.world_size, self.measured), bool(plan.bucket_bytes) and not self.bursts
        text = broadcast_text(msgspec.json.encode(todo).decode(), self._device)
        return msgspec.json.decode(text, type=tuple[list[tuple[int, Cell]], bool])

    def open(self) -> None:
        """Write the plan, then print the header and the rows that are there already."""
        plan = self.request.plan
        self._together(lambda: write_document(self.run / PLAN_FILE, plan))
        self._say(table.header(read_info(self.run), plan, self._ceiling, stats=self.request.stats, narrow=self._narrow))
        for measurement in self.measured:
            self._show(measurement)

    def keep(self, measurement: CollectiveMeasurement) -> None:
        """Write one measurement and print its row once the row is whole."""
        self._append("collectives.jsonl", measurement)
        self.measured.append(measurement)
        self._show(measurement)

    def keep_burst(self, burst: BurstMeasurement) -> None:
        self._append("bursts.jsonl", burst)
        self.bursts.append(burst)

    def say_how_to_go_on(self) -> None:
        """Name the run and what goes on with it, where rank 0 leaves before the end."""
        if self.tells:
            ranks = self._context.world_size
            nproc = f" --nproc {ranks}" if ranks > 1 and self._context.launcher == "commprof" else ""
            kept = f"{len(self.measured)} measurements are in {self.run}"
            sys.stderr.write(printable(f"{kept}; commprof bench --resume {self.run}{nproc} goes on with the rest") + "\n")

    def keep_failure(self, failure: SizeFailure, *, alone: bool) -> None:
        """Write it from rank 0, or from this rank where the others do not know and may wait for it in a collective."""
        if not alone:
            self._append(FAILURES_FILE, failure)
        elif self.run.is_dir():  # another host may not see it; the run's own card says what ended it
            with RecordWriter(self.run / FAILURES_FILE) as writer:
                writer.append(failure)

    def close(self) -> int:
        """Print what closes the table, or everything as one JSON document; return the exit code."""
        self._flush_row()
        if self._narrow and self.request.stats:
            self._say(table.stats_table(self.measured))
        self._say(table.footer(self.measured, self._ceiling, narrow=self._narrow))
        for burst in self.bursts:
            self._say(table.burst_text(burst))
        self._say(printable(f"# run: {self.run}"))
        if self._context.rank == 0 and self.request.json:
            document = {"run": str(self.run), "measurements": self.measured, "bursts": self.bursts}
            Output(enabled=True)(msgspec.json.encode(document).decode())
        return 1 if any(each.num_wrong for each in (*self.measured, *self.bursts)) else 0

    def _show(self, measurement: CollectiveMeasurement) -> None:
        cell = Cell(mode=measurement.mode, in_place=measurement.in_place)
        if any(other.message_bytes != measurement.message_bytes for other in self._row.values()):
            self._flush_row()
        self._row[cell] = measurement
        if len(self._row) == len(self.request.plan.cells):
            self._flush_row()

    def _flush_row(self) -> None:
        if self._row:
            self._say(table.row(self.request.plan, self._row, stats=self.request.stats, narrow=self._narrow))
        self._row = {}

    def _append(self, name: str, record: object) -> None:
        def append() -> None:
            with RecordWriter(self.run / name) as writer:
                writer.append(record)

        self._together(append)

    def _together(self, action: Callable[[], None]) -> None:
        """Let rank 0 act on the disk; where it cannot, raise its RunFailed on every rank."""
        failure = ""
        if self._context.rank == 0:
            try:
                action()
            except (RunFailed, OSError) as error:
                failure = str(error)
        failure = broadcast_text(failure, self._device)
        if failure:
            raise RunFailed(failure)


def _read(path: Path, record_type: type) -> list:  # type: ignore[type-arg]
    return list(read_records(path, record_type)) if path.exists() else []


def _cache_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).L2_cache_size)
    return hardware.last_level_cache_bytes()


def _ceiling(run: Path, op: str) -> Ceiling:
    """Work out the ceiling from what the run knows of its first host and ranks."""
    info, host = read_info(run), read_document(run / ENVIRONMENT_FILE, Hosts)[0]
    here = [rank.pci_bus_id for rank in info.ranks if rank.hostname == host.hostname and rank.pci_bus_id]
    return collective_ceiling(
        host, backend=info.backend, op=op, world_size=info.world_size, num_nodes=info.num_nodes, pci_bus_ids=here
    )
