"""What stands for a sharded model's collective that is not to be sent? A copy within this rank's memory, and a wait as long.

The shards' group does what it would but for the sending: this rank's shard stands where the others' would, and its own part
for the mean over all. On the host ranks exchange in their first passes and then meet and wait in the exchange's stead
(stand_in.py). Copies of shards (HSDP) all-reduce what a reduction put out, by torch.distributed's own function: that is taken
for these tensors alone. What FullyShardedDataParallel sends is in flat_collectives.py.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from commprof.commbench.recorder.stand_in import StandIn


class Unsent:
    """What stands in for one collective of one unit's."""

    def __init__(self) -> None:
        self._stand_ins: dict[dist.ProcessGroup, StandIn] = {}

    def stand_in(
        self,
        tensor: Tensor,
        group: dist.ProcessGroup,
        *,
        send: Callable[[], object],
        fill: Callable[[], object],
        meanwhile: Callable[[], object] | None = None,
    ) -> None:
        """Send in the first passes on the host; after them, and on a GPU, `fill` the output from this rank's and wait.

        What is done `meanwhile` is no rank's computing time where ranks wait.
        """
        waits = self._waits(tensor, group)
        if waits is not None and waits.exchanges:
            with waits.exchanging():
                send()
            return
        fill()
        if waits is not None:
            waits.wait(meanwhile)
        elif meanwhile is not None:
            meanwhile()

    def _waits(self, tensor: Tensor, group: dist.ProcessGroup) -> StandIn | None:
        """Begin a pass of a collective of this group; None on a GPU, and for a rank by itself, where nothing is waited for."""
        if not tensor.is_cpu or group.size() == 1:
            return None
        if group not in self._stand_ins:
            self._stand_ins[group] = StandIn(group)
        self._stand_ins[group].begins_pass()
        return self._stand_ins[group]


class _Allocated(Unsent):
    """With the memory that fully_shard allocates by default."""

    def allocate(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.empty(*size, dtype=dtype, device=device)


class UnsentGather(_Allocated):
    """An all-gather without a wire: this rank's shard stands where the others' would."""

    def __call__(
        self, output_tensor: Tensor, input_tensor: Tensor, group: dist.ProcessGroup, async_op: bool = False
    ) -> dist.Work | None:
        own = dist.get_rank(group)

        def fill() -> None:
            for rank, part in enumerate(output_tensor.view(group.size(), -1)):
                if rank != own:
                    part.copy_(input_tensor)

        send = partial(dist.all_gather_into_tensor, output_tensor, input_tensor, group=group)
        self.stand_in(input_tensor, group, send=send, fill=fill)
        return None


class UnsentReduction(_Allocated):
    """A reduce-scatter without a wire: this rank's own part stands for the mean over all. `output` is the last one's."""

    output: Tensor | None = None

    def allocate(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        self.output = super().allocate(size, dtype=dtype, device=device)  # fully_shard asks for the output last
        return self.output

    def __call__(
        self,
        output_tensor: Tensor,
        input_tensor: Tensor,
        group: dist.ProcessGroup,
        op: dist.ReduceOp | dist.ReduceOp.RedOpType,
        async_op: bool = False,
    ) -> dist.Work | None:
        own = input_tensor.view(group.size(), -1)[dist.get_rank(group)]
        send = partial(dist.reduce_scatter_tensor, output_tensor, input_tensor, op, group=group)
        self.stand_in(input_tensor, group, send=send, fill=partial(output_tensor.copy_, own))
        return None

    def among_copies(self, send: Any, tensor: Tensor, op: Any, group: dist.ProcessGroup) -> None:  # noqa: ANN401  torch's own
        """Stand for the all-reduce of the output among copies of the shards, that `send` would do."""
        self.output = None
        self.stand_in(tensor, group, send=partial(send, tensor, op, group), fill=lambda: None)


class UnsentAmongCopies:
    """torch.distributed's all_reduce while it is in place, but for what these reductions put out."""

    def __init__(self, reductions: Sequence[UnsentReduction]) -> None:
        self._reductions = tuple(reductions)
        self._sent: Any = dist.all_reduce

    def put(self) -> None:
        dist.all_reduce = self

    def release(self) -> None:
        """Give the function its place back, where nobody has put another one there since."""
        if dist.all_reduce is self:
            dist.all_reduce = self._sent

    def __call__(self, tensor: Tensor, op: Any = dist.ReduceOp.SUM, group: Any = None, async_op: bool = False) -> Any:  # noqa: ANN401
        owner = next((own for own in self._reductions if own.output is tensor), None)
        if owner is None or group is None:
            return self._sent(tensor, op=op, group=group, async_op=async_op)
        owner.among_copies(self._sent, tensor, op, group)
        return None
