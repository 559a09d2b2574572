"""What stands where the other ranks' shards of a flat parameter would, and who is seen to call torch.distributed."""

from types import ModuleType, SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from commprof.commbench.recorder.sharded.flat_collectives import Named, padding_in_shard, stand_everywhere

FLAT = SimpleNamespace(_numels_with_padding=(3, 1, 2, 2), _is_padding_mask=[False, True, False, True])


@pytest.mark.parametrize(("rank", "padding"), [(0, [3]), (1, [2, 3])])
def test_what_aligns_parameters_is_found_in_each_shard(rank: int, padding: list[int]) -> None:
    assert padding_in_shard(FLAT, torch.empty(4), rank).tolist() == padding


def test_a_torch_that_pads_otherwise_has_none_that_is_known() -> None:
    assert padding_in_shard(SimpleNamespace(), torch.empty(4), 0).tolist() == []


@pytest.mark.parametrize("as_list", [True, False], ids=["gloo", "nccl"])
def test_a_shard_stands_for_all_without_what_aligns_it(as_list: bool) -> None:
    """torch fills the alignment with 42, which must become nobody's weight."""
    whole, own = torch.empty(8), torch.tensor([1.0, 2.0, 3.0, 42.0])
    stand_everywhere(list(whole.chunk(2)) if as_list else whole, own, torch.tensor([3]))
    assert whole.tolist() == [1, 2, 3, 0] * 2


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
