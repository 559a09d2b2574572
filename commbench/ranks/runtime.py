"""How do the ranks meet, and how do they agree?

Text travels between ranks as UTF-8 bytes in tensors: torch's own object collectives would pickle it.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import Store

from commprof.commbench.errors import BadInput, RunFailed
from commprof.commbench.ranks.deadline import Deadline
from commprof.commbench.ranks.failures import lost_a_peer, out_of_memory, reason, refused_by_nccl
from commprof.commbench.ranks.launched import RankContext
from commprof.commbench.ranks.meeting import held_back_errors, is_held_by_launcher, meet
from commprof.commbench.ranks.rollcall import RollCall, explain
from commprof.commbench.ranks.sharing import card_of, refuse_shared_cards
from commprof.commbench.timing import host_wait

_RESERVE_S = 8.0  # of the timeout for what follows a lost rank: calling the roll, and the launcher's grace for the others
_RESERVE_SHARE = 0.5  # at most
_ROLL_SHARE = 0.25  # of the reserve
_WATCHDOG_S = 30.0  # by which torch's own watchdog comes after the whole timeout
_DUMP_WAITS = 4


def waits_silently(backend: str) -> bool:
    """Say whether a lost peer shows as a wait without end: NCCL's calls return before the work is done."""
    return backend == "nccl"


def resolve_backend(name: str) -> str:
    """Turn `auto` into nccl where CUDA works, else gloo; refuse nccl where it cannot run."""
    if name == "auto":
        return "nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    if name == "nccl" and not torch.cuda.is_available():
        raise BadInput("backend nccl needs a CUDA device and this machine shows none; use gloo")
    return name


def rank_device(context: RankContext, backend: str) -> torch.device:
    """Pick and select this rank's device: its own GPU under NCCL, the host under gloo."""
    if backend != "nccl":
        return torch.device("cpu")
    visible = torch.cuda.device_count()
    index = 0 if visible == 1 else context.local_rank  # one alone is this rank's own, or shared: the ranks compare them
    if index >= visible:
        raise BadInput(
            f"rank {context.rank} is number {context.local_rank} on its node, which shows {visible} GPUs; "
            "start at most one rank a GPU, or take --backend gloo"
        )
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def pci_bus_id(device: torch.device) -> str | None:
    """Return a GPU's place on the PCI bus as GpuInfo has it ("0000:3b:00.0"); None for the host."""
    if device.type != "cuda":
        return None
    properties: Any = torch.cuda.get_device_properties(device)  # torch declares no types for the PCI numbers
    return f"{properties.pci_domain_id:04x}:{properties.pci_bus_id:02x}:{properties.pci_device_id:02x}.0"


def group_timeout_s(timeout_s: float) -> float:
    """Return how long a collective, of any group, waits for a lost rank, so that the run is over within the timeout."""
    return timeout_s - min(_RESERVE_S, _RESERVE_SHARE * timeout_s)


@contextmanager
def process_group(
    context: RankContext, backend: str, timeout_s: float, device: torch.device | None = None
) -> Iterator[RollCall | None]:
    """Open the process group and yield the roll call, None for one rank. NCCL takes the rank's `device`.

    A collective that waits for a lost rank fails early enough for the run to be over within `timeout_s`; under NCCL, where none
    fails, a thread ends the process instead (deadline.py). A rank that loses its peers raises RunFailed, which names them. The
    group is destroyed only when all went well: after a failure the other side is gone and tearing down in order would be one
    more wait.
    """
    wait_s = group_timeout_s(timeout_s)
    silent = waits_silently(backend)
    if silent:
        os.environ.setdefault("TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC", _dump_wait_ms(timeout_s if context.world_size > 1 else 0))
    _open_group(context, backend, wait_s, timeout_s + _WATCHDOG_S if silent else wait_s, device)
    roll = _roll_call(context, _ROLL_SHARE * (timeout_s - wait_s))
    watch = Deadline(roll, wait_s) if roll is not None and silent else None
    try:
        with naming_lost_ranks(roll), watch or nullcontext():
            if roll is not None and watch is not None:
                roll.on_loss = watch.before_end
            yield roll
            with host_wait:
                dist.destroy_process_group()
    finally:
        if roll is not None:
            roll.dismiss()


