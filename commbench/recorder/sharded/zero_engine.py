"""What a DeepSpeed engine of a ZeRO stage sends, and when: taps on the functions by which it sends, gathers and updates.

DeepSpeed sends through one object (deepspeed.comm.comm.cdb); what a message is of is known a call further up: a bucket where
gradients are averaged, the parameters that are fetched together, the optimizer's step. Each of these is stood in for on the
object that has it, and does what it did. On one rank DeepSpeed gathers nothing: what it would gather is marked where it would.
All of it rests on another library's insides: where they are not as expected no units are told, and why; the rest is recorded.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial, wraps
from typing import Any

from torch import Tensor

from commprof.commbench.errors import Interrupted
from commprof.commbench.recorder.element_counts import num_bytes
from commprof.commbench.recorder.own_work import OwnWork
from commprof.commbench.recorder.sharded.marks import Place as MarkPlace
from commprof.commbench.recorder.sharded.marks import UnitRecorder
from commprof.commbench.recorder.sharded.tap import Function, Tap
from commprof.commbench.recorder.sharded.zero_facts import (
    cannot_tell,
    facts_of,
    filled,
    not_as_known,
    num_shards,
    optimizer_bytes,
    unavailable,
)
from commprof.commbench.recorder.sharded.zero_messages import GATHER, REDUCTIONS, UNKNOWN, Messages
from commprof.commbench.records.sharding import Mark, ShardedUnit, ShardingTimeline
from commprof.commbench.timing import Clock

Place = tuple[Any, str, Callable[[Function], Function]]  # an object, the name of its function, and what stands around that


class ZeroRecorder(UnitRecorder):
    """Marks what an engine sends in each step; of an engine whose schedule cannot be told it says why."""

    def __init__(self, engine: Any, rank: int, clock: Clock, own_work: OwnWork) -> None:  # noqa: ANN401
        super().__init__([], rank, clock, own_work)
        self._engine, self._optimizer = engine, getattr(engine, "optimizer", None)
        self._messages = Messages({})
        self._bucket: int | None = None  # that is being reduced
        self._reduced: int | None = None  # the last one that was
        self._lands: tuple[Mark, int] | None = None
        self._within = False  # a call whose messages are told already
        self._strange = ""  # a collective of a step that was dropped for it
        self._num_shards = 1  # until it is asked for: a script may have ended its process group by when units are written

    def attach(self) -> None:
        """Put all taps in their places; where this DeepSpeed has not all of them, none, and no units are told."""
        self._attempt(self._attach)
        if self._untold:
            self.release()

    def _attach(self) -> None:
        self._untold = cannot_tell(self._engine)
        if self._untold:
            return
        self._num_shards = num_shards(self._optimizer)
        self._messages = Messages({id(parameter): name for name, parameter in self._engine.module.named_parameters()})
        places = list(self._places())
        missing = [name for place, name, _ in places if not hasattr(place, name)]
        if missing:
            self._untold = f"this DeepSpeed has no {missing[0]}"
        for place, name, around in [] if missing else places:
            self._hooks.append(Tap(place, name, around))

    def begin_step(self) -> None:
        super().begin_step()
        self._marking = self._marking and not self._untold
        self._bucket = self._reduced = self._lands = None  # an error of the job's may have left them
        self._messages.begin_step()

    def unseen(self) -> Iterator[str]:
        yield from super().unseen()
        if self._strange and not self._samples:
            yield f"no units are told: DeepSpeed called {self._strange} in every step, which no stage of its is known to"

    def timeline(self) -> ShardingTimeline | None:
        """Return the steps that most went through alike; None where none was seen, or nothing was sent in them."""
        if not self.has_steps:
            return None
        found: list[ShardingTimeline] = []
        self._attempt(lambda: found.append(self._told_timeline()))
        return next((each for each in found if each.units), None)

    def _told_timeline(self) -> ShardingTimeline:
        self.tell(optimizer_bytes=optimizer_bytes(self._optimizer))
        timeline = super().timeline()
        assert timeline is not None  # there are steps
        # Counts of live bytes do not tell activations: an engine takes and frees gradients and parameters meanwhile.
        return replace(timeline, zero=facts_of(self._engine, self._num_shards), activation_bytes=None, peak_bytes=None)

    def _places(self) -> Iterator[Place]:
        optimizer = self._optimizer
        sender = getattr(sys.modules.get("deepspeed.comm.comm"), "cdb", None)
        yield from ((sender, name, partial(self._around_sending, name)) for name in (*REDUCTIONS, GATHER))
        yield from ((sender, name, partial(self._around_unknown, name)) for name in UNKNOWN if hasattr(sender, name))
        yield optimizer, "step", self._around_step
        if self._engine.zero_optimization_stage() < 3:
            yield optimizer, "average_tensor", self._around_bucket
            yield optimizer, "reduce_ipg_grads", self._around_keeping
            return
        yield sys.modules[type(optimizer).__module__], "reduce_scatter_coalesced", self._around_bucket
        yield optimizer, "partition_grads", self._around_keeping
        for each in self._engine.module.parameters():
            yield each, "all_gather_coalesced", self._around_fetch
            yield each, "all_gather", partial(self._around_gather, each)

    def _around_step(self, own: Function) -> Function:
        @wraps(own)
        def step(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            self.mark("update_begun")
            result = own(*args, **kwargs)
            self._do(self._note_update_ended)
            return result

        return step

    def _note_update_ended(self) -> None:
        """Mark the gathers of updated parameters, which one rank does not make, and the update's end."""
        if num_shards(self._optimizer) == 1:
            for group in getattr(self._optimizer, "bit16_groups_flat", ()):
                self._note_updated(group)
                self._land()
        self.mark("update_ended")

    def _around_bucket(self, own: Function) -> Function:
        """Stand around what averages a bucket: `average_tensor` of stages 1 and 2, `reduce_scatter_coalesced` of stage 3."""

        @wraps(own)
        def average(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            self._do(self._note_bucket, args)
            result = own(*args, **kwargs)
            self._reduced, self._bucket = self._bucket, None
            return result

        return average

    def _note_bucket(self, arguments: Sequence[Any]) -> None:
        if parameters := filled(self._optimizer, arguments):
            self._bucket = self._messages.of_parameters("bucket", parameters)
            self.mark("reduce_begun", self._bucket)

    def _around_keeping(self, own: Function) -> Function:
        @wraps(own)
        def keep(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            result = own(*args, **kwargs)
            number, self._reduced = self._reduced, None
            if number is not None:
                self.mark("kept", number)
            return result

        return keep

    def _around_sending(self, name: str, own: Function) -> Function:
        @wraps(own)
        def send(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            if self._within:
                return own(*args, **kwargs)
            self._do(self._note_sending, name, [*args, *kwargs.values()])
            result = own(*args, **kwargs)
            self._do(self._land)
            return result

        return send

    def _note_sending(self, name: str, values: Sequence[object]) -> None:
        tensor = max((each for each in values if isinstance(each, Tensor)), key=lambda each: each.nbytes)
        if name == GATHER:
            self._note_updated(tensor)
            return
        number = self._messages.in_turn(name, tensor) if self._bucket is None else self._bucket
        self._messages.reduces(number, tensor, REDUCTIONS[name])
        self.mark("reduce_sent", number)
        self._lands = "reduce_landed", number

    def _note_updated(self, group: Tensor) -> None:
        number = self._messages.in_turn("updated parameters", group)
        self._messages.gathers(number, group.nbytes, group.dtype)
        self.mark("gather_sent", number)
        self._lands = "gather_landed", number

    def _land(self) -> None:
        if self._lands is not None:
            self.mark(*self._lands)
            self._lands = None

    def _around_unknown(self, name: str, own: Function) -> Function:
        """Drop a step with a collective that is not known: stage 3 compares its trace among ranks in its first steps."""

        @wraps(own)
        def unknown(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            if self._marking and not self._within:
                self._strange, self._marks, self._marking = name, [], False
            return own(*args, **kwargs)

        return unknown

    def _around_fetch(self, own: Function) -> Function:
        @wraps(own)
        def fetch(params: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            if not self._marking:
                return own(params, *args, **kwargs)
            fetched = list(params)
            with self._as_told():
                handle = own(fetched, *args, **kwargs)
            self._do(self._note_fetch, fetched, handle)
            return handle

        return fetch

    def _note_fetch(self, parameters: Sequence[Any], handle: Any) -> None:  # noqa: ANN401
        number = self._gathered(parameters, num_messages=len({each.ds_tensor.dtype for each in parameters}))
        self.mark("gather_sent", number)
        handle.wait = self._around_wait(number, handle.wait)

    def _around_wait(self, number: int, own: Function) -> Function:
        """Stand around a handle's wait: the first one waits, each parameter of the message has another."""
        waits = iter([True])

        @wraps(own)
        def wait(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            if not next(waits, False):
                return own(*args, **kwargs)
            self.mark("gather_awaited", number)
            result = own(*args, **kwargs)
            self.mark("gather_landed", number)
            return result

        return wait

    def _around_gather(self, parameter: Any, own: Function) -> Function:  # noqa: ANN401
        """Stand around the gather of what is too small to be freed, behind the update: a message for each parameter. And of
        what the script wants whole itself (GatheredParameters)."""

        @wraps(own)
        def gather(param_list: Any = None, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            self._do(self._note_gathers, [parameter] if param_list is None else param_list)
            with self._as_told():
                result = own(param_list, *args, **kwargs)
            self._do(self._land)
            return result

        return gather

    def _note_gathers(self, wanted: Sequence[Any]) -> None:
        if parameters := unavailable(wanted):
            number = self._gathered(parameters, num_messages=len(parameters))
            self.mark("gather_sent", number)
            self._lands = "gather_landed", number

    def _gathered(self, parameters: Sequence[Any], *, num_messages: int) -> int:
        whole = self._messages.in_models_order(parameters)
        number = self._messages.of_parameters("gather", whole, num_messages=num_messages)
        self._messages.gathers(number, sum(map(num_bytes, parameters)), parameters[0].ds_tensor.dtype)
        return number

    def _numbers_in(self, order: Sequence[MarkPlace]) -> Sequence[int]:
        """Return the units as they come in a step: the same order on any number of ranks."""
        return list(dict.fromkeys(unit for _, unit, _ in order if unit is not None))

    def _unit(self, number: int) -> ShardedUnit:
        return self._messages.unit(number)

    def _mesh(self) -> tuple[int, int]:
        return self._num_shards, 1

    @contextmanager
    def _as_told(self) -> Iterator[None]:
        """Leave alone what is sent within: it is told as a whole."""
        earlier, self._within = self._within, True
        try:
            yield
        finally:
            self._within = earlier

    def _do(self, work: Callable[..., object], *args: object) -> None:
        """Do the recorder's own work, in a step that is marked."""
        if self._marking:
            self._own_work.do(self._attempt, work, *args)

    def _attempt(self, work: Callable[..., object], *args: object) -> None:
        """Do what rests on DeepSpeed's insides; an error of it ends the units, and nothing else."""
        try:
            work(*args)
        except Interrupted:
            raise
        except Exception as error:  # noqa: BLE001  whatever another version's insides lead to
            self._untold = not_as_known(error)
            self._marks, self._marking = [], False
