"""One collective at one size on this rank: its buffers, the call, and the check of its result.

torch.distributed reduces and broadcasts in place only, so out of place is what its callers do: copy, then the call. The
calls go round several buffers in an arena of twice the last-level cache, as gradients come from memory and not from the
cache; with `hot` there is one buffer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed as dist

from commprof.commbench.bench.payload import Payload
from commprof.commbench.records.operations import DATA_TYPES, OPERATIONS

_MAX_BUFFERS = 4096
_ALIGNMENT_BYTES = 256
_FILL = 0x3F  # no data type reads these bytes as a NaN or a denormal, whose arithmetic can be slow
_POISON = 113  # a value that no rank sends to itself, in every data type

# torch 2.13 renamed both; the old names still work but warn.
_all_gather: Any = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter: Any = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor

_REDUCE_OPS = {"sum": dist.ReduceOp.SUM, "avg": dist.ReduceOp.AVG, "min": dist.ReduceOp.MIN, "max": dist.ReduceOp.MAX}


Handle = Any  # torch's own: one work, a list of them, or None


class Work(Protocol):
    def wait(self) -> object:
        """Wait until the collective is done; on a GPU, make the current stream wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffers:
    """One set of this rank's buffers; in place, one lies inside the other. Parts are the ranks' shares of the larger one."""

    send: torch.Tensor
    receive: torch.Tensor
    send_parts: list[torch.Tensor]
    receive_parts: list[torch.Tensor]


