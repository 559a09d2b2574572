"""What a bench writes to disk, and every run's card; a training's types are in training.py, links' and contention's in files
of their own, a host's in machine/facts.py.

SI base units; the unit is the field's suffix; derived values are properties. Files are JSON: one document (`run.json`,
`gradients.json`) or one record a line (`*.jsonl`). Readers ignore fields they do not know, so a new field with a default keeps
old files and old readers alive; anything else raises SCHEMA_VERSION.

History of the schema
1  first version; since then added, with defaults: reductions, pipelined calls, rotating buffers, cold call, second tries,
   strong scaling, the machines behind the nodes, the emulated wire, the last of a step's backward passes, the file that a run
   was imported from, who told its nodes and what NCCL says of its wire, a training's precision,
   accumulation, DDP options, summary, data set and kind, and what a recorder could not see
"""

from dataclasses import dataclass
from statistics import median
from typing import Annotated, Literal

from msgspec import Meta

from commprof.commbench.records.operations import DATA_TYPES, OPERATIONS
from commprof.commbench.records.quantities import (
    BytesAboveZero,
    Cores,
    Count,
    CountAboveZero,
    NumBytes,
    Rank,
    Ranks,
    RatioAboveZero,
    Samples,
    Span,
    Time,
    one_of,
    same_length,
)
from commprof.commbench.records.training_kind import TrainingKind

SCHEMA_VERSION = 1

WHOLE_BUCKETS_CAP_BYTES = 1  # the cap at which every gradient is a bucket of its own

