"""When does the trained module's forward pass begin and end? One hook before it, and one after.

A module that is copied or saved takes its hooks along: a copy of ours is a function of Python's own that does nothing.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from commprof.commbench.foreign.root import is_compiled
from commprof.commbench.foreign.uncompiled import uncompiled

Begins = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]
Ends = Callable[[nn.Module], None]

_MOST_PARTS = 16
_COMPILED = "torch.compile has the model's call, so its forward pass counts from the batch's fetch on"


class ForwardMarks:
    """Hooks on the outermost module and on what a loop may call in its place."""

    def __init__(self, module: nn.Module, begins: Begins, ends: Ends) -> None:
        called = modules_called(module)
        self.unseen = () if called else (_COMPILED,)
        self._handles: list[RemovableHandle] = []
        for inner in called:
            self._handles.append(inner.register_forward_pre_hook(_Mark(uncompiled(begins)), with_kwargs=True))
            self._handles.append(inner.register_forward_hook(_Mark(uncompiled(lambda module, *_: ends(module)))))

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()


def modules_called(module: nn.Module) -> list[nn.Module]:
    """Return the modules whose call may be the training's forward pass, from the outside in; none that is compiled into one."""
    if getattr(module, "_compiled_call_impl", None) is not None:
        return []
    chain = [module]
    while not is_compiled(chain[-1]):
        inside = list(chain[-1].children())
        if len(inside) != 1:  # a module that its loop never calls as a whole, such as Lightning's, has its parts called
            return [*chain, *inside] if len(chain) == 1 and len(inside) <= _MOST_PARTS else chain
        chain += inside
    return chain


class _Mark:
    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell

    def __call__(self, *args: Any) -> None:  # noqa: ANN401
        self._tell(*args)

    def __deepcopy__(self, memo: object) -> Callable[..., None]:
        return nullcontext().__exit__

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (nullcontext(), "__exit__")
