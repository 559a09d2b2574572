"""What is concluded of a strategy: its step, its memory on a rank, or why neither can be told. SI base units."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

from commprof.analysis.runs.interval import Interval
from commprof.commbench.records.quantities import Difference, NumBytes, Ranks, Span, Time

Strategy = Literal["ddp", "fsdp", "hsdp", "zero2", "zero1", "zero3"]
STRATEGIES: Final[tuple[Strategy, ...]] = (
    "ddp",
    "fsdp",
    "hsdp",
    "zero2",
)  # what a training can be asked about, whatever shards it
ASKED_FOR: Final[tuple[Strategy, ...]] = get_args(Strategy)  # and DeepSpeed's own stages, of a training that is one
COPIES: Final = 2  # of HSDP's shards, unless more are asked for or were run
STRATEGY_NAMES: Final[dict[Strategy, str]] = {
    "ddp": "DDP",
    "fsdp": "FSDP: parameters, gradients and optimizer sharded, parameters freed between forward and backward",
    "hsdp": "HSDP: copies of such shards, all-reduced among each other",
    "zero2": "ZeRO-2: FSDP whose parameters stay whole from forward to backward; of DeepSpeed's engine, its own schedule",
    "zero1": "ZeRO-1 of DeepSpeed: the optimizer sharded, gradients all-reduced in buckets",
    "zero3": "ZeRO-3 of DeepSpeed: all sharded, gathered as its trace of the last step foresees",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes on a rank at a step's peak. `unsharded`: parameters that are whole, and the gather that follows. `buckets`: DDP's,
    or the buffers of reductions. `activations` and `working`, what else computation takes, are None where they were not
    measured, and then no part of `total`."""

    parameters: NumBytes
    gradients: NumBytes
    optimizer: NumBytes
    unsharded: NumBytes
    buckets: NumBytes
    activations: NumBytes | None
    working: NumBytes | None = None

    @property
    def is_all(self) -> bool:
        """Whether all that a rank holds was measured, so that its memory is not more than `total`."""
        return self.activations is not None and self.working is not None

    @property
    def total(self) -> int:
        whole = self.parameters + self.gradients + self.optimizer + self.unsharded + self.buckets
        return whole + (self.activations or 0) + (self.working or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitExchange:
    """A collective of a unit in the predicted step, seconds from its start."""

    what: Literal["gather", "reduce", "all_reduce"]
    unit: str
    direction: Literal["forward", "backward"]
    num_bytes: NumBytes
    start_s: Span
    done_s: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyAnswer:
    """One strategy on `world_size` ranks, or in `cannot` why it cannot be told.

    `exposed_s` is communication that nothing hides. `fits`: its memory is at most what was allowed, None where nothing was or
    the memory is unknown. `memory_cannot` says why the memory cannot be told. `too_disturbed` says why an interval would be too
    wide to tell anything, and then there is none. `extrapolated`: a wire was carried over from other numbers of ranks.
    `engine`: a DeepSpeed engine shards, whose ZeRO-2 is not fully_shard's.
    """

    strategy: Strategy
    world_size: Ranks
    cannot: str = ""
    step_s: Time | None = None
    interval_s: Interval | None = None
    exposed_s: Difference | None = None
    num_shards: Ranks = 1
    num_replicas: Ranks = 1
    memory: Memory | None = None
    memory_cannot: str = ""
    fits: bool | None = None
    assumptions: tuple[str, ...] = ()
    exchanges: tuple[UnitExchange, ...] = ()
    too_disturbed: str | None = None
    extrapolated: bool = False
    engine: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for an answer that neither tells a step nor why it cannot, and for an interval of no steps."""
        if not self.cannot and (self.step_s is None or self.exposed_s is None):
            raise ValueError("`step_s` and `exposed_s` are told, or in `cannot` why not")
        if self.interval_s is not None and not 0 < self.interval_s.low <= self.interval_s.high:
            raise ValueError("`interval_s` is one of steps, above 0 s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The strategies asked for on `world_size` ranks. `fastest` of those that do not fail to fit, None where none can be told;
    `within_noise` names those that may as well be the fastest: 90 % of the draws do not tell them apart. `memory_bytes` is what
    a rank may take, None where nobody said."""

    world_size: Ranks
    answers: tuple[StrategyAnswer, ...]
    fastest: Strategy | None
    within_noise: tuple[Strategy, ...]
    memory_bytes: NumBytes | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where the fastest is none of those that are told."""
        if self.fastest is not None and self.fastest not in {own.strategy for own in self.answers if not own.cannot}:
            raise ValueError(f"`fastest` is {self.fastest}, of which `answers` tell nothing")
