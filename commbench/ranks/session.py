"""A run while it happens: rank 0 makes the folder, every rank knows it, and whatever ends the run is written down."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec
import torch

from commprof.commbench.errors import BadInput, CommprofError, Interrupted, RunFailed
from commprof.commbench.machine import hardware
from commprof.commbench.machine.facts import ENVIRONMENT_FILE, HostInfo
from commprof.commbench.machine.telemetry import telemetry, telemetry_file
from commprof.commbench.ranks.launched import RankContext
from commprof.commbench.ranks.rollcall import RollCall
from commprof.commbench.ranks.runtime import barrier, broadcast_text, gather_text, naming_lost_ranks, pci_bus_id
from commprof.commbench.ranks.stopping import answering_later, raise_when_stopped
from commprof.commbench.records.ownership import Ownership, belongs_to, own_mark
from commprof.commbench.records.rundir import (
    create_owned_run,
    finish_run,
    new_run_path,
    now_utc,
    read_info,
    reopen_run,
    write_document,
)
from commprof.commbench.records.types import SCHEMA_VERSION, RankInfo, RunInfo, RunKind, RunStatus, SoftwareInfo, Workload
from commprof.commbench.units import printable


@contextmanager
def open_run(
    kind: RunKind,
    context: RankContext,
    device: torch.device,
    *,
    roll: RollCall | None,
    backend: str,
    root: Path,
    path: Path | None = None,
    workload: Workload | None = None,
    resume: bool = False,
) -> Iterator[Path]:
    """Make a run folder (at `path`, or named below `root`), yield it on every rank, and mark how it ended.

    The first rank of each host describes it and samples it while the block runs.

    With `resume`, the folder at `path` is a run that ended early and is opened again. Raises BadInput on every rank when the
    folder cannot be made, or the run is not one that these ranks can go on with.
    """
    raise_when_stopped()
    path = path or new_run_path(root, kind, context.world_size)
    run = make_run(kind, context, device, path, backend=backend, workload=workload, resume=resume)
    if roll is not None:
        roll.doing = f"the {kind} run"
        roll.on_loss.append(partial(_mark, run, "failed"))
    with marked(run), sampled(run.path, context), naming_lost_ranks(roll):
        yield run.path
        barrier()


@dataclass(slots=True)
class OwnRun:
    """A run as one of its ranks has it: where it is, and the mark of the command that it belongs to."""

    path: Path
    rank: int
    mark: str
    ownership: Ownership | None = None

    def mark_ended(self, status: RunStatus, failure: str | None = None) -> None:
        """Write down how the run ended, unless it has become another command's."""
        if belongs_to(self.path, self.mark):
            finish_run(self.path, status, failure)

    def release(self) -> None:
        """Let go of the run, on the rank that owns it."""
        if self.ownership is not None:
            self.ownership.release()


def make_run(
    kind: RunKind,
    context: RankContext,
    device: torch.device,
    path: Path,
    *,
    backend: str,
    workload: Workload | None,
    resume: bool = False,
) -> OwnRun:
    """Let rank 0 make the folder and own it, with what all ranks say of themselves; return it as rank 0 sees it, on every rank.

    Raises BadInput on every rank where another command has the folder, and RunFailed where the disk does not take it.
    """
    info = _describe(kind, context, device, backend, workload)
    run = _together(_reopen if resume else _create, path, info, context, device)
    with marked_unless_well(run):  # whoever is stopped here leaves no run that seems to go on
        _describe_hosts(run.path, context, device)
    return run


def sampled(path: Path, context: RankContext) -> AbstractContextManager[None]:
    """Sample the host while the block runs, if this is the first of its ranks."""
    if context.local_rank != 0:
        return nullcontext()
    node = context.rank // context.local_world_size
    return telemetry(telemetry_file(path, node), job=os.getppid() if context.local_world_size > 1 else None)


@contextmanager
def marked(run: OwnRun) -> Iterator[None]:
    """Write down how the block ended: rank 0 that it went well, any rank what went wrong. The run is free then."""
    with marked_unless_well(run):
        yield
    if run.rank == 0:
        run.mark_ended("completed")
        run.release()


@contextmanager
def marked_unless_well(run: OwnRun) -> Iterator[None]:
    """Write down what went wrong in the block, on any rank; the run is free then."""
    try:
        yield
    except BaseException as error:
        with answering_later():  # a scheduler's signal comes to each process, and once more from each launcher above it
            _mark(run, *_how_it_ended(error, run.rank))
        raise


def _how_it_ended(error: BaseException, rank: int) -> tuple[RunStatus, str]:
    if isinstance(error, KeyboardInterrupt | Interrupted):
        return "interrupted", str(error) or "stopped by SIGINT"
    if isinstance(error, CommprofError):
        return "failed", str(error)
    return "failed", f"rank {rank}: {type(error).__name__}: {error}"[:1000]


