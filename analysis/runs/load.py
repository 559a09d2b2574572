"""Run folders -> runs in memory, and the refusal to mix what cannot be mixed.

A run still in progress, failed or interrupted loads with what it has measured so far.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TypeVar

from commprof.analysis.runs.agreement import check_gradients, check_pairs, check_steps, check_world_size, step_files
from commprof.analysis.runs.ddp_settings import told_settings
from commprof.analysis.runs.interval import Interval
from commprof.commbench.errors import BadInput, UnusableData
from commprof.commbench.records.contention import ContentionMeasurement
from commprof.commbench.records.links import LinkMeasurement, PairMeasurement
from commprof.commbench.records.rundir import RUN_FILE, read_document, read_info, read_records
from commprof.commbench.records.sharding import UNITS_FILE, ShardingTimeline
from commprof.commbench.records.training import GradientTimeline, PaceProbe, StepMeasurement, gradients_file, pace_file
from commprof.commbench.records.types import CollectiveMeasurement, RunInfo, Workload
from commprof.commbench.spread import median_interval

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run folder. `steps[rank]` are all its steps, the marked ones included.

    `gradients` are rank 0's, or those of the one rank that traces tell of; `gradients_of[rank]` all that were recorded.
    `pace[rank]` are the probes of the machine's pace. `units` are those of fully_shard or FullyShardedDataParallel; `engine` is
    what a DeepSpeed engine shards, whose schedule is another.
    """

    path: Path
    info: RunInfo
    collectives: tuple[CollectiveMeasurement, ...]
    steps: dict[int, tuple[StepMeasurement, ...]]
    gradients: GradientTimeline | None
    contention: tuple[ContentionMeasurement, ...] = ()
    links: tuple[LinkMeasurement, ...] = ()
    pairs: tuple[PairMeasurement, ...] = ()
    gradients_of: dict[int, GradientTimeline] = field(default_factory=dict)
    pace: dict[int, tuple[PaceProbe, ...]] = field(default_factory=dict)
    units: ShardingTimeline | None = None
    engine: ShardingTimeline | None = None
    _counted: tuple[StepMeasurement, ...] = field(init=False, repr=False, compare=False)
    _median_step_s: float | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Look for the steps that count once: a report asks for them, and for their median, hundreds of times."""
        counted = tuple(step for steps in self.steps.values() for step in steps if step.counts)
        object.__setattr__(self, "_counted", counted)
        object.__setattr__(self, "_median_step_s", median(step.step_s for step in counted) if counted else None)

    @property
    def world_size(self) -> int:
        return self.info.world_size

    @property
    def num_nodes(self) -> int | None:
        """How many nodes the run was on; None where an imported log neither lists all its ranks nor says so otherwise."""
        known = self.info.nodes_from is not None or len(self.info.ranks) == self.world_size
        return self.info.num_nodes if known else None

    @property
    def synchronised(self) -> bool:
        """Whether this is a training run as users run it, not a compute-only one."""
        return self.info.workload is not None and self.info.workload.synchronised

    @property
    def sends(self) -> bool:
        """Whether the wire matters to what was measured: not to one rank, and not to a compute-only run."""
        return self.world_size > 1 and (self.info.workload is None or self.info.workload.synchronised)

    @property
    def delayed(self) -> bool:
        """Whether a training run sent its gradients only after backward."""
        return self.info.workload is not None and self.info.workload.synchronisation == "delayed"

    @property
    def traced(self) -> bool:
        """Whether the profiler's traces, or what ranks reduced them to, lie in the run's folder."""
        return any((self.path / "traces").glob("[!.]*.json*")) or any((self.path / "reduced").glob("[!.]*.reduced.gz"))

    @property
    def all_reduces(self) -> tuple[CollectiveMeasurement, ...]:
        """What prices DDP's buckets: float32 all-reduces, summed or averaged, each timed alone."""
        return tuple(m for m in self.collectives if self.prices_buckets(m))

    def prices_buckets(self, measurement: CollectiveMeasurement) -> bool:
        """Say whether a measurement of this run is among those; an imported log has no choice of modes: nccl-tests knows
        pipelined calls only.
        """
        m, modes = measurement, ("isolated",) if self.info.imported_from is None else ("isolated", "pipelined")
        return (m.op, m.dtype) == ("all_reduce", "float32") and m.mode in modes and m.reduction in ("sum", "avg")

    @property
    def has_counted_steps(self) -> bool:
        return bool(self._counted)

    def counted_steps(self) -> list[StepMeasurement]:
        """Return the steps of all ranks that are neither warm-up nor profiled; raise UnusableData without any."""
        self._check_counted()
        return list(self._counted)

    def median_step_s(self) -> float:
        self._check_counted()
        assert self._median_step_s is not None
        return self._median_step_s

    def _check_counted(self) -> None:
        if not self._counted:
            raise UnusableData(f"{self.path} has no step beyond warm-up and profiling; run it longer")

    def step_interval_s(self) -> Interval:
        """Return the 95 % interval of the median step: the widest of the ranks', whose steps are not independent."""
        by_rank = [[step.step_s for step in steps if step.counts] for steps in self.steps.values()]
        ends = [median_interval(steps_s) for steps_s in by_rank if steps_s]
        return Interval(low=min(low for low, _ in ends), high=max(high for _, high in ends))


