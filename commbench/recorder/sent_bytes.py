"""How many bytes does a communication hook hand to collectives? Whatever it calls, torch's dispatcher sees the tensors."""

from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_BETWEEN_TWO: Final = ("send", "recv_", "recv_any_source_")


class SentBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what this thread sends while the block runs.

    Each collective is waited for: what is done with its result, such as sending the next part, is done at once and here, and
    not later in a thread of the backend's. A message between two ranks is not, whose other end may wait for this rank.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_bytes = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        result = operation(*args, **(kwargs or {}))
        if operation.namespace == "c10d":
            self.num_bytes += sum(tensor.nbytes for tensor in _tensors(args[0]))  # a collective's first argument: its buffers
            if operation._opname not in _BETWEEN_TWO:
                _wait_for(result)
        return result


def _wait_for(result: object) -> None:
    """Wait for the work among what a collective returned."""
    for work in result if isinstance(result, list | tuple) else [result]:
        if isinstance(work, torch.ScriptObject):
            any_work: Any = work
            any_work.wait()


def _tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for each in value for tensor in _tensors(each)] if isinstance(value, list | tuple) else []
