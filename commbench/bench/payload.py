"""What a rank puts into a collective and what must come out, exact in every data type.

Element i of rank r's buffer is q mod m + 1 with q = (i + 31 r) mod 127: it depends on rank and position, so that a lost rank, a
swapped segment or a stale buffer all show, and 127 is prime, so that it lines up with no segment. m is chosen so that a sum
over ranks stays within the integers that the data type holds exactly; then it is exact in any order and the comparison
needs no tolerance. Where even m = 2 is too much, only the positions with q < k are q + 1 and the rest are zero. An average
takes inputs that are multiples of the number of ranks, so that dividing before or after the sum gives the same integer.
"""

from dataclasses import dataclass

import torch

from commprof.commbench.records.operations import OPERATIONS

_PERIOD = 127
_RANK_STRIDE = 31
_EXACT_UP_TO = {
    torch.float32: 2**24,
    torch.float64: 2**53,
    torch.float16: 2**11,
    torch.bfloat16: 2**8,
    torch.int8: 2**7 - 1,
    torch.int32: 2**31 - 1,
    torch.int64: 2**53,  # patterns are worked out in float64
}
_SHARED_INPUT = ("reduce_scatter", "all_to_all", "scatter")
_SHARED_OUTPUT = ("all_gather", "all_to_all", "gather")


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """The exact inputs and results of one collective among `world_size` ranks, `count` elements to a rank's share."""

    op: str
    dtype: torch.dtype
    reduction: str | None
    root: int
    world_size: int
    count: int

    @property
    def send_count(self) -> int:
        return self.count * (self.world_size if self.op in _SHARED_INPUT else 1)

    @property
    def receive_count(self) -> int:
        return self.count * (self.world_size if self.op in _SHARED_OUTPUT else 1)

    @property
    def exact(self) -> bool:
        """Whether the result can be known exactly; not, say, for an average in bfloat16 over 200 ranks."""
        return self.op != "barrier" and self._limit >= -(-self.world_size // _PERIOD)

    def sent(self, rank: int) -> torch.Tensor:
        """Return rank's whole input, shape [send_count]."""
        return self._slice(self._pattern(rank), 0, self.send_count)

    def received(self, rank: int) -> torch.Tensor | None:
        """Return what rank must hold afterwards, shape [receive_count]; None where it holds nothing defined."""
        if OPERATIONS[self.op].rooted and self.op in ("reduce", "gather") and rank != self.root:
            return None
        count, ranks = self.count, range(self.world_size)
        match self.op:
            case "all_reduce" | "reduce":
                return self._slice(self._reduced(), 0, count)
            case "reduce_scatter":
                return self._slice(self._reduced(), rank * count, count)
            case "all_gather" | "gather":
                return torch.cat([self._slice(self._pattern(source), 0, count) for source in ranks])
            case "all_to_all":
                return torch.cat([self._slice(self._pattern(source), rank * count, count) for source in ranks])
            case "broadcast":
                return self._slice(self._pattern(self.root), 0, count)
            case "scatter":
                return self._slice(self._pattern(self.root), rank * count, count)
            case "send_recv":
                return self._slice(self._pattern((rank - 1) % self.world_size), 0, count)
        raise AssertionError(f"{self.op} moves no data")

    @property
    def _limit(self) -> int:
        """The largest sum over ranks that stays exact, in units of what one rank's values are multiplied by."""
        summed = OPERATIONS[self.op].reduces and self.reduction in ("sum", "avg")
        if not summed:
            return _PERIOD * self.world_size
        return _EXACT_UP_TO[self.dtype] // (self.world_size if self.reduction == "avg" else 1)

    def _pattern(self, rank: int) -> torch.Tensor:
        """One period of rank's values as float64, shape [127]."""
        q = (torch.arange(_PERIOD, dtype=torch.float64) + _RANK_STRIDE * rank) % _PERIOD
        modulus = min(_PERIOD, self._limit // self.world_size)
        if modulus >= 2:
            values = q % modulus + 1
        else:
            # 31 and 127 share no factor: of 127 ranks in a row each has another q at a position.
            turns = -(-self.world_size // _PERIOD)
            top = max(k for k in range(_PERIOD + 1) if turns * k * (k + 1) // 2 <= self._limit)
            values = torch.where(q < top, q + 1, 0.0)
        return values * self.world_size if self.reduction == "avg" else values

    def _reduced(self) -> torch.Tensor:
        patterns = torch.stack([self._pattern(rank) for rank in range(self.world_size)])
        match self.reduction:
            case "sum":
                return patterns.sum(0)
            case "avg":
                return patterns.mean(0)
            case "min":
                return patterns.amin(0)
            case "max":
                return patterns.amax(0)
        raise AssertionError(f"no reduction {self.reduction}")

    def _slice(self, pattern: torch.Tensor, start: int, count: int) -> torch.Tensor:
        rolled = pattern.to(self.dtype).roll(-(start % _PERIOD))
        return rolled.repeat(-(-count // _PERIOD))[:count]
