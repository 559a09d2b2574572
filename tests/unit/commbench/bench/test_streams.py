"""Which way a call takes into the process group, blocking or not, and whether its launch is watched."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from commprof.commbench.bench.burst import Burst
from commprof.commbench.bench.collectives import Arena, Collective
from commprof.commbench.bench.timer import CallTimer
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.timing import MonotonicClock, device_clock, host_wait
from tests.fake_cuda import FakeCuda, fake_cuda


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each call was to run beside the current stream."""
    calls: list[bool] = []

    class Group:
        def allreduce(self, tensors: list[torch.Tensor], options: dist.AllreduceOptions) -> None:
            calls.append(options.asyncOp)

    def other(*arguments: object, async_op: bool = False, **named: object) -> None:
        calls.append(async_op)

    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "group", SimpleNamespace(WORLD=Group()))
    for name in ("reduce", "broadcast", "all_to_all_single", "gather", "scatter", "barrier"):
        monkeypatch.setattr(dist, name, other)
    for name in ("_all_gather", "_reduce_scatter"):
        monkeypatch.setattr(f"commprof.commbench.bench.collectives.{name}", other)
    return calls


@pytest.mark.parametrize("op", [name for name in OPERATIONS if name != "send_recv"])
def test_blocking_calls_of_all_collectives_share_the_current_stream(op: str, asked: list[bool]) -> None:
    collective = Collective(op, "float32", "sum", 0, 0 if op == "barrier" else 64, False, torch.device("cpu"))
    collective.allocate(Arena(torch.device("cpu")), 0)
    collective.run(0)
    collective.issue(0)
    assert asked == [False, True]


class Launched:
    """Stands in for a collective whose launches find the device's queue full."""

    def __init__(self) -> None:
        self.waits: list[bool] = []

    def issue(self, index: int) -> list[SimpleNamespace]:
        self.waits.append(host_wait.since_s is not None)
        return [SimpleNamespace(wait=lambda: self.waits.append(host_wait.since_s is not None))]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return fake_cuda(monkeypatch, 1)


class Making(Launched):
    """Notes how many events there were when a call was launched, and waited for."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda, self.made = cuda, list[int]()

    def run(self, index: int) -> None:
        self.made.append(self.cuda.made)

    def issue(self, index: int) -> list[SimpleNamespace]:
        self.run(index)
        return [SimpleNamespace(wait=lambda: self.run(index))]


def test_no_event_is_made_inside_what_is_timed_and_each_is_used_again(cuda: FakeCuda) -> None:
    """An event comes to be when it is first recorded, which takes longer than the smallest calls."""
    collective, cpu = Making(cuda), torch.device("cpu")
    timer = CallTimer(collective, cpu, device_clock(torch.device("cuda", 0)), lambda: 0.0, lambda: 0)  # type: ignore[arg-type]
    for _ in range(2):
        timer.isolated(5)
        timer.pipelined(5, calls=3)
    assert set(collective.made) == {cuda.made} == {10}


def test_a_burst_makes_its_events_before_it_begins(cuda: FakeCuda) -> None:
    buckets = [Making(cuda), Making(cuda)]
    burst = Burst.__new__(Burst)
    burst.bench, burst.buckets = SimpleNamespace(clock=device_clock(torch.device("cuda", 0))), buckets  # type: ignore[assignment]
    burst._time()
    burst._time()
    assert {made for bucket in buckets for made in bucket.made} == {cuda.made} == {3}


def test_launches_back_to_back_are_waits() -> None:
    collective, clock = Launched(), MonotonicClock()
    timer = CallTimer(collective, torch.device("cpu"), clock, lambda: 0.0, lambda: 0)  # type: ignore[arg-type]
    timer.pipelined(2, calls=3)
    assert collective.waits == [True] * 12


def test_a_bursts_launches_are_waits() -> None:
    buckets = [Launched(), Launched()]
    burst = Burst.__new__(Burst)
    burst.bench, burst.buckets = SimpleNamespace(clock=MonotonicClock()), buckets  # type: ignore[assignment]
    assert len(burst._time()) == 2
    assert [bucket.waits for bucket in buckets] == [[True, True]] * 2
    assert host_wait.since_s is None
