"""The messages of a DeepSpeed engine's step as units, numbered as they are first seen: what each is of, and its bytes."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from commprof.commbench.errors import UnusableData
from commprof.commbench.recorder.element_counts import num_bytes
from commprof.commbench.records.sharding import ReduceOp, ShardedUnit

REDUCTIONS: Final[dict[str, ReduceOp]] = {"all_reduce": "all_reduce", "reduce_scatter_tensor": "reduce_scatter"}
GATHER: Final = "all_gather_into_tensor"
UNKNOWN: Final = (
    "all_gather", "all_gather_coalesced", "all_reduce_coalesced", "all_to_all", "all_to_all_single", "broadcast",
    "recv", "reduce", "reduce_scatter", "send",
)  # fmt: skip
_MOST: Final = 10_000  # bounds what is kept

Key = tuple[str | int, ...]


class Messages:
    """Units by what tells them apart: the parameters that they are of, or their kind and their turn in the step."""

    def __init__(self, names: dict[int, str]) -> None:
        self._parameter_names = names
        self._places = {key: place for place, key in enumerate(names)}
        self._numbers: dict[Key, int] = {}
        self._known: list[dict[str, Any]] = []
        self._turns: dict[str, int] = {}

    def begin_step(self) -> None:
        self._turns.clear()

    def in_models_order(self, parameters: Iterable[Any]) -> list[Any]:
        """Return parameters as the model has them: DeepSpeed fetches sets, whose order is another in every process."""
        return sorted(parameters, key=lambda each: self._places.get(id(each), len(self._places)))

    def of_parameters(self, kind: str, parameters: Sequence[Tensor], **known: object) -> int:
        """Return the number of the unit of these parameters together."""
        names = [self._parameter_names.get(id(parameter), "?") for parameter in parameters]
        name = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
        size = {"num_bytes": max(1, sum(map(num_bytes, parameters))), "num_tensors": len(parameters)}
        return self._number((kind, *map(id, parameters)), name=name, **size, **known)

    def in_turn(self, kind: str, tensor: Tensor) -> int:
        """Return the number of the unit of a message that its turn among those of its kind tells apart."""
        turn = self._turns[kind] = self._turns.get(kind, 0) + 1
        size = {"num_bytes": max(1, tensor.nbytes), "num_tensors": 1}
        return self._number((kind, turn, tensor.nbytes), name=f"{kind} {turn}", **size)

    def gathers(self, number: int, whole_bytes: int, dtype: torch.dtype) -> None:
        self._known[number] |= {"gather_bytes": whole_bytes, "gather_dtype": _named(dtype)}

    def reduces(self, number: int, tensor: Tensor, op: ReduceOp) -> None:
        self._known[number] |= {"reduce_bytes": tensor.nbytes, "reduce_dtype": _named(tensor.dtype), "reduce_op": op}

    def unit(self, number: int) -> ShardedUnit:
        nothing = {"gather_bytes": 0, "gather_dtype": "unknown", "reduce_bytes": 0, "reduce_dtype": "unknown"}
        return ShardedUnit(**{**nothing, "resharded": False, **self._known[number]})

    def _number(self, key: Key, **known: object) -> int:
        if key not in self._numbers:
            if len(self._known) >= _MOST:
                raise UnusableData("what DeepSpeed sends is another in every step")
            self._numbers[key] = len(self._known)
            self._known.append(known)
        return self._numbers[key]


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
