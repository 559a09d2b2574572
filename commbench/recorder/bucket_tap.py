"""When DDP sends a bucket off and when it lands, whatever communication hook the user has.

DDP's reducer takes one hook for its life and tells nobody when its own all-reduce begins or ends. The tap is that hook: it
calls the user's hook, or does what the reducer does without one, and tells of both ends. A reducer that has a hook already
is renewed first, and on leaving it is renewed again with what it had before. A renewed reducer lays its buckets out anew in
its next two steps and its ranks agree on them, so every rank must do the same.

Nothing of the tap is kept in the model, which a job may copy or save while it is recorded: a later hook of the user's reaches
it through DDP's class, whose method is the tap's for as long as any model is tapped.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary, ref

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._autograd import _profiler_enabled
from torch._C._distributed_c10d import GradBucket, _register_comm_hook
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import record_function

from commprof.commbench.errors import BadInput
from commprof.commbench.recorder.sent_bytes import SentBytes
from commprof.commbench.recorder.sharded.marks import UnitRecorder
from commprof.commbench.recorder.stand_in import StandIn

_METERED_EVERY, _METERED_FIRST = 64, 3  # of the backward passes: PowerSGD, for one, begins late

Hook = Callable[[Any, GradBucket], torch.futures.Future[Tensor]]


class BucketListener(Protocol):
    """Is told of each bucket, in the thread that launches or lands it."""

    def launched(self, bucket: GradBucket) -> None: ...

    def landed(self, index: int) -> None: ...


class BucketTap:
    """Attached to one DDP model at a time, between the reducer and the user's hook; `listener` may come and go.

    With `alone` the model's gradients stay on their rank: its reducer works in a group of this rank only, so that all is
    done but the sending, and its buffers are not sent either. On the host something stands in for the exchange. `kept_by` is
    a state and a hook that do on this rank alone what the user's hook does with a bucket; without it, the hooks of torch that
    have their group for a state do, and after others a bucket stays as it is.
    """

    def __init__(self, model: DistributedDataParallel, listener: BucketListener | None, *, alone: bool = False) -> None:
        self._reference = ref(model)  # the reducer keeps the tap, and torch's C++ no cycle that Python could see
        self.listener = listener
        self.kept_by: tuple[Any, Hook] | None = None
        self._alone = alone
        self._group: dist.ProcessGroup | None = None
        self._stand_in: StandIn | None = None
        self._hook: Hook = average_over_ranks
        self._state: Any = None
        self._rounds = 0
        self._sent_share: dict[int, tuple[int, int]] = {}

    @property
    def sent_share(self) -> float | None:
        """Bytes that the user's hook handed to collectives per byte of bucket, as last seen; None where it was not seen."""
        sent, whole = (sum(counts) for counts in zip(*self._sent_share.values(), strict=True)) if self._sent_share else (0, 0)
        return sent / whole if sent else None

    @property
    def waited_s(self) -> float | None:
        """What ranks wait in each pass in the exchange's stead; None where nothing stands in for it."""
        return None if self._stand_in is None else self._stand_in.wait_s

    @property
    def hook(self) -> Hook:
        """The user's hook; average_over_ranks where there is none."""
        return self._hook

    @property
    def _model(self) -> DistributedDataParallel:
        model = self._reference()
        assert model is not None
        return model

    def attach(self) -> None:
        """Raise BadInput where the reducer has a hook that cannot be put back: one of those built into C++."""
        model = self._model
        earlier = list(model._comm_hooks)
        if earlier:
            ((self._hook, self._state),) = earlier
        if self._alone:
            self._group = model.process_group
            if self._group.size() > 1 and model.device.type == "cpu":
                self._stand_in = StandIn(self._group)
            model.process_group = dist.new_group([dist.get_rank()], use_local_synchronization=True)
        if earlier or self._alone:
            _renew_reducer(model)
        try:
            _register_comm_hook(model.reducer, model.process_group, self._reduce)
        except RuntimeError:
            raise BadInput(
                "the model has a communication hook built into torch's C++, which nobody can watch; "
                "register its namesake from torch.distributed.algorithms.ddp_comm_hooks"
            ) from None
        self._note_hook()
        _tapped[model] = self
        _stand_in()

    def detach(self) -> None:
        """Give the model a reducer as it had before, with the user's hook if there is one."""
        model = self._model
        self._leave(model)
        if self._group is not None:
            model.process_group = self._group
        if not dist.is_initialized():
            return  # the script has closed its process group: there is nothing left to reduce
        _renew_reducer(model)
        if self._hook is not average_over_ranks:
            model.register_comm_hook(self._state, self._hook)

    def adopt(self, state: object, hook: Hook) -> None:
        """Stand in for DDP's register_comm_hook while the tap holds its only place."""
        if self._hook is not average_over_ranks:
            raise RuntimeError("register_comm_hook can only be called once.")  # DDP's own words
        self._hook, self._state = hook, state
        self._note_hook()

    def give_way(self) -> None:
        """Leave the reducer's only place to a hook that is built into C++; no bucket is told of any more."""
        self._leave(self._model)
        _renew_reducer(self._model)

    @staticmethod
    def _leave(model: DistributedDataParallel) -> None:
        _tapped.pop(model, None)
        if not _tapped:
            DistributedDataParallel.register_comm_hook = _REGISTER  # type: ignore[method-assign]
            DistributedDataParallel._register_builtin_comm_hook = _REGISTER_BUILTIN  # type: ignore[method-assign]

    def _note_hook(self) -> None:
        """Leave in DDP's own list what would be there without the tap."""
        self._model._comm_hooks[:] = [] if self._hook is average_over_ranks else [(self._hook, self._state)]

    def _reduce(self, group: dist.ProcessGroup, bucket: GradBucket) -> torch.futures.Future[Tensor]:
        index = bucket.index()
        with record_function(f"bucket {index}") if _profiler_enabled() else nullcontext():
            if self.listener is not None:
                self.listener.launched(bucket)
            future = self._sent(group, bucket)
        return self._told(index, future)

    def _sent(self, group: dist.ProcessGroup, bucket: GradBucket) -> torch.futures.Future[Tensor]:
        if self._stand_in is not None and not self._model._join_config.enable:  # ranks that join do not come in step
            return self._stood_in(self._stand_in, bucket)
        if self._alone:
            return self._kept(bucket)
        if self._hook is average_over_ranks:
            return average_over_ranks(group, bucket)
        self._rounds += bucket.index() == 0
        if self._rounds % _METERED_EVERY != _METERED_FIRST:
            return self._hook(self._state, bucket)
        with SentBytes() as sent:
            future = self._hook(self._state, bucket)
        self._sent_share[bucket.index()] = (sent.num_bytes, bucket.buffer().nbytes)
        return future

    def _stood_in(self, stand_in: StandIn, bucket: GradBucket) -> torch.futures.Future[Tensor]:
        if bucket.index() == 0:
            stand_in.begins_pass()
        if not stand_in.exchanges:
            kept = self._kept(bucket)
            return stand_in.meet(kept) if bucket.is_last() else kept
        if bucket.is_last():
            stand_in.launches_last()
        sent = self._hook(stand_in.group if self._hook is average_over_ranks else self._state, bucket)

        exchanged = stand_in.exchanged

        def landed(reduced: torch.futures.Future[Any]) -> Any:  # noqa: ANN401  what the user's hook gave
            exchanged.lands()
            return reduced.value()

        return sent.then(landed)

    def _kept(self, bucket: GradBucket) -> torch.futures.Future[Tensor]:
        """Return a bucket as the user's hook makes it of one rank's gradients."""
        if self.kept_by is not None:
            state, hook = self.kept_by
            return hook(state, bucket)
        return self._hook(self._model.process_group, bucket) if self._hook in _SENDING_IN_STATE else _unsent(bucket)

    def _told(self, index: int, future: torch.futures.Future[Tensor]) -> torch.futures.Future[Tensor]:
        """Tell the listener when a bucket has landed."""

        def landed(reduced: torch.futures.Future[Any]) -> Tensor:
            if self.listener is not None:
                self.listener.landed(index)
            value = reduced.value()
            return value if isinstance(value, Tensor) else value[0]  # a hook may return what an all-reduce gave it

        return future.then(landed)


