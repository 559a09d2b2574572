"""What each collective moves: how its size is counted, and what the busiest link carries of it.

Sizes and factors are nccl-tests' (doc/PERFORMANCE.md; src/*.cu, GetBw). algbw = size / time and busbw = algbw * factor,
so that busbw compares with a link's speed at any number of ranks. The size is what one rank contributes or receives
where that is the whole message, and the total over ranks where every rank holds a share.

No torch here: a wrong combination is refused before anything starts.
"""

from collections.abc import Callable
from dataclasses import dataclass

from commprof.commbench.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One collective.

    `shared`: its size is the total over ranks, each holding a share of 1/n. `reduces`: it takes a reduction. `rooted`: one
    rank sends or receives all. `places`: the placements that exist, as nccl-tests has them (out of place, in place).
    """

    bus_factor: Callable[[int], float]
    shared: bool = False
    reduces: bool = False
    rooted: bool = False
    in_place: bool = True
    out_of_place: bool = True

    def elements_per_rank(self, message_bytes: int, element_bytes: int, world_size: int) -> int:
        """Return how many elements one rank's share has in a message of about this size; at least one, none of nothing."""
        return max(1, message_bytes // (element_bytes * (world_size if self.shared else 1))) if message_bytes else 0

    def message_bytes(self, count: int, element_bytes: int, world_size: int) -> int:
        """Return the size of a message of `count` elements to a rank's share."""
        return count * element_bytes * (world_size if self.shared else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataType:
    """An element: bytes, nccl-tests' name for it, and whether it is an integer."""

    num_bytes: int
    nccl_name: str
    integer: bool = False


def _one(world_size: int) -> float:
    return 1.0


def _share(world_size: int) -> float:
    return (world_size - 1) / world_size


OPERATIONS = {
    "all_reduce": Operation(bus_factor=lambda n: 2 * (n - 1) / n, reduces=True),
    "reduce_scatter": Operation(bus_factor=_share, shared=True, reduces=True),
    "all_gather": Operation(bus_factor=_share, shared=True),
    "broadcast": Operation(bus_factor=_one, rooted=True),
    "reduce": Operation(bus_factor=_one, rooted=True, reduces=True),
    "all_to_all": Operation(bus_factor=_share, shared=True, in_place=False),
    "gather": Operation(bus_factor=_share, shared=True, rooted=True),
    "scatter": Operation(bus_factor=_share, shared=True, rooted=True),
    "send_recv": Operation(bus_factor=_one, in_place=False),
    "barrier": Operation(bus_factor=_one, in_place=False),
}

DATA_TYPES = {
    "float32": DataType(num_bytes=4, nccl_name="float"),
    "float64": DataType(num_bytes=8, nccl_name="double"),
    "float16": DataType(num_bytes=2, nccl_name="half"),
    "bfloat16": DataType(num_bytes=2, nccl_name="bfloat16"),
    "int8": DataType(num_bytes=1, nccl_name="int8", integer=True),
    "int32": DataType(num_bytes=4, nccl_name="int32", integer=True),
    "int64": DataType(num_bytes=8, nccl_name="int64", integer=True),
}

REDUCTIONS = ("sum", "avg", "min", "max")


def data_type_name(word: str) -> str:
    """Return torch's name of a data type given as torch or as nccl-tests writes it; raise BadInput for others."""
    for name, data_type in DATA_TYPES.items():
        if word in (name, data_type.nccl_name):
            return name
    raise BadInput(f"-d {word!r} is not a data type; use one of {', '.join(DATA_TYPES)}")


def reduction_name(word: str) -> str:
    """Return a reduction by its name; raise BadInput for others, those of nccl-tests' that are not offered among them."""
    if word not in REDUCTIONS:
        raise BadInput(f"-o {word!r} is not a reduction offered here; use one of {', '.join(REDUCTIONS)}")
    return word


def check_operation(op: str, dtype: str, reduction: str, backend: str) -> None:
    """Raise BadInput where the backend lacks the reduction.

    gloo divides after summing and cannot put the quotient back into an integer (seen in torch 2.13: every other
    combination of these collectives, data types and reductions works on both backends).
    """
    if OPERATIONS[op].reduces and reduction == "avg" and DATA_TYPES[dtype].integer and backend == "gloo":
        raise BadInput(f"gloo has no avg of {dtype}; use -o sum, or a floating-point -d")
