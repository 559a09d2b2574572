"""What `commprof advise` concludes; with --json one `Advice`. SI base units, intervals hold 90 %."""

from dataclasses import dataclass
from typing import Literal

from commprof.analysis.runs.interval import Interval
from commprof.analysis.step.results import Change, Overhead
from commprof.analysis.strategies.results import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """What other hardware would bring: seconds saved per batch, below zero where it costs; the speedup over one rank.

    It is over one rank on that hardware: faster computation is faster there too. No interval where the step has none.
    """

    what: str
    seconds_saved: float
    interval_s: Interval | None
    speedup: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """From which size on N ranks are faster than one, in samples or parameters.

    `smallest` is `smallest_tried` where they are at every size, None where not even at `largest_tried`. From `possibly` on the
    high end of the interval is a gain, from `surely` on the low end is one too; None as above.
    """

    now: float
    smallest_tried: float
    largest_tried: float
    smallest: float | None
    possibly: float | None
    surely: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bottleneck:
    """The bandwidth at which all buckets take as long on the wire as backward takes to compute their gradients.

    `busbw_needed_bytes_per_s` is None where the messages' latency alone takes longer than backward.
    """

    backward_s: float
    comm_s: float
    busbw_bytes_per_s: float
    busbw_needed_bytes_per_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RankAdvice:
    """All that is advised for one world size; the changes best first, the what-ifs as they come.

    `overhead` is what its step adds to one rank's, None in files of earlier versions. `too_disturbed` says why the
    step's interval tells nothing of whether these ranks pay; `shares_cores` that they would take turns on too few cores.
    """

    world_size: int
    step_s: float
    interval_s: Interval
    exposed_s: float
    speedup: float
    extrapolated: bool
    changes: tuple[Change, ...]
    what_ifs: tuple[WhatIf, ...]
    notes: tuple[str, ...]
    smallest_batch: Threshold
    smallest_model: Threshold
    bottleneck: Bottleneck
    too_disturbed: str | None = None
    overhead: Overhead | None = None
    shares_cores: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What was said about money and time. `deadline_s` is for all epochs together and needs the samples of one."""

    price_per_gpu_hour: float | None
    samples_per_epoch: int | None
    epochs: int
    deadline_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochCost:
    """One epoch on N ranks. `cost` is the price of N GPUs for that time, GPU-hours without a price.

    `cost_per_added_rank` is against the next smaller world size known, for each rank more. One rank was measured: no interval.
    """

    world_size: int
    epoch_s: float
    epoch_interval_s: Interval | None
    cost: float
    cost_interval: Interval | None
    cost_per_added_rank: float | None
    extrapolated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What epochs cost.

    `cheapest` is the world size with the lowest cost of those whose `epochs` end by the deadline as predicted,
    `surely_cheapest` of those that do even at the high end of their interval; None where none does.
    """

    price_per_gpu_hour: float | None
    samples_per_epoch: int
    samples_assumed: bool
    epochs: int
    deadline_s: float | None
    rows: tuple[EpochCost, ...]
    cheapest: int | None
    surely_cheapest: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The document of `commprof advise --json`. `costs` is None where nothing was asked about money.

    `strategies` compares ways to share the training out, where a sharded run is among those given.
    """

    created_at: str
    profile_run_id: str
    run_ids: tuple[str, ...]
    scaling: Literal["weak", "strong"]
    single_step_s: float
    ranks: tuple[RankAdvice, ...]
    costs: Costs | None
    strategies: tuple[Choice, ...] = ()