def load_run(path: Path) -> Run:
    """Read a run folder; raise BadInput where it is not one, a file in it is malformed, or two of them disagree."""
    info = read_info(path)
    collectives = tuple(_records(path / "collectives.jsonl", CollectiveMeasurement))
    check_world_size(path / "collectives.jsonl", info, collectives)
    contention = tuple(_records(path / "contention.jsonl", ContentionMeasurement))
    check_world_size(path / "contention.jsonl", info, contention)
    pairs = tuple(_records(path / "pairs.jsonl", PairMeasurement))
    check_pairs(path / "pairs.jsonl", info, pairs)
    steps = {rank: tuple(read_records(file, StepMeasurement)) for rank, file in step_files(path, info).items()}
    check_steps(path, info, steps)
    gradients = _gradients(path / "gradients.json")
    check_gradients(path / "gradients.json", steps, gradients)
    gradients_of = {rank: own for rank in steps if (own := _gradients(path / gradients_file(rank))) is not None}
    for rank, own in gradients_of.items():
        check_gradients(path / gradients_file(rank), steps, own)
    sharding = _sharding(path / UNITS_FILE, info)
    by_engine = sharding is not None and sharding.zero is not None
    return Run(
        path=path,
        info=info,
        collectives=collectives,
        steps=steps,
        gradients=gradients,
        contention=contention,
        links=tuple(_records(path / "links.jsonl", LinkMeasurement)),
        pairs=pairs,
        gradients_of=gradients_of,
        pace={rank: tuple(probes) for rank in steps if (probes := _records(path / pace_file(rank), PaceProbe))},
        units=None if by_engine else sharding,
        engine=sharding if by_engine else None,
    )


def load_runs(paths: Sequence[Path]) -> list[Run]:
    """Read run folders; a study's folder stands for the runs inside it. Each run is loaded once, in the order given.

    What a run on one rank had to assume of DDP is taken from those on several, where they tell it.
    """
    return _with_told_settings([load_run(folder) for folder in _folders(paths)])


def _with_told_settings(runs: Sequence[Run]) -> list[Run]:
    workloads = [run.info.workload for run in runs if run.info.workload is not None]
    return [_told(run, workloads) for run in runs]


def _told(run: Run, workloads: Sequence[Workload]) -> Run:
    work = run.info.workload
    return run if work is None else replace(run, info=replace(run.info, workload=told_settings(work, workloads)))


def load_cards(paths: Sequence[Path]) -> list[Run]:
    """Read what runs there are, from their run.json alone: nothing that they have measured is in them."""
    runs = [Run(path=path, info=read_info(path), collectives=(), steps={}, gradients=None) for path in _folders(paths)]
    return _with_told_settings(runs)


def _folders(paths: Sequence[Path]) -> list[Path]:
    folders: dict[Path, None] = {}
    for path in paths:
        if read_info(path).kind == "study":
            folders.update(dict.fromkeys(sorted(child.parent.resolve() for child in path.glob(f"*/{RUN_FILE}"))))
        else:
            folders[path.resolve()] = None
    return list(folders)


