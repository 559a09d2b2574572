"""A stand-in that makes the calls of DeepSpeed 0.19 in its order, on one rank, for what the recorder of engines taps.

Names are DeepSpeed's own. What it computes is nothing; a message is a tensor that stays where it is.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

STAGE3_MODULE = "deepspeed_stage3_stand_in"


class Sender:
    """deepspeed.comm.comm.cdb."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def all_reduce(self, tensor: Tensor, op: object = None, group: object = None, async_op: bool = False) -> None:
        self.sent.append("all_reduce")

    def all_gather_into_tensor(self, output_tensor: Tensor, input_tensor: Tensor, group: object = None) -> None:
        self.sent.append("all_gather_into_tensor")

    def reduce_scatter_tensor(self, output_tensor: Tensor, input_tensor: Tensor, group: object = None) -> None:
        self.sent.append("reduce_scatter_tensor")

    def broadcast(self, tensor: Tensor, src: int) -> None:
        self.sent.append("broadcast")


@dataclass
class Bucket:
    params: list[Any] = field(default_factory=list)


class Stage2:
    """DeepSpeedZeroOptimizer: a bucket is reduced as the next gradient does not fit, the last behind backward."""

    gradient_accumulation_dtype = torch.float32
    contiguous_gradients, overlap_comm, reduce_bucket_size, dp_process_group = True, False, 8, None

    def __init__(self, sender: Sender, parameters: Sequence[nn.Parameter]) -> None:
        self.sender = sender
        self.bit16_groups = [list(parameters)]
        self.bit16_groups_flat = [torch.zeros(sum(each.numel() for each in parameters))]
        self.single_partition_of_fp32_groups = [self.bit16_groups_flat[0].clone()]
        self.ipg_buckets = {torch.float32: Bucket()}
        self.optimizer = torch.optim.SGD(self.single_partition_of_fp32_groups, lr=0.1, momentum=0.9)

    def backward(self) -> None:
        bucket = self.ipg_buckets[torch.float32]
        for place in reversed(range(len(self.bit16_groups[0]))):
            bucket.params.append((0, place, place))
            if len(bucket.params) == 2:
                self.reduce_ipg_grads(comm_dtype=torch.float32)
        self.reduce_ipg_grads()

    def reduce_ipg_grads(self, comm_dtype: torch.dtype | None = None) -> None:
        bucket = self.ipg_buckets[torch.float32]
        if bucket.params:
            numel = sum(self.bit16_groups[group][place].numel() for group, place, _ in bucket.params)
            self.average_tensor(torch.zeros(numel), torch.float32)
            bucket.params.clear()

    def average_tensor(self, tensor: Tensor, communication_data_type: torch.dtype) -> None:
        self.sender.all_reduce(tensor.clone(), None, None, False)

    def step(self) -> None:
        self.sender.all_reduce(torch.zeros(()), None, None, False)
        self.single_partition_of_fp32_groups[0].grad = torch.zeros_like(self.single_partition_of_fp32_groups[0])
        self.optimizer.step()


class NoGatherHandle:
    def wait(self, **_: object) -> None:
        """Nothing was asked for."""


class Stage3:
    """DeepSpeedZeroOptimizer_Stage3: gathers by module, the next ahead; one bucket; what is small behind the update."""

    gradient_accumulation_dtype = torch.float32
    contiguous_gradients, overlap_comm, reduce_bucket_size, dp_process_group = True, True, 8, None

    def __init__(self, sender: Sender, parameters: Sequence[Any]) -> None:
        self.sender, self.parameters = sender, parameters
        for each in parameters:
            each.ds_tensor, each.ds_numel = each.data, each.numel()
            each.ds_persist = each.ndim == 1
            each.all_gather_coalesced = lambda params, quantize=False: NoGatherHandle()
            each.all_gather = lambda param_list=None: None
        self.persistent_parameters = [each for each in parameters if each.ds_persist]
        self.fp32_partitioned_groups_flat = [torch.zeros(sum(each.numel() for each in parameters))]
        self.ipg_buckets = {torch.float32: Bucket()}
        self.optimizer = torch.optim.SGD(self.fp32_partitioned_groups_flat, lr=0.1, momentum=0.9)

    def forward(self) -> None:
        large = [each for each in self.parameters if not each.ds_persist]
        handles = [large[0].all_gather_coalesced([large[0]], quantize=False)]
        handles[0].wait(handle_dependency=True)
        handles.append(large[1].all_gather_coalesced([large[2], large[1]], quantize=False))  # as a set hands them out
        handles[1].wait(handle_dependency=True)
        handles[1].wait(handle_dependency=True)

    def backward(self) -> None:
        bucket = self.ipg_buckets[torch.float32]
        bucket.params = list(self.parameters)
        scattered = sys.modules[STAGE3_MODULE].reduce_scatter_coalesced([each.data for each in bucket.params], None)
        self.partition_grads(bucket.params, scattered)
        bucket.params.clear()

    def partition_grads(self, params_to_release: Iterable[Any], grad_partitions: Sequence[Tensor]) -> None:
        """Copy nothing."""

    def step(self) -> None:
        self.sender.all_reduce(torch.zeros((), dtype=torch.float64), None, None, False)
        self.optimizer.step()
        self.persistent_parameters[0].all_gather(self.persistent_parameters)


class DeepSpeedEngine(nn.Module):
    """As DeepSpeed's own is called, and asked."""

    def __init__(self, stage: int, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2, bias=False), nn.Linear(2, 1, bias=False))
        self.sender, self._stage = Sender(), stage
        monkeypatch.setitem(sys.modules, "deepspeed.comm.comm", SimpleNamespace(cdb=self.sender))  # type: ignore[arg-type]
        stage3 = ModuleType(STAGE3_MODULE)
        stage3.reduce_scatter_coalesced = self._reduce_scatter  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, STAGE3_MODULE, stage3)
        monkeypatch.setattr(Stage3, "__module__", STAGE3_MODULE)
        parameters = list(self.module.parameters())
        self.optimizer: Any = Stage3(self.sender, parameters) if stage == 3 else Stage2(self.sender, parameters)

    def zero_optimization_stage(self) -> int:
        return self._stage

    def zero_overlap_comm(self) -> bool:
        return self._stage == 3

    def _reduce_scatter(self, tensors: Sequence[Tensor], group: object) -> list[Tensor]:
        whole = torch.cat([each.view(-1) for each in tensors])
        self.sender.reduce_scatter_tensor(output_tensor=whole, input_tensor=whole, group=group)
        return [whole]

    def train_step(self) -> None:
        if self._stage == 3:
            self.optimizer.forward()
        self.optimizer.backward()
        self.optimizer.step()
