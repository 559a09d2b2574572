"""Which functions does torch.compile leave alone? Those that torch.compiler.disable has seen, and ours ask for it late.

That function loads torch._dynamo, which takes seconds. Whoever makes an optimizer loads it all the same; a process that only
reads batches never does.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch


def uncompiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that does the same and is never traced into a compiled one; called in one, it is a graph break."""
    disabled: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def as_it_is(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if not disabled:
            if "torch._dynamo" not in sys.modules:
                return function(*args, **kwargs)
            disabled.append(torch.compiler.disable(function))  # type: ignore[no-untyped-call]
        return disabled[0](*args, **kwargs)

    as_it_is._torchdynamo_disable = True  # type: ignore[attr-defined]
    return as_it_is