class Arena:
    """Memory for one collective after the other: written once, so that every page exists before the clock runs."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._blocks: list[torch.Tensor] = []

    def blocks(self, number: int, num_bytes: int) -> list[torch.Tensor]:
        """Return so many blocks of at least so many bytes, uint8. Raises as torch does without memory."""
        if len(self._blocks) < number or self._blocks[0].numel() < num_bytes:
            self._blocks = []  # before the larger ones are made: both may not fit
            self._blocks = [self._block(num_bytes) for _ in range(number)]
        return self._blocks[:number]

    def _block(self, num_bytes: int) -> torch.Tensor:
        return torch.full((num_bytes,), _FILL, dtype=torch.uint8, device=self._device)


class Collective:
    """One collective at one size. `issue(i)` starts call i on buffer set i modulo their number."""

    def __init__(
        self, op: str, dtype: str, reduction: str, root: int, message_bytes: int, in_place: bool, device: torch.device
    ) -> None:
        self.op, self.dtype, self.root, self.in_place = op, dtype, root, in_place
        self.reduction = reduction if OPERATIONS[op].reduces else None
        self.rank, self.world_size, self.device = dist.get_rank(), dist.get_world_size(), device
        element_bytes = DATA_TYPES[dtype].num_bytes
        self.payload = Payload(
            op=op,
            dtype=getattr(torch, dtype),
            reduction=self.reduction,
            root=root,
            world_size=self.world_size,
            count=OPERATIONS[op].elements_per_rank(message_bytes, element_bytes, self.world_size),
        )
        self.message_bytes = OPERATIONS[op].message_bytes(self.payload.count, element_bytes, self.world_size)
        self._sets: list[Buffers] = []
        self._reduce_op = _REDUCE_OPS[reduction]
        self._options = {blocking: _all_reduce_options(self._reduce_op, blocking) for blocking in (True, False)}
        self._call: Callable[[Buffers, bool], Handle] = getattr(self, f"_{op}")

    @property
    def num_buffers(self) -> int:
        return len(self._sets)

    def allocate(self, arena: Arena, rotate_bytes: int, at_least: int = 1) -> None:
        """Lay out the buffers, spread over `rotate_bytes` where one message is smaller. Raises as torch does without memory."""
        send, receive = self.payload.send_count, self.payload.receive_count
        dtype = self.payload.dtype
        largest_bytes = max(send, receive) * dtype.itemsize
        count = max(at_least, min(_MAX_BUFFERS, -(-rotate_bytes // max(1, largest_bytes))))
        pitch_bytes = max(largest_bytes, rotate_bytes // count, 1)
        pitch_bytes = -(-pitch_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        blocks = [block.view(dtype) for block in arena.blocks(1 if self.in_place else 2, pitch_bytes * count)]
        pitch = pitch_bytes // dtype.itemsize
        self._sets = [
            self._buffers(blocks[0][i * pitch :][:send], blocks[-1][i * pitch :][:receive], blocks[0][i * pitch :])
            for i in range(count)
        ]

    def run(self, index: int) -> None:
        """Make call `index` as a blocking call: on a GPU, ordered on the current stream."""
        for work in _works(self._call(self._sets[index % len(self._sets)], False)):
            work.wait()

    def issue(self, index: int) -> list[Work]:
        """Start call `index` without waiting for it."""
        return _works(self._call(self._sets[index % len(self._sets)], True))

    def count_wrong(self) -> int | None:
        """Make one call with known inputs and count this rank's wrong elements; None where no exact result is known."""
        if not self.payload.exact:
            return None
        buffers = self._sets[0]
        buffers.receive.fill_(_POISON)
        buffers.send.copy_(self.payload.sent(self.rank))
        self.run(0)
        expected = self.payload.received(self.rank)
        return int((buffers.receive != expected.to(self.device)).sum()) if expected is not None else 0

    def _buffers(self, send: torch.Tensor, receive: torch.Tensor, whole: torch.Tensor) -> Buffers:
        count, rank = self.payload.count, self.rank
        if self.in_place:
            larger = whole[: max(send.numel(), receive.numel())]
            share = larger[rank * count : (rank + 1) * count]
            send = larger if send.numel() == larger.numel() else share
            receive = larger if receive.numel() == larger.numel() else share
        return Buffers(
            send=send,
            receive=receive,
            send_parts=list(torch.split(send, count)) if count else [],
            receive_parts=list(torch.split(receive, count)) if count else [],
        )

    def _all_reduce(self, buffers: Buffers, async_op: bool) -> Handle:
        """Enter where DDP's reducer does, at the process group: torch's wrapper adds some 16 us a call (torch 2.13, gloo).

        A blocking call is on the current stream, as every other collective's; an asynchronous one on NCCL's own, as DDP's.
        """
        self._copy(buffers)
        group = dist.group.WORLD
        assert group is not None
        return group.allreduce([buffers.receive], self._options[not async_op])

    def _reduce(self, buffers: Buffers, async_op: bool) -> Handle:
        self._copy(buffers)
        return dist.reduce(buffers.receive, self.root, self._reduce_op, async_op=async_op)

    def _broadcast(self, buffers: Buffers, async_op: bool) -> Handle:
        if self.rank == self.root:
            self._copy(buffers)
        return dist.broadcast(buffers.receive, self.root, async_op=async_op)

    def _reduce_scatter(self, buffers: Buffers, async_op: bool) -> Handle:
        return _reduce_scatter(buffers.receive, buffers.send, self._reduce_op, async_op=async_op)

    def _all_gather(self, buffers: Buffers, async_op: bool) -> Handle:
        return _all_gather(buffers.receive, buffers.send, async_op=async_op)

    def _all_to_all(self, buffers: Buffers, async_op: bool) -> Handle:
        return dist.all_to_all_single(buffers.receive, buffers.send, async_op=async_op)

    def _gather(self, buffers: Buffers, async_op: bool) -> Handle:
        parts = buffers.receive_parts if self.rank == self.root else None
        return dist.gather(buffers.send, parts, self.root, async_op=async_op)

    def _scatter(self, buffers: Buffers, async_op: bool) -> Handle:
        parts = buffers.send_parts if self.rank == self.root else None
        return dist.scatter(buffers.receive, parts, self.root, async_op=async_op)

    def _send_recv(self, buffers: Buffers, async_op: bool) -> Handle:
        """Send to the next rank, receive from the one before, as nccl-tests' sendrecv does."""
        after, before = (self.rank + 1) % self.world_size, (self.rank - 1) % self.world_size
        sending = dist.P2POp(dist.isend, buffers.send, after)
        return dist.batch_isend_irecv([sending, dist.P2POp(dist.irecv, buffers.receive, before)])

    def _barrier(self, buffers: Buffers, async_op: bool) -> Handle:
        return dist.barrier(async_op=async_op)

    def _copy(self, buffers: Buffers) -> None:
        if not self.in_place:
            buffers.receive.copy_(buffers.send)


def _all_reduce_options(reduce_op: Any, blocking: bool) -> dist.AllreduceOptions:  # noqa: ANN401  torch's own enumeration
    options = dist.AllreduceOptions()
    options.reduceOp = dist.ReduceOp(reduce_op)
    options.asyncOp = not blocking
    return options


def _works(handle: Handle) -> list[Work]:
    if handle is None:
        return []
    return list(handle) if isinstance(handle, Sequence) else [handle]
