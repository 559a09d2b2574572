"""What a rank puts into a collective and what must come out, exact in every data type.

Element i of rank r's buffer is q mod m + 1 with q = (i + 31 r) mod 127: it depends on rank and position, so that a lost rank, a
swapped segment or a stale buffer all show, and 127 is prime, so that it lines up with no segment. m is chosen so that a sum
over ranks stays within the integers that the data type holds exactly; then it is exact in any order and the comparison
needs no tolerance. Where even m = 2 is too much, only the positions with q < k are q + 1 and the rest are zero.

An average of n ranks takes multiples of n, which gloo divides after the sum. NCCL multiplies each input by 1/n, rounded to
the data type, before it (enqueue.cc, hostToDevRedOp): for n = 7 in float32 that misses most multiples of 7, and 41 times
the rounded 1/41 is not even 1. So unless n is a power of two, inputs are n 2^k, whose product is exact where n times the
rounded 1/n rounds to 1; elsewhere an average is not checked. Integers NCCL divides after the sum.
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
        """Whether the result can be known exactly; not, say, for an average in bfloat16 over 200 ranks, in float32 over 41."""
        if self.op == "barrier":
            return False
        if self._multiplied_first:
            share = torch.tensor(1 / self.world_size, dtype=self.dtype) * torch.tensor(float(self.world_size), dtype=self.dtype)
            return share.item() == 1 and self._limit >= -(-self.world_size // _PERIOD)
        return self._limit >= -(-self.world_size // _PERIOD)

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
        if self._multiplied_first:
            return self._powers(q) * self.world_size
        modulus = min(_PERIOD, self._limit // self.world_size)
        if modulus >= 2:
            values = q % modulus + 1
        else:
            # 31 and 127 share no factor: of 127 ranks in a row each has another q at a position.
            turns = -(-self.world_size // _PERIOD)
            top = max(k for k in range(_PERIOD + 1) if turns * k * (k + 1) // 2 <= self._limit)
            values = torch.where(q < top, q + 1, 0.0)
        return values * self.world_size if self.reduction == "avg" else values

    @property
    def _multiplied_first(self) -> bool:
        """Whether NCCL's average rounds: of floating-point numbers over a number of ranks that is no power of two."""
        averages = OPERATIONS[self.op].reduces and self.reduction == "avg"
        return averages and self.dtype.is_floating_point and self.world_size & (self.world_size - 1) != 0

    def _powers(self, q: torch.Tensor) -> torch.Tensor:
        """Return powers of two by position and rank, as many as sums stay exact of; ones and zeros where that is one."""
        highest = int(self._limit // self.world_size).bit_length() - 1
        if highest >= 1:
            return torch.pow(2.0, q % (highest + 1))
        turns = -(-self.world_size // _PERIOD)
        return torch.where(q < min(_PERIOD // 2, self._limit // turns), 1.0, 0.0)

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
