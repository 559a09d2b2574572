"""What stands where the other ranks' shards of a flat parameter would, and who is seen to call torch.distributed."""

from types import ModuleType, SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from commprof.commbench.recorder.sharded.flat_collectives import Named
from commprof.commbench.recorder.sharded.flat_fill import keep_within, pieces_of, stand_everywhere

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