def told_by(tap: BucketTap | None, units: UnitRecorder) -> dict[str, Any]:
    """Return what of a Workload only a run's own exchanges tell."""
    if tap is not None:
        return {"sent_share": tap.sent_share, "waited_s": tap.waited_s, "starts_together": tap.waited_s is not None}
    sent = {"synchronised": True, "synchronisation": "normal"} if units.sends_all_the_same else {}
    return {"sent_share": None, "starts_together": units.meets, **sent}


def average_over_ranks(group: dist.ProcessGroup, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """Do what the reducer does without a hook, to the bit: multiply by 1/N, then sum over the ranks."""
    work = group.allreduce([bucket.buffer().mul_(1 / group.size())])
    future: torch.futures.Future[Tensor] = work.get_future()
    return future


# Their state is the group that they send in: in this rank's own they convert gradients, and send nothing.
_SENDING_IN_STATE: Final = (average_over_ranks, default_hooks.fp16_compress_hook, default_hooks.bf16_compress_hook)
_tapped: WeakKeyDictionary[DistributedDataParallel, BucketTap] = WeakKeyDictionary()
_REGISTER = DistributedDataParallel.register_comm_hook
_REGISTER_BUILTIN = DistributedDataParallel._register_builtin_comm_hook


def _register(model: DistributedDataParallel, state: object, hook: Hook) -> None:
    tap = _tapped.get(model)
    if tap is None:
        _REGISTER(model, state, hook)
    else:
        tap.adopt(state, hook)


def _register_builtin(model: DistributedDataParallel, kind: Any) -> None:  # noqa: ANN401  an enumeration of torch's C++
    tap = _tapped.get(model)
    if tap is not None:
        tap.give_way()
    _REGISTER_BUILTIN(model, kind)  # type: ignore[no-untyped-call]


def _stand_in() -> None:
    DistributedDataParallel.register_comm_hook = _register  # type: ignore[method-assign,assignment]
    DistributedDataParallel._register_builtin_comm_hook = _register_builtin  # type: ignore[method-assign]


def tap_of(model: DistributedDataParallel) -> BucketTap | None:
    """Return the tap that is attached to a model; None where there is none."""
    return _tapped.get(model)


def _unsent(bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """Return a bucket as it is, where nothing is to be sent: a hook of the user's might send by a group of its own."""
    future: torch.futures.Future[Tensor] = torch.futures.Future()
    future.set_result(bucket.buffer())
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
