"""What a forward pass leaves in memory, of modules that save tensors of known sizes: counted where nobody stands in the way."""

import gc
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from commprof.commbench.recorder.own_work import OwnWork
from commprof.commbench.recorder.sharded import held_bytes
from commprof.commbench.recorder.sharded.held_bytes import HeldBytes, live_bytes
from commprof.commbench.recorder.sharded.marks import UnitRecorder
from commprof.commbench.timing import MonotonicClock

MIB = 2**20
CPU = torch.device("cpu")
NEAR = 256 * 1024  # what Python and torch take for themselves meanwhile

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="malloc's count is glibc's")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has run many tests has much that was freed in between."""
    gc.collect()
    monkeypatch.setattr(held_bytes, "_MOST_READ_S", 60)


class Net(nn.Module):
    """A gradient of 1 MiB; of a batch of 2 MiB that is saved, the result of exp is saved too."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(MIB // 4))

    def forward(self, batch: Tensor) -> Tensor:
        return ((batch * self.weight).exp() ** 3).sum()


def looked_at(model: nn.Module) -> HeldBytes:
    return HeldBytes(model, UnitRecorder((), 0, MonotonicClock(), OwnWork()), CPU)


def told_bytes(model: Net, before_backward: Callable[[], None] = lambda: None, num_passes: int = 1) -> int:
    """Return what is told of a step whose loop takes its batch within the step."""
    held = looked_at(model)
    for _ in range(num_passes):
        loss = model(torch.ones(2, MIB // 4))
        before_backward()
        held.backward_begins()
        loss.backward()
    held.end()
    assert held.activation_bytes is not None
    return held.activation_bytes


@pytest.mark.parametrize("num_passes", [1, 3])
def test_what_autograd_saves_and_the_batch_count(num_passes: int) -> None:
    """The batch and the result of exp, 2 MiB each, of the first pass: the second has a gradient beside it."""
    assert told_bytes(Net(), num_passes=num_passes) == pytest.approx(4 * MIB, abs=NEAR)


@pytest.mark.parametrize("late", [False, True])
def test_gradients_do_not_count_whenever_they_are_let_go(late: bool) -> None:
    model = Net()
    model.weight.grad = torch.zeros_like(model.weight)
    assert told_bytes(model, model.zero_grad if late else lambda: None) == pytest.approx(4 * MIB, abs=NEAR)


def test_gradients_in_the_buckets_of_ddp_stay_when_they_are_let_go() -> None:
    model: Any = Net()
    model.gradient_as_bucket_view = True
    bucket = torch.zeros(MIB // 4)
    model.weight.grad = bucket
    assert told_bytes(model, model.zero_grad) == pytest.approx(4 * MIB, abs=NEAR)
    assert len(bucket) == MIB // 4


def test_sparse_gradients_have_no_one_memory() -> None:
    table = nn.Embedding(100, 4, sparse=True)
    table(torch.tensor([1, 2])).sum().backward()
    held = looked_at(table)
    held.backward_begins()
    assert held.activation_bytes == pytest.approx(0, abs=NEAR)


def test_where_another_malloc_counts_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_bytes, "_malloc_count", lambda: lambda: 7)
    assert live_bytes(CPU) is None
    held = looked_at(Net())
    held.backward_begins()
    assert (held.activation_bytes, held.peak_bytes(0)) == (None, None)


def test_a_count_that_takes_long_is_not_read_in_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    assert live_bytes(CPU) is not None
    monkeypatch.setattr(held_bytes, "_MOST_READ_S", 0)
    assert live_bytes(CPU) is None


def test_a_count_is_read_whose_core_others_had_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    count = live_bytes(CPU)
    assert count is not None

    def interrupted() -> int:
        time.sleep(0.05)
        return count()

    monkeypatch.setattr(held_bytes, "_MOST_READ_S", 0.04)
    monkeypatch.setattr(held_bytes, "_malloc_count", lambda: interrupted)
    assert live_bytes(CPU) is interrupted


def test_a_gpus_allocator_tells_the_peak_where_this_step_raised_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """7 MiB were the most before; in the step 12 MiB, of which the parameter is one and the optimizer's state two."""
    highest = [7 * MIB, 12 * MIB]
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: highest.pop(0) if highest[1:] else highest[0])
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    model = Net()

    def look() -> HeldBytes:
        return HeldBytes(model, UnitRecorder((), 0, MonotonicClock(), OwnWork()), torch.device("cuda", 0))

    assert look().peak_bytes(2 * MIB) == 9 * MIB
    assert look().peak_bytes(2 * MIB) is None, "it was as high before"
