"""What is concluded of a step and kept in `<run>/analysis/`: predictions, schedules, what to change, verification.

As in commbench's records: SI base units, the unit is the field's suffix. Everything here can be computed again from raw files.
"""

from dataclasses import dataclass
from typing import Literal

from commprof.analysis.runs.interval import Interval
from commprof.commbench.records.quantities import Difference, NumBytes, Ranks, RatioAboveZero, Span, Time

Model = Literal["linear", "amdahl", "ring", "schedule"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One model's answer for one world size; `speedup` is in samples per second over one rank's (weak scaling).

    Its interval, and that of the efficiency, is the step's turned round: speedup * step_s / interval_s.
    `ratio_compute_to_comm` is R = W / T_comm, as in BreakEven. `too_disturbed` says why an interval would be too wide to tell
    anything; there is none then. `shares_cores`: its ranks would take turns on too few cores.
    """

    model: Model
    formula: str
    world_size: Ranks
    step_s: Time
    interval_s: Interval | None
    exposed_s: Difference
    speedup: RatioAboveZero
    efficiency: RatioAboveZero
    ratio_compute_to_comm: RatioAboveZero
    extrapolated: bool
    assumptions: tuple[str, ...]
    exposed_interval_s: Interval | None = None
    too_disturbed: str | None = None
    shares_cores: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """Why a step at N takes longer than at one rank: parts in seconds whose sum with `single_step_s` is the step.

    `compute_s`: the computation itself is slower at N. `waiting_s`: the slowest rank's lateness. `copies_s`: of gradients into
    and out of buckets, where that was measured. `exposed_s`: communication that nothing hides, contention for cores included.
    Of each part its 90 % interval; None in files of earlier versions.
    """

    world_size: Ranks
    single_step_s: Time
    compute_s: Difference
    waiting_s: Difference
    exposed_s: Difference
    copies_s: Difference = 0.0
    compute_interval_s: Interval | None = None
    waiting_interval_s: Interval | None = None
    copies_interval_s: Interval | None = None
    exposed_interval_s: Interval | None = None

    @property
    def step_s(self) -> float:
        return self.single_step_s + self.compute_s + self.waiting_s + self.copies_s + self.exposed_s


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledBucket:
    """One bucket in the simulated step: bytes, and seconds after the step began."""

    num_bytes: NumBytes
    ready_s: Span
    start_s: Span
    done_s: Span
    last_parameter: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledStep:
    """The simulated median step at one world size. Seconds after the step began."""

    world_size: Ranks
    backward_start_s: Span
    compute_end_s: Span
    step_s: Time
    buckets: tuple[ScheduledBucket, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something to try: the seconds it is predicted to save per batch, with a 90 % interval, and the speedup that leaves,
    over one rank with the same change.

    `side_effect`: what it changes besides the time, in a few words. `alters_learning`: the updates are others, so that what is
    learnt and after how many samples may be another. `too_disturbed`: the step has no interval, nor has what is saved of it.
    """

    what: str
    setting: str
    world_size: Ranks
    seconds_saved: Difference
    speedup: RatioAboveZero
    interval_s: Interval | None = None
    side_effect: str | None = None
    alters_learning: bool = False
    too_disturbed: bool = False

    @property
    def within_noise(self) -> bool:
        """Whether what two runs would show cannot be told from no saving; without an interval nothing says so."""
        return self.interval_s is not None and self.interval_s.low <= 0

    @property
    def doubt(self) -> str:
        """Why no saving can be told, in two words; "" where one can."""
        return "too disturbed" if self.too_disturbed else "within noise" if self.within_noise else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """Whether N ranks pay, from three times, seconds per step of N ranks, nothing hidden.

    `work_s` W: one rank alone for the same samples (N T_1 at a fixed batch per rank, T_1 at a fixed batch in all).
    `compute_s`: N ranks side by side with nothing sent. `comm_s`: all buckets sent one by one.

        S = W / (compute + comm) = 1 / (compute/W + 1/R),  R = W/comm;  S > 1 needs R > 1 / (1 - compute/W)

    which is N/(N-1) where N ranks compute undisturbed.
    """

    world_size: Ranks
    work_s: Time
    compute_s: Time
    comm_s: Time

    @property
    def ratio(self) -> float:
        return self.work_s / self.comm_s

    @property
    def ratio_needed(self) -> float:
        """Infinite where N ranks would be slower than one even with nothing to send."""
        return 1 / (1 - self.compute_s / self.work_s) if self.compute_s < self.work_s else float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionSet:
    """predictions.json: every model's prediction at every world size, from which runs, and when it was written."""

    created_at: str
    single_step_s: Time
    profile_run_id: str
    run_ids: tuple[str, ...]
    predictions: tuple[Prediction, ...]
    overheads: tuple[Overhead, ...]
    schedules: tuple[ScheduledStep, ...]
    changes: tuple[Change, ...]
    scaling: Literal["weak", "strong"] = "weak"
    break_evens: tuple[BreakEven, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedPrediction:
    """An entry of verification.json: one model's step beside the median step of the run that checked it.

    `relative_error` is (predicted - measured) / measured: below zero the model promised a shorter step.
    """

    world_size: int
    model: Model
    predicted_step_s: float
    measured_step_s: float
    relative_error: float
    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AssumptionCheck:
    """An entry of assumptions.json: a part of the step as predicted and as measured, and the assumption behind it.

    `error_s` is the whole step's, measured - predicted, the same in every entry of a world size; the order of the buckets has
    no seconds of its own.
    """

    world_size: int
    name: str
    assumption: str
    expected_s: float | None
    measured_s: float | None
    error_s: float
    holds: bool

    @property
    def explains_s(self) -> float:
        """The seconds of the error that this part makes."""
        return 0.0 if self.measured_s is None or self.expected_s is None else self.measured_s - self.expected_s
