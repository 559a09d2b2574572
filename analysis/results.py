"""What analysis concludes and keeps in `<run>/analysis/`: fits, predictions, schedules, advice, verification.

As in commbench.records: SI base units, the unit is the field's suffix. Everything here can be computed again from raw files.
"""

from dataclasses import dataclass
from typing import Literal

from commbench.operations import OPERATIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A bootstrap interval: 90 % for predictions and advice, 95 % for fits."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A size that was disturbed: `factor` is its time over what stood beside it. The curve goes past it."""

    message_bytes: int
    factor: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """From `previous_bytes` to `message_bytes` the curve changes its course: another protocol or algorithm.

    `factor` is the time on the new course over the time on the old one, both continued to the same size.
    """

    previous_bytes: int
    message_bytes: int
    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """What a collective costs at one world size: a line for people, the measured medians for prediction.

    `line_error` is the line's median relative error over the measured sizes; `verdict` says in words whether to trust it.
    `curve_error` is the curve's own: each size from 1 to 256 MiB predicted from the others, mean absolute relative error, None
    where no size there has neighbours. `scatter` is how well a size is known: placements or repeats apart, relative.
    `comm_cores` is the CPU cores one rank keeps busy during the largest transfers (0 where GPUs do the work).
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
    num_nodes: int | None = None
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


Model = Literal["linear", "amdahl", "ring", "schedule"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One model's answer for one world size; `speedup` is in samples per second over one rank's (weak scaling).

    Its interval, and that of the efficiency, is the step's turned round: speedup * step_s / interval_s.
    `ratio_compute_to_comm` is R = W / T_comm, as in BreakEven.
    """

    model: Model
    formula: str
    world_size: int
    step_s: float
    interval_s: Interval | None
    exposed_s: float
    speedup: float
    efficiency: float
    ratio_compute_to_comm: float
    extrapolated: bool
    assumptions: tuple[str, ...]
    exposed_interval_s: Interval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """Why a step at N takes longer than at one rank: parts in seconds whose sum with `single_step_s` is the step.

    `compute_s`: the computation itself is slower at N. `waiting_s`: the slowest rank's lateness. `exposed_s`: communication
    that nothing hides, contention for cores included.
    """

    world_size: int
    single_step_s: float
    compute_s: float
    waiting_s: float
    exposed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledBucket:
    """One bucket in the simulated step: bytes, and seconds after the step began."""

    num_bytes: int
    ready_s: float
    start_s: float
    done_s: float
    last_parameter: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledStep:
    """The simulated median step at one world size. Seconds after the step began."""

    world_size: int
    backward_start_s: float
    compute_end_s: float
    step_s: float
    buckets: tuple[ScheduledBucket, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something to try: the seconds it is predicted to save per batch, with a 90 % interval, and the speedup that leaves.

    `side_effect`: what it changes besides the time, in a few words.
    """

    what: str
    setting: str
    world_size: int
    seconds_saved: float
    speedup: float
    interval_s: Interval | None = None
    side_effect: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """Whether N ranks pay, from three times, seconds per step of N ranks, nothing hidden.

    `work_s` W: one rank alone for the same samples (N T_1 at a fixed batch per rank, T_1 at a fixed batch in all).
    `compute_s`: N ranks side by side with nothing sent. `comm_s`: all buckets sent one by one.

        S = W / (compute + comm) = 1 / (compute/W + 1/R),  R = W/comm;  S > 1 needs R > 1 / (1 - compute/W)

    which is N/(N-1) where N ranks compute undisturbed.
    """

    world_size: int
    work_s: float
    compute_s: float
    comm_s: float

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
    single_step_s: float
    profile_run_id: str
    run_ids: tuple[str, ...]
    predictions: tuple[Prediction, ...]
    overheads: tuple[Overhead, ...]
    schedules: tuple[ScheduledStep, ...]
    changes: tuple[Change, ...]
    scaling: Literal["weak", "strong"] = "weak"
    break_evens: tuple[BreakEven, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WireRate:
    """A rate in bits per second: between the rates that were tried (`inside`), or beyond them; None where none is enough."""

    bits_per_s: float | None
    inside: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """An entry of boundaries.json: from which rate of the wire on N ranks are faster than one, as predicted.

    `by_ratio`: where R = W/T_comm reaches `ratio_needed`, nothing hidden. `by_schedule`: where the simulated step is below W.
    """

    experiment: str
    world_size: int
    work_s: float
    compute_s: float
    ratio_needed: float
    by_ratio: WireRate
    by_schedule: WireRate


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedPrediction:
    """An entry of verification.json: one model's step beside the median step of the run that checked it.

    `relative_error` is (predicted - measured) / measured: below zero the model promised a shorter step.
    """

    world_size: int
    model: Literal["linear", "amdahl", "ring", "schedule"]
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

    @property
    def explained_share(self) -> float:
        """The share of the error; infinite where there is none to share."""
        return self.explains_s / self.error_s if self.error_s else float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One answer of `commprof check`, SI base units.

    `ok`: False fails the run, None means that it could not be judged, and `message` says why. `note`: worth reading, fails
    nothing. `measured` against `limit` in `unit`; None where the evidence is not one number.
    """

    name: str
    ok: bool | None
    message: str
    measured: float | None = None
    limit: float | None = None
    unit: str | None = None
    note: bool = False

    @property
    def rank(self) -> int:
        """Order verdicts by what they ask of a reader: 0 failed, 1 noted, 2 not judged, 3 passed."""
        if self.ok is None:
            return 2
        return 0 if not self.ok else 1 if self.note else 3
