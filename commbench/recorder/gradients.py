"""When each gradient was ready for the wire, and when each of DDP's buckets was complete, launched and landed.

Seconds after backward began. With gradient accumulation a step has several backward passes: the one that counts is the one
in which buckets were launched, the last.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

from torch import Tensor, nn
from torch._C._distributed_c10d import GradBucket
from torch.nn.parallel import DistributedDataParallel

from commprof.commbench.errors import BadInput
from commprof.commbench.recorder.bucket_tap import BucketTap, tap_of
from commprof.commbench.recorder.element_counts import element_counts, flattened_counts, num_bytes, num_elements, num_rows
from commprof.commbench.recorder.own_work import OwnWork
from commprof.commbench.records.training import BucketTiming, GradientTimeline, ParameterTiming
from commprof.commbench.timing import Clock
from commprof.commbench.units import format_bytes

_KEPT_STEPS = 512  # medians over the last steps that count; bounds memory in a long run

_IN_UNITS = (
    ": FullyShardedDataParallel has them in units, which are seen where it shards (NO_SHARD does not) and without a hook of "
    "the script's own"
)


@dataclass(slots=True)
class Backward:
    """The marks of one backward pass: its ends, each parameter's gradient by name, each bucket's launch and landing, and
    which parameters a bucket holds."""

    start: Any
    end: Any = None
    ready: dict[str, Any] = field(default_factory=dict)
    launched: dict[int, Any] = field(default_factory=dict)
    landed: dict[int, Any] = field(default_factory=dict)
    members: dict[int, list[str]] = field(default_factory=dict)

    @property
    def marks(self) -> list[Any]:
        """All marks but those at its ends, which belong to the phase."""
        return [*self.ready.values(), *self.launched.values(), *self.landed.values()]


class GradientRecorder:
    """Hooks a model's parameters and DDP's buckets. Parameters shared by several layers count once."""

    def __init__(
        self, model: nn.Module, rank: int, clock: Clock, own_work: OwnWork | None = None, *, alone: bool = False
    ) -> None:
        self._rank = rank
        self._clock = clock
        self._own_work = own_work or OwnWork()
        ddp = uncompiled(model)
        self._ddp = ddp if isinstance(ddp, DistributedDataParallel) and not sends_each(ddp) else None
        self._sends = isinstance(ddp, DistributedDataParallel)
        self._alone = alone
        self._tap: BucketTap | None = None
        self._is_guest = self._has_builtin_hook = False
        self._model = bare(model)
        self._parameters = dict(self._model.named_parameters())
        self._names = {id(parameter): name for name, parameter in self._parameters.items()}
        self._backward: Backward | None = None
        self._counted: Backward | None = None
        self._num_passes = self._num_stray = 0
        self._sent = False
        self._dropped: list[Any] = []
        self._bucket_bytes: dict[int, int] = {}
        self._samples: dict[tuple[str, str | int], deque[float]] = defaultdict(partial(deque, maxlen=_KEPT_STEPS))

    @property
    def has_samples(self) -> bool:
        return bool(self._samples["backward", "s"])

    @property
    def tap(self) -> BucketTap | None:
        """What watches DDP's buckets; None where there are none to be seen."""
        return self._tap

    @property
    def num_passes(self) -> int:
        """Backward passes of the step just ended: its micro-batches."""
        return self._num_passes

    @property
    def strayed(self) -> bool:
        """Whether the step just ended computed gradients and no backward pass of it was marked."""
        return self._num_stray > 0 and self._num_passes == 0

    def attach(self) -> None:
        """Raise BadInput where the model has a communication hook that cannot be watched."""
        if self._ddp is not None:
            self._tap = tap_of(self._ddp)
            self._is_guest = self._tap is not None
            if self._tap is None:
                self._tap = self._attached_tap(self._ddp)
            if self._tap is not None:
                self._tap.listener = self
        trained: list[tuple[str, Any]] = [(name, p) for name, p in self._parameters.items() if p.requires_grad]
        self._hooks = [parameter.register_post_accumulate_grad_hook(self._ready_hook(name)) for name, parameter in trained]

    def _attached_tap(self, ddp: DistributedDataParallel) -> BucketTap | None:
        """Return a tap in its place; None where its place is taken and the training goes before what can be seen of it."""
        tap = BucketTap(ddp, self, alone=self._alone)
        try:
            tap.attach()
        except BadInput:
            if self._alone or not self._own_work.may_end:
                raise
            self._has_builtin_hook = True
            return None
        return tap

    def detach(self) -> None:
        self.release()
        if self._tap is not None and not self._is_guest:
            self._tap.detach()

    def release(self) -> None:
        """Take off all that can go without the other ranks; DDP's hook stays in its place and does what DDP does."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if self._tap is not None:
            self._tap.listener = None

    def unseen(self, *, in_units: bool = False) -> Iterator[str]:
        """Yield, in words, what of the training could not be seen; `in_units`: gradients were, as units that are sharded."""
        if self._sends and self._ddp is None:
            yield "DDP's python_reducer sends every gradient by itself: there are no buckets to see"
        if self._has_builtin_hook:
            yield "the model's communication hook is built into torch's C++: there are no buckets to see"
        counts = element_counts(self._model)
        trained = {
            name: counts.get(name, num_elements(p)) * p.element_size()
            for name, p in self._parameters.items()
            if p.requires_grad
        }
        silent = [name for name in trained if ("ready", name) not in self._samples]
        if self.has_samples and silent and not in_units:
            lost, whole = (format_bytes(sum(map(trained.__getitem__, names))) for names in (silent, trained))
            why = _IN_UNITS if flattened_counts(self._model) else ""
            yield f"the gradients of {len(silent)} of {len(trained)} parameters ({lost} of {whole}) were never seen{why}"
        if sparse := self._sparse():
            part, whole = (format_bytes(sum(map(trained.__getitem__, names))) for names in (sparse, trained))
            yield (
                f"the gradients of {len(sparse)} of {len(trained)} parameters are sparse: how many bytes they send depends on "
                f"the batch, and they are counted as if they were sent whole ({part} of {whole})"
            )

    def _sparse(self) -> list[str]:
        """Return the trained parameters of embeddings that were asked for sparse gradients, by name."""
        tables = (module for module in self._model.modules() if isinstance(module, nn.Embedding | nn.EmbeddingBag))
        sparse = {id(table.weight) for table in tables if table.sparse}
        return [name for name, p in self._parameters.items() if p.requires_grad and id(p) in sparse]

    def forget_step(self) -> None:
        self._backward = self._counted = None
        self._num_passes = self._num_stray = 0
        self._sent = False

    def forget_steps(self) -> None:
        """Drop what was kept of all steps so far."""
        self._samples.clear()

    def take_step(self) -> tuple[Backward | None, list[Any]]:
        """Return the backward pass that counts in the step just ended, and the marks of the others: the next step may begin."""
        taken, dropped = self._counted, self._dropped
        self._counted, self._dropped = None, []
        return taken, dropped

    def begin(self, mark: object) -> None:
        self._backward = Backward(mark)
        self._num_passes += 1

    def end(self, mark: object) -> None:
        if self._backward is None:
            return
        self._backward.end = mark
        if self._counted is None or not self._counted.launched or self._backward.launched:
            self._dropped += [] if self._counted is None else self._counted.marks
            self._counted = self._backward
        else:
            self._dropped += self._backward.marks
        self._backward = None

    def launched(self, bucket: GradBucket) -> None:
        self._own_work.do(self._note_launch, bucket)

    def _note_launch(self, bucket: GradBucket) -> None:
        self._sent = True
        index, buffer = bucket.index(), bucket.buffer()
        self._bucket_bytes[index] = buffer.numel() * buffer.element_size()
        if self._backward is not None:
            names = (self._names.get(id(parameter)) for parameter in bucket.parameters())
            self._backward.members[index] = [name for name in names if name is not None]
            self._backward.launched[index] = self._clock.mark()

    def landed(self, index: int) -> None:
        self._own_work.do(self._note_landing, index)

    def _note_landing(self, index: int) -> None:
        if self._backward is not None:  # DDP ends no backward pass before its last bucket has landed
            self._backward.landed[index] = self._clock.mark()

    def synchronised(self) -> bool:
        """Whether the step just ended exchanged gradients, or had nobody to exchange them with."""
        return self._tap is None or self._sent

    def keep(self, counted: Backward | None) -> None:
        """Add a step to the medians."""
        if counted is None:
            return
        seconds = partial(self._clock.seconds, counted.start)
        self._samples["backward", "s"].append(seconds(counted.end))
        ready = {name: seconds(mark) for name, mark in counted.ready.items()}
        for name, ready_s in ready.items():
            self._samples["ready", name].append(ready_s)
        for index in counted.launched.keys() & counted.landed.keys():
            launched_s = seconds(counted.launched[index])
            # A parameter that took no part in the forward pass is in a bucket without ever being ready.
            complete = [ready[name] for name in counted.members[index] if name in ready]
            self._samples["bucket_ready", index].append(max(complete, default=launched_s))
            self._samples["launched", index].append(launched_s)
            self._samples["done", index].append(seconds(counted.landed[index]))

    def timeline(self) -> GradientTimeline:
        """Return medians over the steps kept so far, parameters in the order their gradients became ready."""
        backward_s = self._samples["backward", "s"]
        parameters = [
            ParameterTiming(
                name=name,
                num_bytes=num_bytes(parameter),
                ready_s=median(self._samples["ready", name]),
                rows=num_rows(parameter),
            )
            for name, parameter in self._parameters.items()
            if ("ready", name) in self._samples and num_elements(parameter)  # one without elements sends nothing
        ]
        buckets = [
            BucketTiming(
                index=index,
                num_bytes=num_bytes,
                ready_s=median(self._samples["bucket_ready", index]),
                launched_s=median(self._samples["launched", index]),
                done_s=median(self._samples["done", index]),
            )
            for index, num_bytes in sorted(self._bucket_bytes.items())
            if ("launched", index) in self._samples
        ]
        return GradientTimeline(
            rank=self._rank,
            num_steps=len(backward_s),
            backward_s=median(backward_s),
            parameters=tuple(sorted(parameters, key=lambda p: p.ready_s)),
            buckets=tuple(buckets),
        )

    def _ready_hook(self, name: str) -> Callable[[Tensor], None]:
        """Return what notes that a gradient is ready: flat, as it runs for each of them in caches that hold the training's."""
        own_work, mark = self._own_work, self._clock.mark

        def ready(_: Tensor) -> None:
            if own_work.ended:
                return
            try:
                if self._backward is None:
                    self._num_stray += 1
                else:
                    self._backward.ready[name] = mark()
            except Exception as error:
                if not own_work.ended_by(error):
                    raise

        return ready


def sends_each(ddp: DistributedDataParallel) -> bool:
    """Whether a compiled backward pass sends the gradients one by one, and knows no buckets to hook."""
    return bool(getattr(ddp, "_use_python_reducer", False))


def uncompiled(model: nn.Module) -> nn.Module:
    """Return the module that torch.compile wrapped, or the model itself."""
    inner: nn.Module = getattr(model, "_orig_mod", model)
    return inner


def bare(model: nn.Module) -> nn.Module:
    """Return the module as its author wrote it, without torch.compile's and DDP's wrappers."""
    inner = uncompiled(model)
    return uncompiled(inner.module) if isinstance(inner, DistributedDataParallel) else inner
