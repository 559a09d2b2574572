"""When DDP sends a bucket off and when it lands, whatever communication hook the user has.

DDP's reducer takes one hook for its life and tells nobody when its own all-reduce begins or ends. The tap is that hook: it
calls the user's hook, or does what the reducer does without one, and tells of both ends. A reducer that has a hook already
is renewed first, and on leaving it is renewed again with what it had before. A renewed reducer lays its buckets out anew in
its next two steps and its ranks agree on them, so every rank must do the same.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import GradBucket
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import record_function

from commprof.commbench.errors import BadInput

Hook = Callable[[Any, GradBucket], torch.futures.Future[Tensor]]


class BucketListener(Protocol):
    """Is told of each bucket, in the thread that launches or lands it."""

    def launched(self, bucket: GradBucket) -> None: ...

    def landed(self, index: int) -> None: ...


class BucketTap:
    """Attached to one DDP model at a time, between the reducer and the user's hook."""

    def __init__(self, model: DistributedDataParallel, listener: BucketListener) -> None:
        self._model = model
        self._listener = listener
        self._hook: Hook = average_over_ranks
        self._state: Any = None

    def attach(self) -> None:
        """Raise BadInput where the reducer has a hook that cannot be put back: one of those built into C++."""
        earlier = list(self._model._comm_hooks)
        if earlier:
            ((self._hook, self._state),) = earlier
            _renew_reducer(self._model)
        try:
            self._model.register_comm_hook(self._model.process_group, self._reduce)
        except RuntimeError:
            self._model._comm_hooks.clear()  # noted before it was refused
            raise BadInput(
                "the model has a communication hook built into torch's C++, which nobody can watch; "
                "register its namesake from torch.distributed.algorithms.ddp_comm_hooks"
            ) from None
        vars(self._model)["register_comm_hook"] = self._adopt  # the user's turn may come later

    def detach(self) -> None:
        """Give the model a reducer as it had before, with the user's hook if there is one."""
        del vars(self._model)["register_comm_hook"]
        if not dist.is_initialized():
            return  # the script has closed its process group: there is nothing left to reduce
        _renew_reducer(self._model)
        if self._hook is not average_over_ranks:
            self._model.register_comm_hook(self._state, self._hook)

    def _adopt(self, state: object, hook: Hook) -> None:
        """Stand in for DDP's register_comm_hook while the tap holds its only place."""
        if self._hook is not average_over_ranks:
            raise RuntimeError("register_comm_hook can only be called once.")  # DDP's own words
        self._hook, self._state = hook, state

    def _reduce(self, group: dist.ProcessGroup, bucket: GradBucket) -> torch.futures.Future[Tensor]:
        index = bucket.index()
        with record_function(f"bucket {index}"):
            self._listener.launched(bucket)
            state = group if self._hook is average_over_ranks else self._state
            future = self._hook(state, bucket)

        def landed(reduced: torch.futures.Future[Any]) -> Tensor:
            self._listener.landed(index)
            value = reduced.value()
            return value if isinstance(value, Tensor) else value[0]  # a hook may return what an all-reduce gave it

        return future.then(landed)


def average_over_ranks(group: dist.ProcessGroup, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """Do what the reducer does without a hook, to the bit: multiply by 1/N, then sum over the ranks."""
    work = group.allreduce([bucket.buffer().mul_(1 / group.size())])
    future: torch.futures.Future[Tensor] = work.get_future()
    return future


def _renew_reducer(model: Any) -> None:  # noqa: ANN401  DDP, whose inner parts have no types
    """Give DDP a reducer without a hook, as DDP does itself when it is loaded from a copy (its __setstate__)."""
    model.reducer._remove_autograd_hooks()
    model.reducer = model.logger = None  # its buckets go before new ones come: they are as large as the gradients
    parameters, expect_sparse = model._build_params_for_reducer()
    names = model._build_debug_param_to_name_mapping(parameters)
    model._ddp_init_helper(parameters, expect_sparse, names, model.static_graph)
    model._comm_hooks.clear()
    model._has_rebuilt_buckets = False
    if model.mixed_precision is not None:  # else the reducer refuses gradients of another type than their bucket's
        model.reducer._set_mixed_precision_param_dtype(model.mixed_precision.param_dtype)
    if model.static_graph:
        model._static_graph_delay_allreduce_enqueued = False
        model.reducer._set_static_graph()
        model.logger._set_static_graph()
