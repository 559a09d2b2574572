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
