"""How much does autograd hold for a backward pass, and what do tensors take at most? Told of a sharded training's first steps.

What autograd holds is counted in the first, by the hooks that it has for what it saves. The peak is the allocator's own, in the
second, by when the optimizer has its state: on a GPU its statistics, on a CPU what torch's profiler sees it give and take.
"""

import ctypes
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile

from commprof.commbench.recorder.element_counts import own_shard
from commprof.commbench.recorder.sharded.marks import UnitRecorder
from commprof.train.sharding import is_sharded

_HELD, _PEAK = 0, 1  # the steps in which they are measured
_ERROR = 2  # torch's number of that level


class Held:
    """The bytes held now and at most; memory that several saved tensors share counts once, a parameter's not at all."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._users: Counter[int] = Counter()
        self.now_bytes = 0
        self.peak_bytes = 0

    def pack(self, tensor: Tensor) -> "_Saved":
        storage = tensor.untyped_storage()
        own = storage.data_ptr() in {own_shard(p.detach()).untyped_storage().data_ptr() for p in self._model.parameters()}
        return _Saved(tensor.detach(), self, storage.data_ptr(), 0 if own else storage.nbytes())

    def add(self, place: int, num_bytes: int) -> None:
        self.now_bytes += num_bytes if self._users[place] == 0 else 0
        self._users[place] += 1
        self.peak_bytes = max(self.peak_bytes, self.now_bytes)

    def remove(self, place: int, num_bytes: int) -> None:
        self._users[place] -= 1
        self.now_bytes -= num_bytes if self._users[place] == 0 else 0


class _Saved:
    """One saved tensor, for as long as autograd's graph has it."""

    def __init__(self, tensor: Tensor, held: Held, place: int, num_bytes: int) -> None:
        self.tensor, self._held, self._place, self._num_bytes = tensor, held, place, num_bytes
        held.add(place, num_bytes)

    def __del__(self) -> None:
        self._held.remove(self._place, self._num_bytes)


@contextmanager
def counting_held(model: nn.Module) -> Iterator[Held]:
    """Count what forward passes inside save for their backward."""
    held = Held(model)
    with saved_tensors_hooks(held.pack, lambda saved: saved.tensor):
        yield held


class Peak:
    """The bytes that tensors took at most beyond those that there were."""

    num_bytes = 0


@contextmanager
def measuring_peak(device: torch.device) -> Iterator[Peak]:
    """Measure what is allocated inside; on a GPU since the process began, whose peak a step with optimizer's state is."""
    peak = Peak()
    if device.type == "cuda":
        before_bytes = torch.cuda.memory_allocated(device)
        yield peak
        peak.num_bytes = torch.cuda.max_memory_allocated(device) - before_bytes
        return
    with _errors_alone(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        yield peak
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    seen = profiler.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in seen if event.name() == "[memory]")
    peak.num_bytes = max(accumulate((num_bytes for _, num_bytes in changes), initial=0))


@contextmanager
def _errors_alone() -> Iterator[None]:
    """Keep torch from warning, on everybody's terminal, of memory that is older than the profiler and is freed under it."""
    try:
        level = ctypes.c_int.in_dll(
            ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so")), "FLAGS_caffe2_log_level"
        )
    except (OSError, ValueError):  # another build of torch: it warns
        yield
        return
    before, level.value = level.value, max(level.value, _ERROR)
    try:
        yield
    finally:
        level.value = before


def tells_peak(model: nn.Module, number: int) -> bool:
    """Whether the step of this number, from where the run began, is slowed by looking at its memory."""
    return number == _PEAK and is_sharded(model)


@contextmanager
def telling_memory(
    model: nn.Module, optimizer_bytes: Callable[[], int], device: torch.device, units: UnitRecorder, number: int
) -> Iterator[None]:
    """Tell the recorder of a sharded training's memory in its first two steps; `number` counts from where the run began."""
    if not is_sharded(model) or number not in (_HELD, _PEAK):
        yield
    elif number == _HELD:
        with counting_held(model) as held:
            units.held_bytes = lambda: held.now_bytes
            yield
            units.held_bytes = None
        units.tell(optimizer_bytes=optimizer_bytes(), activation_bytes=held.peak_bytes)
    else:
        with measuring_peak(device) as peak:
            yield
        units.tell(peak_bytes=peak.num_bytes)
