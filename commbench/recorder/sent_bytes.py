"""How many bytes does a communication hook hand to collectives? Whatever it calls, torch's dispatcher sees the tensors."""

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class SentBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what this thread sends while the block runs; what a callback sends later, from another thread, is not in it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_bytes = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        if operation.namespace == "c10d":
            self.num_bytes += sum(tensor.nbytes for tensor in _tensors(args[0]))  # a collective's first argument: its buffers
        return operation(*args, **(kwargs or {}))


def _tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for each in value for tensor in _tensors(each)] if isinstance(value, list | tuple) else []
