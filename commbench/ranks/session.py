"""A run while it happens: rank 0 makes the folder, every rank knows it, and whatever ends the run is written down."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import torch

from commprof.commbench.errors import BadInput, CommprofError, Interrupted
from commprof.commbench.machine import hardware
from commprof.commbench.machine.facts import ENVIRONMENT_FILE, HostInfo
from commprof.commbench.machine.telemetry import telemetry, telemetry_file
from commprof.commbench.ranks.launched import RankContext
from commprof.commbench.ranks.rollcall import RollCall
from commprof.commbench.ranks.runtime import barrier, broadcast_text, gather_text, naming_lost_ranks, pci_bus_id
from commprof.commbench.ranks.stopping import raise_on_sigterm
from commprof.commbench.records.rundir import (
    create_run,
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
    raise_on_sigterm()
    path = path or new_run_path(root, kind, context.world_size)
    path = make_run(kind, context, device, path, backend=backend, workload=workload, resume=resume)
    if roll is not None:
        roll.doing = f"the {kind} run"
        roll.on_loss.append(partial(_mark, path, "failed"))
    with marked(path, context.rank), sampled(path, context), naming_lost_ranks(roll):
        yield path
        barrier()


def make_run(
    kind: RunKind,
    context: RankContext,
    device: torch.device,
    path: Path,
    *,
    backend: str,
    workload: Workload | None,
    resume: bool = False,
) -> Path:
    """Let rank 0 make the folder, with what all ranks say of themselves; return it as rank 0 sees it, on every rank."""
    info = _describe(kind, context, device, backend, workload)
    path = _together(_reopen if resume else _create, path, info, context, device)
    with marked_unless_well(path, context.rank):  # whoever is stopped here leaves no run that seems to go on
        _describe_hosts(path, context, device)
    return path


def sampled(path: Path, context: RankContext) -> AbstractContextManager[None]:
    """Sample the host while the block runs, if this is the first of its ranks."""
    if context.local_rank != 0:
        return nullcontext()
    node = context.rank // context.local_world_size
    return telemetry(telemetry_file(path, node), job=os.getppid() if context.local_world_size > 1 else None)


@contextmanager
def marked(path: Path, rank: int) -> Iterator[None]:
    """Write down how the block ended: rank 0 that it went well, any rank what went wrong."""
    with marked_unless_well(path, rank):
        yield
    if rank == 0:
        finish_run(path, "completed")


@contextmanager
def marked_unless_well(path: Path, rank: int) -> Iterator[None]:
    """Write down what went wrong in the block, on any rank."""
    try:
        yield
    except (KeyboardInterrupt, Interrupted) as error:
        _mark(path, "interrupted", str(error) or "stopped by SIGINT")
        raise
    except CommprofError as error:
        _mark(path, "failed", str(error))
        raise
    except BaseException as error:
        _mark(path, "failed", f"rank {rank}: {type(error).__name__}: {error}"[:1000])
        raise


def _describe_hosts(path: Path, context: RankContext, device: torch.device) -> None:
    """Write environment.json: each host's facts, in the order of the nodes."""
    own = msgspec.json.encode(hardware.host_info()).decode() if context.local_rank == 0 else ""
    hosts = [msgspec.json.decode(text, type=HostInfo) for text in gather_text(own, device) if text]
    if context.rank == 0:
        write_document(path / ENVIRONMENT_FILE, hosts)


def _mark(path: Path, status: RunStatus, failure: str) -> None:
    """Mark the run; a disk that cannot take the mark must not hide what ended the run."""
    try:
        finish_run(path, status, failure)
    except OSError as error:
        sys.stderr.write(f"commprof: {printable(str(path))} could not be marked {status} ({error.strerror})\n")


def _create(path: Path, info: RunInfo) -> None:
    create_run(path, replace(info, run_id=path.name))


def _reopen(path: Path, info: RunInfo) -> None:
    earlier = read_info(path)
    for field in ("kind", "world_size", "backend"):
        before, now = getattr(earlier, field), getattr(info, field)
        if before != now:
            raise BadInput(f"{path} has {field} {before}, not {now}; go on with it as it began")
    reopen_run(path)


def _together(
    make: Callable[[Path, RunInfo], None], path: Path, info: RunInfo, context: RankContext, device: torch.device
) -> Path:
    """Let rank 0 make the folder; return its path as rank 0 sees it, or raise rank 0's BadInput on every rank."""
    failure = ""
    if context.rank == 0:
        try:
            make(path, info)
        except CommprofError as error:
            failure = str(error)
    failure, shared_path = msgspec.json.decode(
        broadcast_text(msgspec.json.encode((failure, str(path.absolute()))).decode(), device), type=tuple[str, str]
    )
    if failure:
        raise BadInput(failure)
    return Path(shared_path)


def _describe(kind: RunKind, context: RankContext, device: torch.device, backend: str, workload: Workload | None) -> RunInfo:
    own = RankInfo(
        rank=context.rank,
        local_rank=context.local_rank,
        hostname=hardware.hostname(),
        device_name=torch.cuda.get_device_name(device) if device.type == "cuda" else hardware.device_name(),
        pci_bus_id=pci_bus_id(device),
    )
    ranks = gather_text(msgspec.json.encode(own).decode(), device)
    kernels = gather_text(hardware.boot_id(), device)
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
        ranks=tuple(msgspec.json.decode(text, type=RankInfo) for text in ranks),
        software=_software(),
        environ=hardware.allowed_environment(os.environ),
        workload=workload,
        num_machines=len(set(kernels)) if all(kernels) else None,
        wire=os.environ.get(hardware.WIRE_VARIABLE),
    )


def _software() -> SoftwareInfo:
    cuda = torch.version.cuda
    nccl = ".".join(map(str, torch.cuda.nccl.version())) if torch.cuda.is_available() else None  # type: ignore[no-untyped-call]
    return replace(hardware.software_info(), cuda=cuda, nccl=nccl)