def _dump_wait_ms(own_s: float) -> str:
    """Return what torch's watchdog waits for a dump, so that it leaves the end to us for so long, once it knows of a failure.

    It sleeps four of these before it aborts (ProcessGroupNCCL.cpp, Watchdog::runLoop), also when NCCL has lost a connection,
    which it sees within a second: a survivor would be gone before anybody has asked for whom it waits.
    """
    return str(max(1000, math.ceil(own_s * 1000 / _DUMP_WAITS)))


@contextmanager
def naming_lost_ranks(roll: RollCall | None) -> Iterator[None]:
    """Turn the error of a collective into RunFailed: who is missing and in what, who has no memory, or what NCCL refused."""
    try:
        yield
    except RuntimeError as error:  # torch's DistError is one too
        if (line := _what_failed(error, roll)) is None:
            raise
        raise RunFailed(line) from None


def _what_failed(error: RuntimeError, roll: RollCall | None) -> str | None:
    """Say in one line what a collective's error means; None for an error that is none of a collective's."""
    doing, rank = ("the run", 0) if roll is None else (roll.doing, roll.rank)
    if out_of_memory(error):
        return f"rank {rank} is out of memory in {doing}: {reason(error)}; use less, a lower -e or a smaller batch"
    if refused_by_nccl(error):
        return f"NCCL failed in {doing} on rank {rank}: {reason(error)}"
    if not lost_a_peer(error):
        return None
    return reason(error) if roll is None else explain(doing, roll.call(), reason(error))


def _open_group(context: RankContext, backend: str, wait_s: float, timeout_s: float, device: torch.device | None) -> None:
    """Meet the others within `wait_s` and open the group, whose calls take the timeout, or raise RunFailed."""
    timeout = timedelta(seconds=timeout_s)
    try:
        with held_back_errors() as own_errors:
            if context.launcher == "single":
                store: Store = torch._C._distributed_c10d.HashStore()
            else:
                store = meet(context, wait_s, own_errors)
            own = _own_card(context, store, device) if backend == "nccl" else None
            ranks, rank = context.world_size, context.rank
            dist.init_process_group(backend, timeout=timeout, world_size=ranks, rank=rank, store=store, device_id=own)
    except (RuntimeError, ValueError) as error:
        raise RunFailed(f"rank {context.rank} cannot open the process group: {reason(error)}") from None


def _own_card(context: RankContext, store: Store, device: torch.device | None) -> torch.device | None:
    """Return the device that NCCL is opened with, once the ranks know that no two of them share a card; None without one.

    With its device NCCL connects now, not in the first collective, and has one communicator for messages too.
    """
    if device is not None:
        os.environ.setdefault("TORCH_NCCL_SHOW_EAGER_INIT_P2P_SERIALIZATION_WARNING", "0")
        refuse_shared_cards(store, context.rank, context.world_size, card_of(device))
    return device


def _roll_call(context: RankContext, wait_s: float) -> RollCall | None:
    if context.world_size == 1:
        return None
    store = dist.distributed_c10d._get_default_store()
    return RollCall(context.rank, context.world_size, store, wait_s, held_by_rank_0=not is_held_by_launcher(os.environ))


def broadcast_text(text: str, device: torch.device) -> str:
    """Return rank 0's text on every rank."""
    return gather_text(text, device)[0]


def gather_text(text: str, device: torch.device) -> list[str]:
    """Return every rank's text, in rank order, on every rank."""
    if not dist.is_initialized():
        return [text]
    raw = text.encode()
    lengths = [int(length) for (length,) in gather_values([float(len(raw))], device)]
    padded = torch.zeros(max(*lengths, 1), dtype=torch.uint8)
    padded[: len(raw)] = torch.frombuffer(bytearray(raw), dtype=torch.uint8) if raw else padded[:0]
    padded = padded.to(device)
    gathered = [torch.empty_like(padded) for _ in lengths]
    with host_wait:
        dist.all_gather(gathered, padded)
        return [bytes(row[:length].tolist()).decode() for row, length in zip(gathered, lengths, strict=True)]


def gather_values(values: list[float], device: torch.device) -> list[list[float]]:
    """Return every rank's list of numbers (all of one length), in rank order, on every rank."""
    if not dist.is_initialized():
        return [values]
    own = torch.tensor(values, dtype=torch.float64, device=device)
    gathered = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    with host_wait:
        dist.all_gather(gathered, own)
        return [row.tolist() for row in gathered]


def barrier() -> None:
    """Wait for all ranks, where there are others."""
    if dist.is_initialized():
        with host_wait:
            dist.barrier()
