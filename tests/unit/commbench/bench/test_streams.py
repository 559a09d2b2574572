"""Which way a call takes into the process group: isolated calls of every collective the blocking one, DDP's the other."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from commprof.commbench.bench.collectives import Arena, Collective
from commprof.commbench.records.operations import OPERATIONS


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
