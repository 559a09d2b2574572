"""Which functions does torch.compile leave alone? Those that torch.compiler.disable has seen, and ours only where it looks.

That function loads torch._dynamo, which takes seconds, and what it returns takes a microsecond a call, several where caches are
cold: too much for every step of a training that compiles none.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch


def uncompiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that does the same and is never traced into a compiled one; called in one, it is a graph break."""
    hidden: Callable[..., Any] | None = None

    @functools.wraps(function)
    def as_it_is(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        nonlocal hidden
        if not torch.compiler.is_dynamo_compiling():
            return function(*args, **kwargs)
        if hidden is None:
            hidden = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
        return hidden(*args, **kwargs)

    return as_it_is
