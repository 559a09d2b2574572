"""The events of a training that knows nothing of us -> the steps and phases of a StepRecorder.

    optimizer ends     the step ends with the first optimizer that comes after a backward pass; what follows it (zero_grad, a
                       scheduler, words) is the next one's "optimizer", as long as no batch is fetched; where optimizers
                       step inside the backward pass, as each gradient is there, the step ends with that
    fetch, forward     "data", "forward"; each of them is told where it begins
    backward           "backward", and "optimizer" when it has ended
    interrupted        an evaluation's forward or a checkpoint before the step's first forward: the step begins after it

So phases follow each other without a gap and sum to the step. The process' first step shows what is trained; records begin
with its second. Nothing here waits for another rank: no rank is known to take as many steps as this one.
"""

import atexit
import os
import sys
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from commprof.commbench.errors import BadInput
from commprof.commbench.foreign import asked as asking
from commprof.commbench.foreign.cards import RankRun
from commprof.commbench.foreign.ending import Ending
from commprof.commbench.foreign.marks import ForwardMarks
from commprof.commbench.foreign.memory import WatchedMemory
from commprof.commbench.foreign.root import batch_size, trained_module, why_none
from commprof.commbench.foreign.tracer import WindowTracer
from commprof.commbench.recorder.bucket_tap import BucketTap
from commprof.commbench.recorder.gradients import sends_each, uncompiled
from commprof.commbench.recorder.own_work import OwnWork, say
from commprof.commbench.recorder.parallelism import wrapper_of
from commprof.commbench.recorder.steps import StepRecorder
from commprof.commbench.timing import device_clock

_WARMUP_STEPS = 5  # of the process, as record_steps has it
_STEPS_INSIDE = "optimizers step inside the backward pass, parameter by parameter: their time counts as the pass'"
_GRAPH = "a CUDA graph was captured: nothing tells of the steps that it replays"
_FIRST_SAVE = 8  # records; then at every doubling: what a process that is killed leaves


