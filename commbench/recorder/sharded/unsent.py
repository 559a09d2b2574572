"""What stands for a collective of fully_shard's that is not to be sent? A copy within this rank's memory, and a wait as long.

The shards' group does what it would but for the sending: this rank's shard stands where the others' would, and its own part
for the mean over all. On the host ranks exchange in their first passes and then meet and wait in the exchange's stead
(stand_in.py).
"""

import torch
import torch.distributed as dist
from torch import Tensor

from commprof.commbench.recorder.stand_in import StandIn


class _Unsent:
    """Memory for a collective as fully_shard allocates it by default, and what stands in for it."""

    _stand_in: StandIn | None = None

    def _stands_in(self, tensor: Tensor, group: dist.ProcessGroup) -> StandIn | None:
        """Begin a pass of what stands in for this collective; None on a GPU, and for a rank by itself."""
        if self._stand_in is None and tensor.is_cpu and group.size() > 1:
            self._stand_in = StandIn(group)
        if self._stand_in is not None:
            self._stand_in.begins_pass()
        return self._stand_in

    def allocate(self, size: tuple[int, ...], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.empty(*size, dtype=dtype, device=device)


class UnsentGather(_Unsent):
    """An all-gather without a wire: this rank's shard stands where the others' would."""

    def __call__(
        self, output_tensor: Tensor, input_tensor: Tensor, group: dist.ProcessGroup, async_op: bool = False
    ) -> dist.Work | None:
        stand_in, own = self._stands_in(input_tensor, group), dist.get_rank(group)
        if stand_in is not None and stand_in.exchanges:
            with stand_in.exchanging():
                dist.all_gather_into_tensor(output_tensor, input_tensor, group=group)
            return None
        for rank, part in enumerate(output_tensor.view(group.size(), -1)):
            if rank != own:
                part.copy_(input_tensor)
        if stand_in is not None:
            stand_in.wait()
        return None


class UnsentReduction(_Unsent):
    """A reduce-scatter without a wire: this rank's own part stands for the mean over all."""

    def __call__(
        self,
        output_tensor: Tensor,
        input_tensor: Tensor,
        group: dist.ProcessGroup,
        op: dist.ReduceOp | dist.ReduceOp.RedOpType,
        async_op: bool = False,
    ) -> dist.Work | None:
        stand_in = self._stands_in(input_tensor, group)
        if stand_in is not None and stand_in.exchanges:
            with stand_in.exchanging():
                dist.reduce_scatter_tensor(output_tensor, input_tensor, op, group=group)
            return None
        output_tensor.copy_(input_tensor.view(group.size(), -1)[dist.get_rank(group)])
        if stand_in is not None:
            stand_in.wait()
        return None
