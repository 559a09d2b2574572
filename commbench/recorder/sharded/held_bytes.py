"""What does a forward pass leave for its backward pass, and what do tensors take at most? By allocators' counts, in one step.

    held = live(backward begins) - live(step begins), gradients and gathered parameters left out at both

Nothing stands in the way of the computation: a count is read where phases and units begin and end. On a GPU it is that of
torch's caching allocator, whose highest count tells a peak where this step raised it; on a CPU that of glibc's malloc
(mallinfo2), from which torch has its memory there, and which keeps no highest count.
"""

import ctypes
import time
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn

from commprof.commbench.recorder.element_counts import own_shard
from commprof.commbench.recorder.sharded.marks import Direction, UnitRecorder

_PROBE_BYTES: Final = 2**22  # enough that nothing else in a process hides it
_MOST_READ_S: Final = 0.005  # glibc walks all that was freed and not taken again: 80 ms where 300,000 pieces lie between others
_FIELDS: Final = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")


class HeldBytes:
    """Reads the counts in the step that begins now. `activation_bytes`, with the batch's own, is None until it is told."""

    def __init__(self, model: nn.Module, units: UnitRecorder, device: torch.device) -> None:
        self._model, self._units, self._device = model, units, device
        self._live = live_bytes(device)
        self._highest_bytes = _highest_bytes(device)
        self._before_bytes = 0 if self._live is None else self._others_bytes(self._live, "forward")
        self.activation_bytes: int | None = None
        units.held_bytes = self._live

    def backward_begins(self) -> None:
        """Take notice of the backward pass of a micro-batch, of which the first tells."""
        if self._live is not None and self.activation_bytes is None:
            self.activation_bytes = max(0, self._others_bytes(self._live, "backward") - self._before_bytes)

    def end(self) -> None:
        """Take notice that the step has ended."""
        self._units.held_bytes = None

    def peak_bytes(self, optimizer_bytes: int) -> int | None:
        """Return the most that was allocated in the step beyond parameters and optimizer; None where there was more before."""
        highest_bytes = _highest_bytes(self._device)
        if highest_bytes <= self._highest_bytes:
            return None
        return max(0, highest_bytes - optimizer_bytes - sum(own_shard(each).nbytes for each in self._model.parameters()))

    def _others_bytes(self, live: Callable[[], int], ahead: Direction) -> int:
        """Return what is allocated but for gradients and parameters that are gathered, the pass `ahead` being next."""
        return live() - self._gradient_bytes() - self._units.gathered_bytes(ahead)

    def _gradient_bytes(self) -> int:
        """Return the bytes that go when gradients go: of views into DDP's buckets none, nor of what has no one memory."""
        if getattr(self._model, "gradient_as_bucket_view", False):
            return 0
        found = (own_shard(p.grad) for p in self._model.parameters() if p.grad is not None)
        storages = [own.untyped_storage() for own in found if type(own) is Tensor and own.layout == torch.strided]
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def live_bytes(device: torch.device) -> Callable[[], int] | None:
    """Return what counts the bytes that tensors have at present on a device; None where nothing does."""
    if device.type == "cuda":
        return lambda: torch.cuda.memory_allocated(device)
    count = _malloc_count() if device.type == "cpu" else None
    return count if count is not None and _is_of_use(count) else None


def _highest_bytes(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


class _Mallinfo2(ctypes.Structure):
    """struct mallinfo2 of malloc.h: `uordblks` bytes are in use in arenas, `hblkhd` bytes in mappings of their own."""

    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS]


def _malloc_count() -> Callable[[], int] | None:
    """Return glibc's count of the process's memory, which glibc has from 2.33 on."""
    try:
        ask: Any = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):
        return None
    ask.restype = _Mallinfo2

    def count() -> int:
        told = ask()
        return int(told.uordblks) + int(told.hblkhd)

    return count


def _is_of_use(count: Callable[[], int]) -> bool:
    """Say whether the count is read quickly and a tensor raises it: not where another malloc was loaded before glibc's."""
    begun_s = time.thread_time()  # a busy machine takes its cores away meanwhile, whatever the count costs
    before = count()
    if time.thread_time() - begun_s > _MOST_READ_S:
        return False
    probe = torch.empty(_PROBE_BYTES, dtype=torch.uint8)
    return count() - before >= probe.nbytes // 2