class Watch:
    """Of one process. Its own errors end it, and nothing else."""

    def __init__(self, asked: asking.Asked) -> None:
        self._asked = asked
        self._own_work = OwnWork(self._let_go)
        self._ending = Ending(asked.max_steps)
        self._pid = os.getpid()
        self._recorder: StepRecorder | None = None
        self._run: RankRun | None = None
        self._taps: list[BucketTap] = []
        self._num_steps = 0
        self._optimizers: set[int] = set()
        self._inside: torch.optim.Optimizer | None = None  # one that took its step in the backward pass under way
        self._steps_inside = self._was_captured = self._has_graph = False
        self._runs_behind = False  # the device, behind the host
        self._memory: WatchedMemory | None = None
        self._passes = self._samples = 0
        self._depth = 0  # of backward passes inside each other
        self._is_fresh = True  # no training forward since the step began
        self._is_over = False
        self._trains_in_training_mode = False
        self._last = ""

    def tell(self, event: str) -> None:
        """Take notice of one of `arming`'s events, where steps are being recorded; backward passes are counted anyway.

        A backward pass inside another one is a part of it: torch.utils.checkpoint calls one for every part, the older way.
        """
        self._depth += (event == "backward_begins") - (event == "backward_ends")
        if self._depth > (event == "backward_begins"):
            return
        self._passes += event == "backward_begins"
        if event == "skipped":
            self._passes = 0
        if self._recorder is not None and not self._is_captured():
            self._own_work.do(getattr(self, f"_{event}"), self._recorder)
        inside, self._inside = self._inside, None
        if inside is not None:
            self.step_ends(inside)

    def wrapped(self, model: DistributedDataParallel) -> None:
        """Stand between a new DDP model and its communication hook, before the user registers one."""
        if not sends_each(model) and hasattr(model, "reducer"):
            tap = BucketTap(model, None, alone=self._asked.compute_only)
            self._own_work.do(tap.attach)
            self._taps.append(tap)  # else nobody holds it before its reducer does

    def step_ends(self, optimizer: torch.optim.Optimizer) -> None:
        """End the step, if a backward pass was in it; end the training where it has taken all the steps asked for."""
        if self._depth > 0:
            self._inside, self._steps_inside = optimizer, True
            return
        if self._ending.was_asked_for and self._passes > 0:
            self._passes = 0
            self._ending.went_on(tells=self._tells)
        if self._is_over or (self._num_steps > 0 and self._passes == 0) or self._is_captured():
            return
        self._num_steps += 1
        self._optimizers.add(id(optimizer))
        self._own_work.do(self._turn, optimizer)
        self._passes = 0
        if self._own_work.ended:
            self._own_work.do_anyway(self._finish)
        if self._ending.is_due(self._num_steps):
            self._is_over = True
            self._own_work.do_anyway(self._finish)
            if self._tells:
                say(f"the training is ended after {self._num_steps} steps, as --max-steps asks")
            self._ending.ask()

    @property
    def _tells(self) -> bool:
        return self._run is None or self._run.context.rank == 0

    def end(self, *, failed: bool = False) -> None:
        """Stop recording, and write what is left to write; `failed` says that the training ended early."""
        self._is_over = True
        self._own_work.do_anyway(self._finish, failed=failed)

    def _end_late(self) -> None:
        self._own_work.do_anyway(self._finish, failed=getattr(sys, "last_value", None) is not None)

    def forked(self) -> None:
        """In a child: record nothing of it where its parent trains."""
        if self._num_steps > 0:
            self._recorder = None
            self._is_over = self._own_work.ended = True

    def _is_captured(self) -> bool:
        """Say whether this is captured into a CUDA graph, in which no mark may be and no wait; after one a step begins anew."""
        if self._runs_behind and torch.cuda.is_current_stream_capturing():
            self._was_captured = self._has_graph = True
            return True
        if self._was_captured:
            self._was_captured = False
            if self._recorder is not None:
                self._own_work.do(self._anew, self._recorder)
        return False

    def _turn(self, optimizer: torch.optim.Optimizer) -> None:
        """End one step and begin another: the first may be where recording begins, the last where it ends."""
        recorder, asked = self._recorder, self._asked
        if recorder is not None:
            recorder.end_step(self._samples or None)
            assert self._memory is not None
            self._memory.step_ended(recorder, optimizer)
            self._tracer.step_ended(self._num_steps)
            if recorder.num_steps >= self._next_save:
                self._save()
            if asked.last_step is not None and self._num_steps >= asked.last_step:
                self._finish()
                return
        elif self._num_steps >= asked.first_step:
            recorder = self._begin(optimizer)
        if recorder is not None:
            self._anew(recorder)

    def _anew(self, recorder: StepRecorder, first: Any = "optimizer") -> None:  # noqa: ANN401  a phase
        recorder.abandon_step()
        self._samples = 0
        self._is_fresh = True
        self._last = ""
        recorder.begin_step(first)

    def _begin(self, optimizer: torch.optim.Optimizer) -> StepRecorder:
        found = trained_module(optimizer)
        if found is None:
            raise BadInput(why_none())
        model = uncompiled(wrapper_of(uncompiled(found)))
        self._model, self._found = model, found
        device = next(found.parameters()).device
        clock = device_clock(device)
        self._runs_behind = clock.runs_behind
        self._run = RankRun(self._asked, model, device)
        recorder = StepRecorder(
            model,
            folder=self._run.folder,
            rank=self._run.context.rank,
            clock=clock,
            samples_per_rank=self._asked.samples_per_rank or 1,
            warmup_steps=max(0, _WARMUP_STEPS - self._num_steps),
            first_step=self._num_steps,
            compute_only=self._asked.compute_only and self._run.context.world_size > 1,
            own_work=self._own_work,
        )
        recorder.__enter__()
        self._memory = WatchedMemory(model, optimizer)
        self._tracer = WindowTracer(self._run, self._num_steps if self._asked.trace else None)
        self._next_save = _FIRST_SAVE
        self._marks = ForwardMarks(found, self._forward_begins, self._forward_ends)
        self._recorder = recorder
        atexit.register(self._end_late)
        return recorder

    def _forward_begins(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._recorder is not None and self._last != "forward" and not self._is_captured():  # else a part of a pass
            self._own_work.do(self._note_forward, self._recorder, module, args, kwargs)

    def _note_forward(self, recorder: StepRecorder, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._depth > 0 or not self._trains(module):
            return  # done again by a backward pass, or an evaluation
        self._trains_in_training_mode |= module.training
        self._samples += batch_size(args, kwargs) or 0
        self._is_fresh = False
        self._turn_to(recorder, "forward")

    def _forward_ends(self, module: nn.Module) -> None:
        if self._recorder is not None and not self._trains(module) and not self._is_captured():
            self._own_work.do(self._interrupted, self._recorder)

    def _trains(self, module: nn.Module) -> bool:
        """Tell a training's forward pass from an evaluation's; some train in evaluation mode, for their batch norm."""
        return torch.is_grad_enabled() and (module.training or not self._trains_in_training_mode)

    def _turn_to(self, recorder: StepRecorder, phase: Any) -> None:  # noqa: ANN401
        self._last = phase
        recorder.begin(phase)

    def _interrupted(self, recorder: StepRecorder) -> None:
        if self._is_fresh and self._passes == 0:
            self._anew(recorder, "data")

    def _skipped(self, recorder: StepRecorder) -> None:
        """Drop the step that a gradient scaler left out: its weights stayed as they were."""
        self._anew(recorder)

    def _fetch_begins(self, recorder: StepRecorder) -> None:
        self._turn_to(recorder, "data")

    def _fetch_ends(self, recorder: StepRecorder) -> None:
        self._turn_to(recorder, "forward")
        self._last = "fetched"

    def _backward_begins(self, recorder: StepRecorder) -> None:
        self._is_fresh = False
        self._turn_to(recorder, "backward")

    def _backward_ends(self, recorder: StepRecorder) -> None:
        self._turn_to(recorder, "optimizer")

    def _step_begins(self, recorder: StepRecorder) -> None:
        if self._passes:
            self._turn_to(recorder, "optimizer")

    def _save(self) -> None:
        assert self._recorder is not None and self._run is not None and self._memory is not None
        self._next_save = 2 * self._recorder.num_steps
        self._recorder.write_timeline()
        said = {_STEPS_INSIDE: self._steps_inside, _GRAPH: self._has_graph}
        unseen = (*self._marks.unseen, *self._tracer.unseen, *(words for words, holds in said.items() if holds))
        in_turn = len(self._optimizers) > 1 and not self._steps_inside
        self._run.amend(self._recorder, in_turn=in_turn, unseen=unseen, memory=self._memory)

    def _finish(self, *, failed: bool = False) -> None:
        """Write what is left to write. DDP's hook stays and does what DDP does: it can only go on all ranks at once."""
        if self._recorder is None or os.getpid() != self._pid:
            return
        self._recorder.abandon_step()
        self._recorder.settle(failed=failed)
        if not failed:
            self._recorder.take_last_pace()
        self._save()
        assert self._run is not None
        recorder, self._recorder = self._recorder, None
        self._own_work.ended = True
        recorder.leave()
        self._marks.remove()
        self._run.close()

    def _let_go(self, reason: str) -> None:
        rank = "a process" if self._run is None else f"rank {self._run.context.rank}"
        say(f"{rank} is not recorded any more, the training goes on ({reason})")
        asking.note(self._asked, f"error {reason}")
