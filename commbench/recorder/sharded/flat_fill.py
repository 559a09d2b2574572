"""What stands in a flat parameter for the shards of other ranks? This rank's, kept within what each parameter there was.

A shard of FullyShardedDataParallel's is cut from parameters laid end to end: copied as it is, embeddings would stand for an
output layer's weights, weights for a norm's ones, and the number 42 with which torch aligns parameters for any of them. Trained
with SGD such a model soon computes with infinities. So what one gather brought of each parameter tells between which values its
elements lay, and a copy is kept between these: ones stay ones, and no weight is larger than those that it stands for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final

import torch
from torch import Tensor

_ORDERED: Final = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of one parameter in another rank's shard, by its place there, and the least and the largest of its elements."""

    rank: int
    start: int
    end: int
    least: float
    largest: float


def pieces_of(flat: Any, places: Sequence[Tensor], own_rank: int) -> tuple[Piece, ...]:  # noqa: ANN401
    """Return the pieces of parameters in the other ranks' shards, as a gather brought them."""
    found = []
    for rank, start, end in _parts(flat, len(places), places[own_rank].numel()):
        if rank != own_rank and places[rank].dtype in _ORDERED:
            least, largest = places[rank][start:end].aminmax()
            found.append(Piece(rank, start, end, float(least), float(largest)))
    return tuple(found)


def stand_everywhere(places: Sequence[Tensor], own: Tensor) -> None:
    """Put this rank's shard where every rank's would be."""
    for place in places:
        place.copy_(own)


def keep_within(places: Sequence[Tensor], pieces: Sequence[Piece]) -> None:
    """Keep each piece between the least and the largest of what it stands for."""
    for piece in pieces:
        places[piece.rank][piece.start : piece.end].clamp_(piece.least, piece.largest)


def _parts(flat: Any, num_ranks: int, shard_elements: int) -> Iterator[tuple[int, int, int]]:  # noqa: ANN401
    """Yield where each parameter's elements lie in each rank's shard, and likewise what aligns them."""
    ends = accumulate(getattr(flat, "_numels_with_padding", (num_ranks * shard_elements,)))
    for begin, end in pairwise([0, *ends]):
        for rank in range(begin // shard_elements, num_ranks):
            first = rank * shard_elements
            if first >= end:
                break
            yield rank, max(0, begin - first), min(shard_elements, end - first)