RunKind = Literal["bench", "links", "contention", "train", "study"]
RunStatus = Literal["running", "completed", "failed", "interrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankInfo:
    """Where one rank ran."""

    rank: Rank
    local_rank: Rank
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

    Weak scaling keeps `samples_per_rank` over world sizes, strong scaling its product with the world size. A bucket closes
    when its size reaches its cap; the first bucket has a cap of its own. `synchronised` is False for a compute-only run
    (each rank in a group of its own, with `starts_together` where they waited for each other in each step, and `waited_s` in
    the exchange's stead, which is in no step's time);
    `synchronisation` also tells a delayed one, whose buckets are sent after backward.
    `samples_per_rank` are those of one optimizer step, taken in `accumulation` micro-batches of one size. Gradients are
    float32 in every precision; `communication_hook` says in what form they are sent. `buffer_bytes` of buffers, such as
    batch norm's, are broadcast before each step's forward pass. `dataset` names what was trained on, None where the run does
    not say. `kind` says how the ranks share the work (training_kind.py), None in older records: DDP, or one rank. `assumed`
    names the fields above that DDP decides and nobody told, on one rank where nothing is wrapped yet. `sent_share` is what a
    hook of the user's was seen to send of a bucket's bytes, None where that was not measured. `optimizer_bytes` is what rank
    0's optimizer keeps besides parameters and gradients, None where nobody looked or it trains a part of the model alone.
    `frozen_bytes` of parameters are not trained and have no gradients. `activation_bytes` is what a micro-batch's forward pass
    left for its backward, `peak_bytes` the most that was allocated in a step beyond parameters and `optimizer_bytes`; both of
    rank 0, None where nobody looked.
    """

    experiment: str
    num_parameters: CountAboveZero
    gradient_bytes: NumBytes
    samples_per_rank: CountAboveZero
    sequence_length: CountAboveZero | None
    first_bucket_bytes: BytesAboveZero
    bucket_cap_bytes: BytesAboveZero
    synchronised: bool
    scaling: Literal["weak", "strong"] = "weak"
    precision: str = "float32"
    accumulation: CountAboveZero = 1
    communication_hook: str = "none"
    synchronisation: str = "normal"
    gradient_as_bucket_view: bool = False
    static_graph: bool = False
    find_unused_parameters: bool = False
    starts_together: bool = False
    waited_s: Span | None = None
    buffer_bytes: NumBytes = 0
    dataset: str | None = None
    kind: TrainingKind | None = None
    assumed: tuple[str, ...] = ()
    sent_share: RatioAboveZero | None = None
    optimizer_bytes: NumBytes | None = None
    frozen_bytes: NumBytes = 0
    activation_bytes: NumBytes | None = None
    peak_bytes: NumBytes | None = None

    @property
    def whole_buckets(self) -> bool:
        """Whether the gradients known are DDP's buckets, as in a trace: other caps would lay out what nobody saw."""
        return self.bucket_cap_bytes == WHOLE_BUCKETS_CAP_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """The identity card of a run folder (run.json).

    `num_machines` counts kernels: the nodes of a testbed, or two node daemons started on one host, share one machine's cores.
    `wire` names the emulated wire ("1gbit"); None is the machine's own. `imported_from` names the log of another program, or
    the traces, that the run was made from: it was measured elsewhere and earlier, `ranks` are those that the log names, and
    cores and threads are unknown (1). `nodes_from` says who told of a log's nodes; it is None where nobody did, and `num_nodes`
    1. `transport` is what NCCL's own lines in the log say of a slow way that the bytes took. `unseen` says in words what a
    recorder could not see of a training.
    """

    schema_version: CountAboveZero
    run_id: str
    kind: RunKind
    status: RunStatus
    started_at: str
    command: tuple[str, ...]
    backend: str
    world_size: Ranks
    num_nodes: Ranks
    launcher: str
    cores_per_node: Cores
    threads_per_rank: Cores
    ranks: tuple[RankInfo, ...]
    software: SoftwareInfo
    environ: dict[str, str]
    ended_at: str | None = None
    git_commit: str | None = None
    failure: str | None = None
    workload: Workload | None = None
    num_machines: Ranks | None = None
    wire: str | None = None
    imported_from: str | None = None
    nodes_from: str | None = None
    transport: str | None = None
    unseen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError for more nodes than ranks, and for ranks that are not among the run's."""
        if max(self.num_nodes, self.num_machines or 1) > self.world_size:
            raise ValueError(f"`num_nodes` and `num_machines` are at most `world_size`, {self.world_size}")
        named = [own.rank for own in self.ranks]
        if len(set(named)) < len(named) or max(named, default=0) >= self.world_size:
            raise ValueError(f"`ranks` names each rank below `world_size`, {self.world_size}, once at most")

    @property
    def ranks_of_hosts(self) -> dict[str, tuple[int, ...]]:
        """The ranks that each host holds, by its name; hosts in the order of their first ranks."""
        found: dict[str, tuple[int, ...]] = {}
        for own in sorted(self.ranks, key=lambda own: own.rank):
            found[own.hostname] = (*found.get(own.hostname, ()), own.rank)
        return found

    @property
    def ranks_per_machine(self) -> int:
        return -(-self.world_size // (self.num_machines or self.num_nodes))

    @property
    def oversubscribed(self) -> bool:
        """Whether CPU ranks are known to ask for more threads than their machine has cores, so that they slow each other."""
        asked = self.ranks_per_machine * self.threads_per_rank
        return self.imported_from is None and self.on_cpu and asked > self.cores_per_node

    @property
    def on_cpu(self) -> bool:
        return self.backend in ("gloo", "mpi", "ucc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remeasured:
    """The second try of an iteration that was far out: which sample it repeats, and what it gave."""

    iteration: Count
    slowest_rank_s: Time
    fastest_rank_s: Time


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveMeasurement:
    """One collective at one size. Sample i of both lists is iteration i: its slowest and its fastest rank.

    Isolated: each call alone after a barrier. The fastest rank arrived last and waited for nobody; the rest of the slowest
    rank's time is waiting, and over several nodes what ranks end apart. Pipelined: `calls_per_sample` calls launched back to
    back and one wait; a sample is their time over their number.

    `message_bytes` is nccl-tests' size (operations.py). `hot`: one buffer, so that small messages come from the cache; else
    the calls go round `num_buffers` of them. `cold_s` is the first call of this size, slowest rank. `cpu_s` is CPU
    time per call of one rank (mean over ranks): on hosts without GPUs the transfer itself needs a core that the
    computation would like to have.
    """

    op: str
    dtype: str
    message_bytes: NumBytes
    world_size: Ranks
    mode: Literal["isolated", "pipelined"]
    in_place: bool
    warmup_iterations: Count
    slowest_rank_s: Samples
    fastest_rank_s: Samples
    timer: str
    num_wrong: Count | None = None
    cpu_s: Span | None = None
    reduction: str | None = "sum"
    root: Rank | None = None
    calls_per_sample: CountAboveZero = 1
    cuda_graph: bool = False
    hot: bool = True
    num_buffers: CountAboveZero = 1
    cold_s: Time | None = None
    remeasured: tuple[Remeasured, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError for a collective that there is none of, and samples of one rank alone."""
        one_of("op", self.op, OPERATIONS)
        one_of("dtype", self.dtype, DATA_TYPES)
        if (self.message_bytes == 0) != (self.op == "barrier"):
            raise ValueError(f"`message_bytes` is {self.message_bytes} of {self.op}; a barrier alone has none")
        same_length(slowest_rank_s=self.slowest_rank_s, fastest_rank_s=self.fastest_rank_s)
        if self.root is not None and self.root >= self.world_size:
            raise ValueError(f"`root` is {self.root}, of {self.world_size} ranks")

    @property
    def num_elements(self) -> int:
        """Elements of one rank's share, nccl-tests' count."""
        element_bytes = DATA_TYPES[self.dtype].num_bytes
        return OPERATIONS[self.op].elements_per_rank(self.message_bytes, element_bytes, self.world_size)

    @property
    def median_s(self) -> float:
        return median(self.slowest_rank_s)

    @property
    def algbw_bytes_per_s(self) -> float:
        return self.message_bytes / self.median_s

    @property
    def busbw_bytes_per_s(self) -> float:
        """algbw times the collective's factor (operations.py), comparable over world sizes and with a link's speed."""
        return self.algbw_bytes_per_s * OPERATIONS[self.op].bus_factor(self.world_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstMeasurement:
    """DDP's buckets launched one after the other without waiting, as its reducer does, then waited for.

    Sample i of all lists is iteration i. `done_s[i][b]` is when bucket b had landed on the slowest rank, in seconds after
    that rank's first launch. `source` says where the sizes come from.
    """

    op: str
    dtype: str
    world_size: Ranks
    bucket_bytes: Annotated[tuple[BytesAboveZero, ...], Meta(min_length=1)]
    source: str
    warmup_iterations: Count
    slowest_rank_s: Samples
    fastest_rank_s: Samples
    done_s: tuple[Annotated[tuple[Span, ...], Meta(min_length=1)], ...]
    timer: str
    num_wrong: Count | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a collective that there is none of, and samples that lack a rank or a bucket."""
        one_of("op", self.op, OPERATIONS)
        one_of("dtype", self.dtype, DATA_TYPES)
        same_length(slowest_rank_s=self.slowest_rank_s, fastest_rank_s=self.fastest_rank_s, done_s=self.done_s)
        for done_s in self.done_s:
            same_length(bucket_bytes=self.bucket_bytes, done_s=done_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeFailure:
    """A size that could not be measured, such as one that no memory was left for."""

    op: str
    message_bytes: NumBytes
    rank: Rank
    reason: str
