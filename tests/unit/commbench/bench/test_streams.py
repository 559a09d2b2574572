"""Which way a call takes into the process group, blocking or not, and whether its launch is watched."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from commprof.commbench.bench.burst import Burst
from commprof.commbench.bench.collectives import Arena, Collective
from commprof.commbench.bench.timer import CallTimer
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.timing import MonotonicClock, host_wait


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
