"""What a collective costs at one world size, as kept in fit.json. SI base units, the unit is the field's suffix."""

from dataclasses import dataclass

from commprof.analysis.runs.interval import Interval
from commprof.commbench.records.operations import OPERATIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A size that was disturbed: `factor` is its time over what stood beside it. The curve goes past it."""

    message_bytes: int
    factor: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """From `previous_bytes` to `message_bytes` the curve changes its course: another protocol or algorithm.

    `factor` is the time at `message_bytes` over what the line through the two sizes up to `previous_bytes` leads to there.
    """

    previous_bytes: int
    message_bytes: int
    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """What a collective costs at one world size: a line for people, the measured medians for prediction.

    `line_error` is the line's median relative error over the measured sizes; `verdict` says in words whether to trust it.
    `curve_error` is the curve's own: each size from 1 to 256 MiB (from 256 KiB up where none lies there) predicted from its
    neighbours, mean absolute relative error, None where no size has any. `scatter` is how well a size is known: placements or
    repeats apart, relative.
    `comm_cores` is the CPU cores one rank keeps busy during the largest transfers (0 where GPUs do the work).
    `backend` carried it out, "" where nobody said: gloo's ways are not NCCL's.
    `ring_crossings` is how often the ring over its ranks leaves a node: 1 with the ranks in blocks.
    A curve that was carried over names the world sizes it was `carried_from`, the `form` by which, and what speaks against it.
    """

    op: str
    world_size: int
    latency_s: float
    latency_interval_s: Interval
    bandwidth_bytes_per_s: float
    bandwidth_interval: Interval
    message_bytes: tuple[int, ...]
    median_s: tuple[float, ...]
    num_samples: int
    line_error: float
    comm_cores: float
    verdict: str
    run_ids: tuple[str, ...]
    dtype: str = "float32"
    backend: str = ""
    num_nodes: int | None = None
    ring_crossings: int = 1
    set_aside: tuple[SetAside, ...] = ()
    switches: tuple[Switch, ...] = ()
    curve_error: float | None = None
    scatter: float | None = None
    carried_from: tuple[int, ...] = ()
    form: str = ""
    doubts: tuple[str, ...] = ()

    @property
    def half_bandwidth_bytes(self) -> float:
        """The size at which latency and transfer weigh the same."""
        return self.latency_s * self.bandwidth_bytes_per_s

    @property
    def single_samples(self) -> bool:
        """Whether each size has one sample, as in an imported log: a bootstrap over it knows no interval."""
        return self.num_samples == len(self.message_bytes)

    @property
    def busbw_bytes_per_s(self) -> float:
        return self.bandwidth_bytes_per_s * OPERATIONS[self.op].bus_factor(self.world_size)
