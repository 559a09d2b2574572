"""Every type that goes to disk. SI base units; the unit is the field's suffix; derived values are properties.

Files are JSON: one document (`run.json`, `gradients.json`) or one record a line (`*.jsonl`). Readers ignore fields they
do not know, so a new field with a default keeps old files and old readers alive; anything else raises SCHEMA_VERSION.

History of the schema
1  first version
"""

from dataclasses import dataclass
from statistics import median
from typing import Literal

SCHEMA_VERSION = 1

ELEMENT_BYTES = {"float32": 4}

RunKind = Literal["bench", "train", "study"]
RunStatus = Literal["running", "completed", "failed", "interrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankInfo:
    """Where one rank ran."""

    rank: int
    local_rank: int
    hostname: str
    device_name: str
    pci_bus_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftwareInfo:
    """The versions that decide how fast a collective is; None where the machine has none."""

    python: str
    torch: str | None = None
    cuda: str | None = None
    nccl: str | None = None
    driver: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What a training run computed: enough to tell whether two runs may be compared.

    `samples_per_rank` is fixed over world sizes (weak scaling). A bucket closes when its size reaches its cap;
    the first bucket has a cap of its own. `synchronised` is False for a compute-only run (every step in `no_sync`).
    """

    experiment: str
    num_parameters: int
    gradient_bytes: int
    samples_per_rank: int
    sequence_length: int
    first_bucket_bytes: int
    bucket_cap_bytes: int
    synchronised: bool
    scaling: Literal["weak"] = "weak"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """The identity card of a run folder (run.json)."""

    schema_version: int
    run_id: str
    kind: RunKind
    status: RunStatus
    started_at: str
    command: tuple[str, ...]
    backend: str
    world_size: int
    num_nodes: int
    launcher: str
    cores_per_node: int
    threads_per_rank: int
    ranks: tuple[RankInfo, ...]
    software: SoftwareInfo
    environ: dict[str, str]
    ended_at: str | None = None
    git_commit: str | None = None
    failure: str | None = None
    workload: Workload | None = None

    @property
    def ranks_per_node(self) -> int:
        return -(-self.world_size // self.num_nodes)

    @property
    def oversubscribed(self) -> bool:
        """Whether CPU ranks ask for more threads than their host has cores, so that they slow each other."""
        return self.on_cpu and self.ranks_per_node * self.threads_per_rank > self.cores_per_node

    @property
    def on_cpu(self) -> bool:
        return self.backend != "nccl"


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveMeasurement:
    """One collective at one size. Sample i of both lists is iteration i: its slowest and its fastest rank.

    The fastest rank arrived last and waited for nobody, so its time is the wire's; the rest of the slowest rank's
    time is waiting. `cpu_s` is CPU time per iteration of one rank (mean over ranks): on hosts without GPUs the
    transfer itself needs a core that the computation would like to have.
    """

    op: str
    dtype: str
    message_bytes: int
    world_size: int
    mode: Literal["isolated"]
    in_place: bool
    warmup_iterations: int
    slowest_rank_s: tuple[float, ...]
    fastest_rank_s: tuple[float, ...]
    timer: str
    num_wrong: int | None = None
    cpu_s: float | None = None

    @property
    def num_elements(self) -> int:
        return self.message_bytes // ELEMENT_BYTES[self.dtype]

    @property
    def median_s(self) -> float:
        return median(self.slowest_rank_s)

    @property
    def algbw_bytes_per_s(self) -> float:
        return self.message_bytes / self.median_s

    @property
    def busbw_bytes_per_s(self) -> float:
        """All-reduce: algbw * 2(n-1)/n, comparable over world sizes (nccl-tests, doc/PERFORMANCE.md)."""
        return self.algbw_bytes_per_s * 2 * (self.world_size - 1) / self.world_size


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMeasurement:
    """One training step of one rank. Warm-up and profiled steps are kept, marked, and left out of every statistic."""

    step: int
    data_s: float
    forward_s: float
    backward_s: float
    optimizer_s: float
    step_s: float
    num_samples: int
    loss: float | None
    warmup: bool
    profiled: bool
    synchronised: bool

    @property
    def counts(self) -> bool:
        return not (self.warmup or self.profiled)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterTiming:
    """When one parameter's gradient was ready: seconds after backward began, median over steps."""

    name: str
    num_bytes: int
    ready_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketTiming:
    """One DDP bucket: seconds after backward began, medians over steps. Ready means its last gradient was."""

    index: int
    num_bytes: int
    ready_s: float
    launched_s: float
    done_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientTimeline:
    """The backward pass of one rank as DDP sees it; parameters in the order their gradients became ready."""

    rank: int
    num_steps: int
    backward_s: float
    parameters: tuple[ParameterTiming, ...]
    buckets: tuple[BucketTiming, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationMeasurement:
    """Accuracy on held-out data after a step, every sample counted once over all ranks."""

    step: int
    epoch: int
    loss: float
    accuracy: float
    num_samples: int
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A bootstrap interval; the level is 95 % wherever nothing else is said."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """What a collective costs at one world size: a line for people, the measured medians for prediction.

    `line_error` is the line's median relative error over the measured sizes; `verdict` says in words whether to trust it.
    `comm_cores` is the CPU cores one rank keeps busy during the largest transfers (0 where GPUs do the work).
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

    @property
    def half_bandwidth_bytes(self) -> float:
        """The size at which latency and transfer weigh the same."""
        return self.latency_s * self.bandwidth_bytes_per_s

    @property
    def busbw_bytes_per_s(self) -> float:
        return self.bandwidth_bytes_per_s * 2 * (self.world_size - 1) / self.world_size


Model = Literal["linear", "amdahl", "ring", "schedule"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One model's answer for one world size; `speedup` is in samples per second over one rank's (weak scaling)."""

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
    """Something to try: the seconds it is predicted to save per batch, and the speedup that leaves."""

    what: str
    setting: str
    world_size: int
    seconds_saved: float
    speedup: float


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
