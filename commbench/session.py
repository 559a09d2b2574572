"""A run while it happens: rank 0 makes the folder, every rank knows it, and whatever ends the run is written down."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import torch

from commbench import hardware
from commbench.errors import BadInput, CommprofError, Interrupted
from commbench.records import SCHEMA_VERSION, RankInfo, RunInfo, RunKind, SoftwareInfo, Workload
from commbench.rundir import create_run, finish_run, new_run_path, now_utc
from commbench.runtime import RankContext, barrier, broadcast_text, gather_text, raise_on_sigterm


@contextmanager
def open_run(
    kind: RunKind,
    context: RankContext,
    device: torch.device,
    *,
    backend: str,
    root: Path,
    path: Path | None = None,
    workload: Workload | None = None,
) -> Iterator[Path]:
    """Make a run folder (at `path`, or named below `root`), yield it on every rank, and mark how it ended.

    Raises BadInput on every rank when the folder cannot be made.
    """
    raise_on_sigterm()
    info = _describe(kind, context, device, backend, workload)
    path = _create_together(path or new_run_path(root, kind, context.world_size), info, context, device)
    try:
        yield path
        barrier()
    except (KeyboardInterrupt, Interrupted) as error:
        finish_run(path, "interrupted", str(error) or "stopped by SIGINT")
        raise
    except BaseException as error:
        finish_run(path, "failed", f"rank {context.rank}: {type(error).__name__}: {error}"[:1000])
        raise
    if context.rank == 0:
        finish_run(path, "completed")


def _create_together(path: Path, info: RunInfo, context: RankContext, device: torch.device) -> Path:
    failure = ""
    if context.rank == 0:
        try:
            create_run(path, replace(info, run_id=path.name))
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
        pci_bus_id=_pci_bus_id(device),
    )
    ranks = gather_text(msgspec.json.encode(own).decode(), device)
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
    )


def _software() -> SoftwareInfo:
    cuda = torch.version.cuda
    nccl = ".".join(map(str, torch.cuda.nccl.version())) if torch.cuda.is_available() else None  # type: ignore[no-untyped-call]
    return replace(hardware.software_info(), cuda=cuda, nccl=nccl)


def _pci_bus_id(device: torch.device) -> str | None:
    if device.type != "cuda":
        return None
    properties: Any = torch.cuda.get_device_properties(device)  # torch declares no types for the PCI numbers
    return f"{properties.pci_domain_id:04x}:{properties.pci_bus_id:02x}:{properties.pci_device_id:02x}.0"
