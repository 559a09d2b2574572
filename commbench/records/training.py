"""What a training run writes: its steps, its backward pass as DDP sees it, its evaluations and its summary.

Types that go to disk, under the same rules and the same schema version as those of types.py.
"""

from dataclasses import dataclass
from typing import Final, Literal

from commprof.commbench.records.quantities import (
    BytesAboveZero,
    Count,
    CountAboveZero,
    NumBytes,
    Rank,
    Rate,
    RatioAboveZero,
    Samples,
    Share,
    Span,
    Time,
)

EXCHANGED_PASSES: Final = 4  # of a compute-only run's ranks, which then wait as long as they exchanged


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMeasurement:
    """One training step of one rank. Warm-up and profiled steps are kept, marked, and left out of every statistic.

    `backward_s` is the sum over a step's backward passes, as under gradient accumulation; `last_backward_s` is the pass in
    which the gradients went over the wire, `last_ready_s` when its last gradient was ready, from its begin; None where no pass
    was marked or the run is older than these fields.
    """

    step: Count
    data_s: Span
    forward_s: Span
    backward_s: Span
    optimizer_s: Span
    step_s: Time
    num_samples: CountAboveZero
    loss: float | None
    warmup: bool
    profiled: bool
    synchronised: bool
    last_backward_s: Span | None = None
    last_ready_s: Span | None = None

    @property
    def counts(self) -> bool:
        return not (self.warmup or self.profiled)

    @property
    def exchange_s(self) -> float:
        """The backward pass that gradients.json describes."""
        return self.backward_s if self.last_backward_s is None else self.last_backward_s


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterTiming:
    """When one parameter's gradient was ready: seconds after backward began, median over steps. `rows`: its first dimension,
    None where nobody told."""

    name: str
    num_bytes: BytesAboveZero
    ready_s: Span
    rows: CountAboveZero | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketTiming:
    """One DDP bucket: seconds after backward began, medians over steps. Ready means its last gradient was."""

    index: Count
    num_bytes: BytesAboveZero
    ready_s: Span
    launched_s: Span
    done_s: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientTimeline:
    """The backward pass of one rank as DDP sees it; parameters in the order their gradients became ready."""

    rank: Rank
    num_steps: CountAboveZero
    backward_s: Time
    parameters: tuple[ParameterTiming, ...]
    buckets: tuple[BucketTiming, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceProbe:
    """A fixed piece of work, done by one rank between two steps: how fast does the machine compute just now?

    `step` is the next one of the training; `work` says in words what each of the samples took.
    """

    step: Count
    work: str
    samples_s: Samples


def pace_file(rank: int) -> str:
    """Return the name of a rank's PaceProbes in the run's folder."""
    return f"pace.rank{rank:05d}.jsonl"


def gradients_file(rank: int) -> str:
    """Return the name of a rank's GradientTimeline in the run's folder; rank 0's is older than the others'."""
    return "gradients.json" if rank == 0 else f"gradients.rank{rank:05d}.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationMeasurement:
    """Accuracy on held-out data after a step, every sample counted once over all ranks."""

    step: Count
    epoch: Count
    loss: float
    accuracy: Share
    num_samples: CountAboveZero
    elapsed_s: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSummary:
    """What a training came to (training.json), over its steps that count: `step_s` is rank 0's median.

    `samples_per_step` are all ranks'. Tokens include padding, which is computed too. `peak_flops_per_s` is the sum of all
    ranks' devices, None where one of them is not known. `peak_memory_bytes` by rank: what torch had allocated of a GPU, or a
    process' resident size.
    """

    num_steps: CountAboveZero
    step_s: Time
    samples_per_step: CountAboveZero
    tokens_per_sample: CountAboveZero
    flops_per_token: Rate
    peak_flops_per_s: RatioAboveZero | None
    peak_memory_bytes: tuple[NumBytes, ...]
    memory_kind: Literal["allocated", "resident"]

    @property
    def samples_per_s(self) -> float:
        return self.samples_per_step / self.step_s

    @property
    def tokens_per_s(self) -> float:
        return self.samples_per_s * self.tokens_per_sample

    @property
    def model_flop_utilisation(self) -> float | None:
        """The share of the devices' peak that the model's own arithmetic takes."""
        return None if self.peak_flops_per_s is None else self.tokens_per_s * self.flops_per_token / self.peak_flops_per_s