def _describe_hosts(path: Path, context: RankContext, device: torch.device) -> None:
    """Write environment.json: each host's facts, in the order of the nodes."""
    own = msgspec.json.encode(hardware.host_info()).decode() if context.local_rank == 0 else ""
    hosts = [msgspec.json.decode(text, type=HostInfo) for text in gather_text(own, device) if text]
    if context.rank == 0:
        write_document(path / ENVIRONMENT_FILE, hosts)


def _mark(run: OwnRun, status: RunStatus, failure: str) -> None:
    """Mark the run and let go of it; a disk that cannot take the mark must not hide what ended the run."""
    try:
        run.mark_ended(status, failure)
        run.release()
    except OSError as error:
        sys.stderr.write(f"commprof: {printable(str(run.path))} could not be marked {status} ({error.strerror})\n")


def _create(path: Path, info: RunInfo, mark: str) -> Ownership:
    return create_owned_run(path, replace(info, run_id=path.name), mark)


def _reopen(path: Path, info: RunInfo, mark: str) -> Ownership:
    earlier = read_info(path)
    for field in ("kind", "world_size", "backend"):
        before, now = getattr(earlier, field), getattr(info, field)
        if before != now:
            raise BadInput(f"{path} has {field} {before}, not {now}; go on with it as it began")
    return reopen_run(path, mark)


def _together(
    make: Callable[[Path, RunInfo, str], Ownership], path: Path, info: RunInfo, context: RankContext, device: torch.device
) -> OwnRun:
    """Let rank 0 make the folder; return the run as rank 0 sees it, or raise what rank 0 met on every rank."""
    failure, refused, mark, ownership = "", False, own_mark(), None
    if context.rank == 0:
        try:
            ownership = make(path, info, mark)
        except (CommprofError, OSError) as error:
            failure, refused = _in_words(error, path), isinstance(error, BadInput)
    said = msgspec.json.encode((failure, refused, str(path.absolute()), mark)).decode()
    failure, refused, shared_path, mark = msgspec.json.decode(broadcast_text(said, device), type=tuple[str, bool, str, str])
    if failure:
        raise (BadInput if refused else RunFailed)(failure)
    return OwnRun(Path(shared_path), context.rank, mark, ownership)


def _in_words(error: CommprofError | OSError, path: Path) -> str:
    if isinstance(error, CommprofError):
        return str(error)
    return f"cannot write {error.filename or path}: {error.strerror}; make room, or name a folder that you may write to"


def rank_info(context: RankContext, device: torch.device) -> RankInfo:
    """Say where this rank is."""
    return RankInfo(
        rank=context.rank,
        local_rank=context.local_rank,
        hostname=hardware.hostname(),
        device_name=torch.cuda.get_device_name(device) if device.type == "cuda" else hardware.device_name(),
        pci_bus_id=pci_bus_id(device),
    )


def _describe(kind: RunKind, context: RankContext, device: torch.device, backend: str, workload: Workload | None) -> RunInfo:
    ranks = gather_text(msgspec.json.encode(rank_info(context, device)).decode(), device)
    kernels = gather_text(hardware.boot_id(), device)
    card = run_card(kind, context, backend, workload, [msgspec.json.decode(text, type=RankInfo) for text in ranks])
    return replace(card, num_machines=len(set(kernels)) if all(kernels) else None)


def run_card(
    kind: RunKind, context: RankContext, backend: str, workload: Workload | None, ranks: Sequence[RankInfo]
) -> RunInfo:
    """Return a run's card as it begins, from what this process knows; it has no name yet."""
    return RunInfo(
        schema_version=SCHEMA_VERSION,
        run_id="",
        kind=kind,
        status="running",
        started_at=now_utc(),
        command=tuple(sys.argv),
        git_commit=hardware.git_commit(Path.cwd()),
        backend=backend,
        world_size=context.world_size,
        num_nodes=context.num_nodes,
        launcher=context.launcher,
        cores_per_node=hardware.usable_cores(),
        threads_per_rank=torch.get_num_threads(),
        ranks=tuple(ranks),
        software=_software(),
        environ=hardware.allowed_environment(os.environ),
        workload=workload,
        wire=os.environ.get(hardware.WIRE_VARIABLE),
    )


def _software() -> SoftwareInfo:
    cuda = torch.version.cuda
    nccl = ".".join(map(str, torch.cuda.nccl.version())) if torch.cuda.is_available() else None  # type: ignore[no-untyped-call]
    return replace(hardware.software_info(), cuda=cuda, nccl=nccl)
