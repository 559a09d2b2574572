"""What a bench is asked to do: one collective, its sizes, how each call is timed, and when a size has been timed enough.

The plan is written into the run (bench.json), so that an interrupted sweep can go on with exactly the same. No torch here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from commprof.commbench.errors import BadInput
from commprof.commbench.records.buckets import CAP_BYTES, FIRST_CAP_BYTES, group_gradients
from commprof.commbench.records.operations import DATA_TYPES, OPERATIONS, REDUCTIONS
from commprof.commbench.records.quantities import BytesAboveZero, Count, CountAboveZero, Rank, RatioAboveZero, Time, one_of
from commprof.commbench.records.rundir import read_document, read_info
from commprof.commbench.records.training import GradientTimeline
from commprof.commbench.records.types import CollectiveMeasurement
from commprof.commbench.units import format_bytes, parse_bytes

Mode = Literal["isolated", "pipelined"]

PLAN_FILE = "bench.json"
MAX_BUCKETS = 10_000
_SHOWN = 80  # characters of a list of buckets


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One way of timing a size; a part of the table's row."""

    mode: Mode
    in_place: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """When a size has been timed enough.

    With `iterations`, after so many samples. Else once the median's 95 % interval is within `precision` of it (0.02 is
    2 %), or when the share of the sweep's `budget_s` that fell to it is used up.
    """

    iterations: CountAboveZero | None
    precision: RatioAboveZero
    budget_s: Time


FAST = Effort(iterations=None, precision=0.10, budget_s=10.0)
STANDARD = Effort(iterations=None, precision=0.02, budget_s=50.0)
RIGOROUS = Effort(iterations=None, precision=0.005, budget_s=600.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchPlan:
    """One sweep. Sizes in bytes; `bucket_bytes` is the burst's series, empty where none was asked for."""

    op: str
    dtype: str
    reduction: str
    root: Rank
    sizes: tuple[BytesAboveZero, ...]
    cells: Annotated[tuple[Cell, ...], Meta(min_length=1)]
    bucket_bytes: Annotated[tuple[BytesAboveZero, ...], Meta(max_length=MAX_BUCKETS)]
    bucket_source: str
    effort: Effort
    warmup_iterations: Count
    check: bool
    hot: bool
    cuda_graph: bool

    def __post_init__(self) -> None:
        """Raise ValueError for a collective that there is none of."""
        one_of("op", self.op, OPERATIONS)
        one_of("dtype", self.dtype, DATA_TYPES)
        one_of("reduction", self.reduction, REDUCTIONS)

    def message_sizes(self, world_size: int) -> list[int]:
        """Return the sizes as whole elements make them on so many ranks, each once; a barrier has the one size 0."""
        if self.op == "barrier":
            return [0]
        operation, element_bytes = OPERATIONS[self.op], DATA_TYPES[self.dtype].num_bytes
        counts = (operation.elements_per_rank(size, element_bytes, world_size) for size in self.sizes)
        return list(dict.fromkeys(operation.message_bytes(count, element_bytes, world_size) for count in counts))

    def remaining(self, world_size: int, measured: Sequence[CollectiveMeasurement]) -> list[tuple[int, Cell]]:
        """Return what is still to be timed, in the order of the sweep."""
        done = {(m.message_bytes, Cell(mode=m.mode, in_place=m.in_place)) for m in measured}
        cells = [(size, cell) for size in self.message_sizes(world_size) for cell in self.cells]
        return [cell for cell in cells if cell not in done]


def parse_buckets(text: str) -> tuple[tuple[int, ...], str]:
    """Return a burst's sizes and where they come from.

    `runs/x` or a gradients.json: a run's own buckets, or those that DDP would make of its parameters. `1M,25M,13M`: a list.
    `178M`: a model's gradient bytes in DDP's default buckets (first 1 MiB, then 25 MiB). `178M/10M`: in buckets of that cap.
    Raises BadInput for anything else.
    """
    if _is_there(text):
        sizes = _recorded_buckets(Path(text))
        source = f"{len(sizes)} buckets of {text}"
    elif "," in text:
        sizes, source = _listed(text)
    else:
        total, _, cap = text.partition("/")
        first, rest = (parse_bytes(cap), parse_bytes(cap)) if cap else (FIRST_CAP_BYTES, CAP_BYTES)
        if not 0 < parse_bytes(total) <= MAX_BUCKETS * rest:
            raise BadInput(f"--buckets {text[:_SHOWN]}: need a size above 0 in at most {MAX_BUCKETS} buckets")
        sizes = list(_fill(parse_bytes(total), first, rest))
        source = f"{format_bytes(parse_bytes(total))} of gradients, buckets of {format_bytes(rest)}"
    if not sizes or min(sizes) < 1 or len(sizes) > MAX_BUCKETS:
        raise BadInput(f"--buckets {text[:_SHOWN]}: need 1 to {MAX_BUCKETS} sizes above 0")
    return tuple(sizes), source


def _is_there(text: str) -> bool:
    """Say whether a word names a file or folder; a list of sizes may be longer than any name."""
    try:
        return Path(text).exists()
    except OSError:
        return False


def _listed(text: str) -> tuple[list[int], str]:
    words = [word for word in text.split(",") if word]
    if len(words) > MAX_BUCKETS:
        raise BadInput(f"--buckets: a list of {len(words)} sizes; need 1 to {MAX_BUCKETS} sizes above 0")
    return [parse_bytes(word) for word in words], f"list {text}" if len(text) <= _SHOWN else f"list of {len(words)} sizes"


def _recorded_buckets(path: Path) -> list[int]:
    gradients = read_document(path / "gradients.json" if path.is_dir() else path, GradientTimeline)
    if gradients.buckets:
        return [bucket.num_bytes for bucket in gradients.buckets]
    workload = read_info(path).workload if path.is_dir() else None
    caps = (workload.first_bucket_bytes, workload.bucket_cap_bytes) if workload else (FIRST_CAP_BYTES, CAP_BYTES)
    sizes = [parameter.num_bytes for parameter in gradients.parameters]
    return [sum(sizes[group.start : group.stop]) for group in group_gradients(sizes, *caps)]


def _fill(total_bytes: int, first_bytes: int, cap_bytes: int) -> Iterator[int]:
    size = min(total_bytes, first_bytes)
    while total_bytes > 0:
        yield size
        total_bytes -= size
        size = min(total_bytes, cap_bytes)
