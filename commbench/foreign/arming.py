"""Where does torch tell of a training? Its hooks for all optimizers, and a few of its functions, stood in for.

    an optimizer's step begins and ends    register_optimizer_step_pre_hook, ..._post_hook
    a loss is propagated backward          torch.autograd.backward, which Tensor.backward calls
    a batch is fetched                     the iterator of a DataLoader
    a step is skipped                      GradScaler.step, when it has called no optimizer
    a checkpoint is written                torch.save
    a model is wrapped                     DistributedDataParallel.__init__

What a stand-in does for the watch may fail; what it stands for is done in any case, and exactly once. None of it is compiled
into a step that torch.compile takes whole. Next to nothing of ours is loaded before something of this happens: torchrun and
a loader's workers import torch too.
"""

import functools
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from commprof.commbench.foreign.asked import UNPASSED, Asked, decode, note
from commprof.commbench.foreign.uncompiled import uncompiled

if TYPE_CHECKING:
    from commprof.commbench.foreign.watch import Watch


class Armed:
    """The stand-ins of this process. The watch behind them begins with the first of torch's events in the training's thread."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._undo: list[Callable[[], object]] = []
        self._watch: Watch | None = None
        self._thread: int | None = None
        self._is_blind = False
        self._passed = self._told_unpassed = False
        self.num_steps = 0

    def arm(self) -> None:
        from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
        from torch.utils.data import dataloader

        self._undo.append(register_optimizer_step_pre_hook(uncompiled(self._before_step)).remove)
        self._undo.append(register_optimizer_step_post_hook(uncompiled(self._after_step)).remove)
        self._stand_in(torch.autograd, "backward", before="backward_begins", after="backward_ends", failed="backward_ends")
        self._stand_in(dataloader._BaseDataLoaderIter, "__next__", before="fetch_begins", after="fetch_ends")
        self._stand_in(torch, "save", after="interrupted")
        self._stand_in_for_scaler()
        self._stand_in_for_ddp()
        os.register_at_fork(after_in_child=self._forked)

    def disarm(self, *, failed: bool = False) -> None:
        """Write what is left to write, and put torch's own back everywhere; `failed` says that the training ended early."""
        if self._watch is not None:
            self._watch.end(failed=failed)
        for undo in self._undo:
            undo()
        self._undo.clear()

    def _put(self, place: Any, name: str, stand_in: Callable[..., Any]) -> None:  # noqa: ANN401
        self._undo.append(functools.partial(setattr, place, name, getattr(place, name)))
        setattr(place, name, stand_in)

    def _stand_in(self, place: Any, name: str, *, before: str = "", after: str = "", failed: str = "") -> None:  # noqa: ANN401
        """Put a function that tells the watch in the place of torch's own."""
        own: Callable[..., Any] = getattr(place, name)
        passes = before == "backward_begins"

        @functools.wraps(own)
        def stand_in(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            self._passed |= passes
            watch = self._watch if threading.get_ident() == self._thread else None
            if watch is not None and before:
                watch.tell(before)
            try:
                result = own(*args, **kwargs)
            except BaseException:
                if watch is not None and failed:
                    watch.tell(failed)
                raise
            if watch is not None and after:
                watch.tell(after)
            return result

        self._put(place, name, uncompiled(stand_in))

    def _stand_in_for_scaler(self) -> None:
        own = torch.amp.GradScaler.step

        @functools.wraps(own)
        def step(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            before = self.num_steps
            result = own(*args, **kwargs)
            if self._watch is not None and self.num_steps == before:
                self._watch.tell("skipped")
            return result

        self._put(torch.amp.GradScaler, "step", step)

    def _stand_in_for_ddp(self) -> None:
        from torch.nn.parallel import DistributedDataParallel

        own = DistributedDataParallel.__init__

        @functools.wraps(own)
        def init(model: DistributedDataParallel, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
            own(model, *args, **kwargs)
            watch = self._of_this_process()
            if watch is not None:
                watch.wrapped(model)

        self._put(DistributedDataParallel, "__init__", init)

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:  # noqa: ANN401
        if self._thread == threading.get_ident() and self._watch is not None:
            self._watch.tell("step_begins")

    def _after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:  # noqa: ANN401
        self.num_steps += 1
        if not self._passed:  # such a step makes an optimizer's state, or its gradients come in a way that nothing tells of
            if not self._told_unpassed:
                self._told_unpassed = True
                note(self._asked, UNPASSED)
            return
        if self._thread is None:
            self._thread = threading.get_ident()
        if self._thread == threading.get_ident():
            watch = self._of_this_process()
            if watch is not None:
                watch.step_ends(optimizer)

    def _of_this_process(self) -> "Watch | None":
        """Return the watch; None, for ever, where what it needs cannot be loaded here."""
        if self._watch is None and not self._is_blind:
            try:
                from commprof.commbench.foreign.watch import Watch

                self._watch = Watch(self._asked)
            except Exception as error:  # noqa: BLE001  the training must not hear of it
                self._is_blind = True
                note(self._asked, f"error {type(error).__name__}: {error}")
        return self._watch

    def _forked(self) -> None:
        """A child of a process that trains is a loader's worker; one that comes before any step may yet become a rank."""
        if self._watch is not None:
            self._watch.forked()


def arm() -> None:
    """Tell the watch of what torch does in this process from now on; called once, when torch has been imported."""
    Armed(decode()).arm()