def check_combinable(runs: Sequence[Run]) -> None:
    """Raise BadInput unless the runs share one backend and one wire, and the training runs one model, batch and buckets."""
    if not runs:
        raise BadInput("no run given; name run folders below runs/")
    distributed = sorted((run for run in runs if run.world_size > 1), key=lambda run: not run.sends)
    _check_backends([*distributed, *(run for run in runs if run.world_size == 1 and run.info.kind == "train")])
    for run in distributed[1:]:
        if run.sends and run.info.wire != distributed[0].info.wire:
            raise BadInput(
                f"{run.path} ran on the wire {run.info.wire or 'of the machine'}, {distributed[0].path} on "
                f"{distributed[0].info.wire or 'that of the machine'}; runs on different wires cannot be combined"
            )
    training = [run for run in runs if run.info.workload is not None]
    for run in training[1:]:
        difference = _different_workload(training[0].info.workload, run.info.workload) or _different_batch(training[0], run)
        if difference:
            raise BadInput(f"{training[0].path} and {run.path} differ in {difference}; compare runs of one workload")
    sending = [run for run in training if run.sends]
    for run in sending[1:]:
        if run.delayed != sending[0].delayed:
            raise BadInput(f"only one of {run.path} and {sending[0].path} sent its gradients after backward; leave one out")


def in_order(runs: Iterable[Run]) -> list[Run]:
    """Return the runs as they were started, whatever the order in which they were named."""
    return sorted(runs, key=lambda run: (run.info.started_at, run.info.run_id, str(run.path)))


def _check_backends(runs: Sequence[Run]) -> None:
    """Raise BadInput where runs are of different backends: no step has a CPU's computation and the wire of GPUs."""
    for run in runs[1:]:
        if run.info.backend != runs[0].info.backend:
            mixed = run.info.on_cpu != runs[0].info.on_cpu
            why = ", and no machine computes on CPUs and sends between GPUs" if mixed else ""
            mend = ": profile and bench on one kind of machine" if mixed else ""
            raise BadInput(
                f"{run.path} ran on {run.info.backend}, {runs[0].path} on {runs[0].info.backend}{why}; "
                f"runs of different backends cannot be combined{mend}"
            )


def check_one_origin(benches: Sequence[Run]) -> None:
    """Raise BadInput where benches of one world size come from different logs, or from a log and from here.

    Nothing says that they saw the same wire, and their times would be pooled.
    """
    first: dict[int, Run] = {}
    for run in benches:
        other = first.setdefault(run.world_size, run)
        if run.info.imported_from != other.info.imported_from:
            origins = [f"{one.path} ({one.info.imported_from or 'measured here'})" for one in (other, run)]
            raise BadInput(f"{' and '.join(origins)} are both of {run.world_size} ranks but not of one wire; name one of them")


def select(runs: Sequence[Run], *, kind: str, world_size: int | None = None, synchronised: bool | None = None) -> list[Run]:
    """Return the runs of a kind, world size and synchronisation that have measured something, the earliest first.

    So no answer depends on the order in which runs were named.
    """
    return [
        run
        for run in in_order(runs)
        if run.info.kind == kind
        and world_size in (None, run.world_size)
        and synchronised in (None, run.synchronised)
        and (run.collectives or run.contention or run.links or run.pairs or run.has_counted_steps)
    ]


def _different_workload(left: Workload | None, right: Workload | None) -> str | None:
    fields = ("experiment", "num_parameters", "scaling", "sequence_length", "first_bucket_bytes", "bucket_cap_bytes")
    for name in (*fields, "precision", "accumulation", "communication_hook"):
        ours, theirs = getattr(left, name), getattr(right, name)
        if ours != theirs:
            return f"{name} ({ours} and {theirs})"
    return None


def _different_batch(left: Run, right: Run) -> str | None:
    """Compare what the kind of scaling keeps the same: the batch per rank, or the batch in all."""
    sizes = [run.info.workload.samples_per_rank for run in (left, right) if run.info.workload is not None]
    if left.info.workload is not None and left.info.workload.scaling == "strong":
        totals = [size * run.world_size for size, run in zip(sizes, (left, right), strict=True)]
        return None if totals[0] == totals[1] else f"the batch in all ({totals[0]} and {totals[1]})"
    return None if sizes[0] == sizes[1] else f"samples_per_rank ({sizes[0]} and {sizes[1]})"


def _records(path: Path, record_type: type[T]) -> list[T]:
    return list(read_records(path, record_type)) if path.exists() else []


def _gradients(path: Path) -> GradientTimeline | None:
    return read_document(path, GradientTimeline) if path.exists() else None


def _sharding(path: Path, info: RunInfo) -> ShardingTimeline | None:
    if not path.exists():
        return None
    found = read_document(path, ShardingTimeline)
    if found.num_shards * found.num_replicas > info.world_size:
        raise BadInput(
            f"{path}: `num_shards` times `num_replicas` is more than the {info.world_size} ranks of run.json; "
            "restore it or run again"
        )
    return found
