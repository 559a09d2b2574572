"""What stands where the other ranks' shards of a flat parameter would, and who is seen to call torch.distributed."""

import importlib
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from commprof.commbench.recorder.own_work import OwnWork
from commprof.commbench.recorder.sharded.flat_collectives import FlatCollectives, Named
from commprof.commbench.recorder.sharded.flat_fill import keep_within, pieces_of, stand_everywhere
from commprof.commbench.recorder.sharded.unsent import Unsent

FLAT = SimpleNamespace(_numels_with_padding=(3, 1, 2, 2))


def test_a_shard_stands_for_others_within_what_their_parameters_were() -> None:
    """Weights, an alignment, ones, weights: the first two are the own rank's, whose alignment of 42 is nobody's weight."""
    gathered = torch.tensor([5.0, -0.1, 0.3, 42.0, 1.0, 1.0, -0.2, 0.4])
    whole, own = gathered.clone(), gathered[:4]
    pieces = pieces_of(FLAT, whole.chunk(2), 0)
    assert [(piece.rank, piece.start, piece.end) for piece in pieces] == [(1, 0, 2), (1, 2, 4)]
    stand_everywhere(whole.chunk(2), own)
    keep_within(whole.chunk(2), pieces)
    assert torch.equal(whole, torch.tensor([5.0, -0.1, 0.3, 42.0, 1.0, 1.0, 0.3, 0.4]))


def test_a_parameter_may_lie_in_several_shards_and_its_layout_be_unknown() -> None:
    whole = torch.arange(8.0)
    across = pieces_of(SimpleNamespace(_numels_with_padding=(7,)), whole.chunk(4), 1)
    assert [(piece.rank, piece.start, piece.end, piece.least) for piece in across] == [(0, 0, 2, 0), (2, 0, 2, 4), (3, 0, 1, 6)]
    unknown = pieces_of(SimpleNamespace(), whole.chunk(2), 1)
    assert [(piece.rank, piece.start, piece.end, piece.largest) for piece in unknown] == [(0, 0, 4, 3)]


@pytest.fixture
def module() -> ModuleType:
    made = ModuleType("sends")
    made.dist = dist  # type: ignore[attr-defined]
    return made


def test_a_name_is_given_back_and_all_else_is_torchs(module: ModuleType) -> None:
    named = Named(module, {"all_reduce": lambda send, tensor, **_: ("seen", tensor)})
    assert module.dist.all_reduce(1, group=None) == ("seen", 1)
    assert module.dist.get_world_size is dist.get_world_size
    named.release()
    assert module.dist is dist


def test_a_name_that_somebody_else_has_taken_since_is_left_to_them(module: ModuleType) -> None:
    first = Named(module, {"all_reduce": lambda send, tensor: "first"})
    second = Named(module, {})
    first.release()
    assert module.dist is second
    assert module.dist.all_reduce(1) == "first"


class _Flat:
    """What is known of a unit of two shards, this rank's being the first."""

    def __init__(self) -> None:
        self.flat_param = nn.Parameter(torch.tensor([1.0, 9.0]))
        self.flat_param._numels_with_padding = (2, 2)  # type: ignore[attr-defined]
        self._training_state = SimpleNamespace(name="FORWARD")


@pytest.fixture
def unit(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, list[str]]]:
    """A unit as on a GPU, where nobody waits, its first gather done, and the marks it made."""
    monkeypatch.setattr(Unsent, "_waits", lambda *_: None)
    gathering = importlib.import_module("torch.distributed.fsdp._flat_param")
    monkeypatch.setattr(gathering, "dist", SimpleNamespace(all_gather_single=sent))
    group = SimpleNamespace(size=lambda: 2, rank=lambda: 0)
    outer = SimpleNamespace(_handle=_Flat(), process_group=group, sharding_strategy=SimpleNamespace(name="FULL_SHARD"))
    marks: list[str] = []
    collectives = FlatCollectives([outer], lambda name, _unit: marks.append(name), OwnWork(), alone=True)
    collectives.put()
    collectives.in_step = True
    yield outer._handle, marks
    collectives.release()


def sent(output: torch.Tensor, shard: torch.Tensor, _group: object = None) -> None:
    """The other rank's shard is -1, 2."""
    output.copy_(torch.cat([shard, torch.tensor([-1.0, 2.0])]))


def gathered(handle: Any, shard: torch.Tensor | None = None) -> list[float]:  # noqa: ANN401
    flat_param = importlib.import_module("torch.distributed.fsdp._flat_param")
    output = torch.empty(4)
    flat_param.dist.all_gather_single(output, handle.flat_param.data if shard is None else shard, None)
    return output.tolist()


def test_the_first_gather_is_sent_and_later_ones_are_this_ranks(unit: tuple[Any, list[str]]) -> None:
    handle, marks = unit
    assert gathered(handle) == [1, 9, -1, 2]
    assert gathered(handle) == [1, 9, 1, 2]
    assert marks == ["gather_sent", "gather_landed"] * 2


def test_what_is_no_passes_gather_of_a_unit_is_sent(unit: tuple[Any, list[str]]) -> None:
    """A checkpoint's, and one of another tensor, the same as it may be."""
    handle, marks = unit
    gathered(handle)
    marks.clear()
    assert gathered(handle, handle.flat_param.detach().clone()) == [1, 9, -1, 2]
    handle._training_state.name = "SUMMON_FULL_PARAMS"
    assert gathered(handle) == [1, 9, -1, 2]
    assert marks == []
