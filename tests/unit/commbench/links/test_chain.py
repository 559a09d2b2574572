"""A backward pass beside short all-reduces, on a simulated GPU: a host that launches one thing after another, two streams."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch

from commprof.commbench.contention import overlap
from commprof.commbench.contention.backward import Backward
from commprof.commbench.timing import host_wait

ALL_REDUCE_LAUNCH_S = 25e-6
KERNEL_LAUNCH_S = 6e-6
GRAPH_LAUNCH_S = 20e-6
KERNELS = 36  # of a pass: each takes less time than its launch, as those of a small backward pass do
KERNEL_S = 4e-6
GPU = SimpleNamespace(type="cuda")


@dataclass
class Gpu:
    """`busy` is until when each stream has work; what is `captured` is not launched but kept."""

    host_s: float = 0.0
    current: str = "main"
    busy: dict[str, float] = field(default_factory=lambda: {"main": 0.0, "side": 0.0})
    captured: list[float] | None = None

    def launch(self, host_s: float, device_s: float) -> None:
        if self.captured is not None:
            self.captured.append(device_s)
            return
        self.host_s += host_s
        self.busy[self.current] = max(self.host_s, self.busy[self.current]) + device_s

    @contextmanager
    def stream(self, name: str) -> Iterator[None]:
        before, self.current = self.current, name
        yield
        self.current = before

    @contextmanager
    def capture(self, graph: "Graph") -> Iterator[None]:
        self.captured = graph.kernels_s
        yield
        self.captured = None


@dataclass
class Graph:
    gpu: Gpu
    kernels_s: list[float] = field(default_factory=list)

    def replay(self) -> None:
        self.gpu.launch(GRAPH_LAUNCH_S, sum(self.kernels_s))


@dataclass
class Mark:
    at_s: float


class SimulatedClock:
    name = "simulated"
    runs_behind = True

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu

    def mark(self) -> Mark:
        return Mark(max(self._gpu.host_s, self._gpu.busy[self._gpu.current]))

    def happened(self, mark: Mark) -> bool:
        self._gpu.host_s += 1e-6
        return self._gpu.host_s >= mark.at_s

    def seconds(self, start: Mark, end: Mark) -> float:
        self._gpu.host_s = max(self._gpu.host_s, end.at_s)
        return end.at_s - start.at_s

    def synchronize(self) -> None:
        self._gpu.host_s = max(self._gpu.host_s, *self._gpu.busy.values())


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    gpu = Gpu()
    monkeypatch.setattr(torch, "zeros", lambda *shape, device: SimpleNamespace(device=device))
    monkeypatch.setattr(torch.cuda, "Stream", lambda: "side")
    monkeypatch.setattr(torch.cuda, "stream", gpu.stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: Graph(gpu))
    monkeypatch.setattr(torch.cuda, "graph", gpu.capture)
    return gpu


def in_simulation(
    monkeypatch: pytest.MonkeyPatch, gpu: Gpu, all_reduce_s: float
) -> tuple[overlap.Transfer, Callable[[], None]]:
    """Return what is sent, calibrated as on a GPU, and the pass beside it."""

    def all_reduce(buffer: object, async_op: bool = False) -> SimpleNamespace:
        gpu.launch(ALL_REDUCE_LAUNCH_S, all_reduce_s)
        return SimpleNamespace(wait=lambda: None)

    def backward() -> None:
        for _ in range(KERNELS):
            gpu.launch(KERNEL_LAUNCH_S, KERNEL_S)

    def found(target_s: float, *rest: object) -> Backward:
        return Backward(width=32, layers=4, seconds=KERNELS * KERNEL_LAUNCH_S, run=backward)

    monkeypatch.setattr(overlap.dist, "all_reduce", all_reduce)
    monkeypatch.setattr(overlap, "calibrated_backward", found)
    transfer, chain_s, _ = overlap._calibrate(2**20, GPU, SimulatedClock(gpu))  # type: ignore[arg-type]
    assert chain_s >= 1.8e-3  # room for several passes
    return transfer, backward


@pytest.mark.parametrize("all_reduce_us", [4, 8, 15, 30, 60, 200, 5000])
def test_what_does_not_slow_each_other_is_not_said_to(monkeypatch: pytest.MonkeyPatch, gpu: Gpu, all_reduce_us: float) -> None:
    """A host that launches passes has no time left for all-reduces: launched by it, those of 4 us look 9 times as long."""
    transfer, backward = in_simulation(monkeypatch, gpu, all_reduce_us * 1e-6)
    measured = overlap._round(transfer, backward, 10, GPU, SimulatedClock(gpu))  # type: ignore[arg-type]
    assert measured.comm_with_compute_s / measured.comm_alone_s == pytest.approx(1, rel=0.02)
    assert measured.comm_alone_s == pytest.approx(all_reduce_us * 1e-6, rel=0.02)
    assert measured.compute_with_comm_s is not None
    assert measured.compute_with_comm_s / measured.compute_alone_s == pytest.approx(1, rel=0.1)


def test_passes_that_go_on_beside_a_lost_rank_are_one_wait(monkeypatch: pytest.MonkeyPatch, gpu: Gpu) -> None:
    """Each pass comes to its end; the all-reduce does not, which is what the rank waits for."""
    transfer, backward = in_simulation(monkeypatch, gpu, 200e-6)
    since_s: list[float | None] = []
    done = transfer.done

    def watched() -> bool:
        since_s.append(host_wait.since_s)
        return done()

    monkeypatch.setattr(transfer, "done", watched)
    overlap._round(transfer, backward, 10, GPU, SimulatedClock(gpu))  # type: ignore[arg-type]
    assert len(since_s) > 3
    assert len(set(since_s)) == 1
    assert since_s[0] is not None


@pytest.mark.parametrize("all_reduce_us", [4, 30, 200])
def test_the_chain_lies_beside_passes(monkeypatch: pytest.MonkeyPatch, gpu: Gpu, all_reduce_us: float) -> None:
    transfer, backward = in_simulation(monkeypatch, gpu, all_reduce_us * 1e-6)
    clock = SimulatedClock(gpu)
    clock.synchronize()
    passes, (start, end) = overlap._both(transfer, backward, GPU, clock)  # type: ignore[arg-type]
    beside_s = sum(max(0.0, min(e.at_s, end.at_s) - max(s.at_s, start.at_s)) for s, e in passes)
    assert beside_s > 0.9 * (end.at_s - start.at_s)
    assert len([each for each in passes if each[0].at_s > end.at_s]) <= 4  # few are left over
