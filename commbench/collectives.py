"""The collectives: what a rank puts in, what must come out, and what the bus carries for it.

Inputs depend on rank and position, so that a lost rank, a swapped segment or a stale buffer all show. They repeat with a
prime period and stay below 2^24 in sum, so that float32 adds them exactly in any order: the comparison needs no tolerance.
"""

import torch
import torch.distributed as dist

DTYPE = torch.float32

_PERIOD = 127  # prime, so it lines up with no segment size; 127 * ranks < 2^24 up to 132,104 ranks
_RANK_STRIDE = 31


def rank_input(rank: int, num_elements: int, device: torch.device) -> torch.Tensor:
    """Return rank's input: element i is (i + 31 rank) mod 127 + 1, float32, shape [num_elements]."""
    return _tile(_pattern(rank), num_elements, device)


def expected_sum(world_size: int, num_elements: int, device: torch.device) -> torch.Tensor:
    """Return what an all-reduce of every rank's input must give, float32, shape [num_elements]."""
    total = torch.zeros(_PERIOD, dtype=DTYPE)
    for rank in range(world_size):
        total += _pattern(rank)
    return _tile(total, num_elements, device)


def count_wrong(buffer: torch.Tensor, world_size: int) -> int:
    """All-reduce this rank's input in `buffer` and count the elements that are not exactly the sum, over all ranks."""
    rank = dist.get_rank()
    buffer.copy_(rank_input(rank, buffer.numel(), buffer.device))
    dist.all_reduce(buffer)
    wrong = (buffer != expected_sum(world_size, buffer.numel(), buffer.device)).sum()
    dist.all_reduce(wrong)
    return int(wrong)


def _pattern(rank: int) -> torch.Tensor:
    return ((torch.arange(_PERIOD) + _RANK_STRIDE * rank) % _PERIOD + 1).to(DTYPE)


def _tile(pattern: torch.Tensor, num_elements: int, device: torch.device) -> torch.Tensor:
    return pattern.to(device).repeat(-(-num_elements // _PERIOD))[:num_elements]
