"""Traces of a DDP run's ranks -> a training run that `predict` takes for its profile.

Its steps are the traced ones without the communication that nothing hid (profile.py): those of ranks that send nothing,
as in a compute-only run. Its gradients are DDP's buckets, whole, since a trace does not tell what is in them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from commprof.analysis.imports.profile import ComputedStep, RankProfile, read_profile
from commprof.analysis.imports.refused import beside_buckets, check_beside, check_groups, check_profile
from commprof.analysis.traces.all_ranks.doctor import assign_ranks, examine
from commprof.analysis.traces.all_ranks.matched.matching import Matching
from commprof.analysis.traces.one_rank.files import each_trace, name_without_rank
from commprof.analysis.traces.one_rank.rank_trace import RankTrace
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.quantities import MAX_RANKS, MIN_TIME_S
from commprof.commbench.records.rundir import RecordWriter, create_run, finish_run, now_utc, write_document
from commprof.commbench.records.training import GradientTimeline, ParameterTiming, StepMeasurement
from commprof.commbench.records.types import SCHEMA_VERSION, WHOLE_BUCKETS_CAP_BYTES, RankInfo, RunInfo, SoftwareInfo, Workload
from commprof.commbench.units import printable

_MAX_WORD = 128
_GRADIENT_BYTES = 4  # Workload: gradients are float32, whatever they are sent as
_SENT_AS = {"float": (4, "none"), "float32": (4, "none"), "half": (2, "fp16"), "float16": (2, "fp16"), "bfloat16": (2, "bf16")}


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedJob:
    """What the traces of one job say: by rank, the steps that all of them have and whose buckets are alike, in one order.

    `element_bytes` and `hook`: what a gradient is sent as. `findings`: what limits what the traces can tell.
    """

    files: tuple[str, ...]
    world_size: int
    traces: Mapping[int, RankTrace]
    steps: Mapping[int, tuple[ComputedStep, ...]]
    num_left_out: int
    sent_bytes: tuple[int, ...]
    element_bytes: int
    hook: str
    findings: tuple[str, ...]

    @property
    def all_steps(self) -> tuple[ComputedStep, ...]:
        return tuple(step for own in self.steps.values() for step in own)

    @property
    def name(self) -> str:
        """The experiment, and where it comes from in short."""
        return _word(name_without_rank(Path(self.files[0])))

    @property
    def origin(self) -> str:
        more = f" and {len(self.files) - 1} more" if len(self.files) > 1 else ""
        return _word(Path(self.files[0]).name) + more

    @property
    def num_parameters(self) -> int:
        return sum(self.sent_bytes) // self.element_bytes

    @property
    def complete(self) -> bool:
        return len(self.traces) == self.world_size


def read_traced_job(paths: Sequence[Path], world_size: int | None) -> TracedJob:
    """Read the traces of one job; `world_size` is what the user says, None where nothing was said.

    Raises BadInput for what is no trace, UnusableData where a run cannot be made of it, RunFailed for a lost process.
    """
    return understand_traces(each_trace(read_profile, paths, paths), world_size)


def understand_traces(profiles: Sequence[RankProfile], world_size: int | None) -> TracedJob:
    """Conclude what the ranks of one job computed; raises UnusableData with what is missing."""
    for profile in profiles:
        check_profile(profile)
    traces, findings = assign_ranks([profile.trace for profile in profiles])
    twice = next((finding.message for finding in findings if finding.name == "duplicate"), None)
    if twice is not None:
        raise UnusableData(f"{twice}; name one trace a rank, of one run and one window of its profiler")
    of_trace = {id(profile.trace): profile.steps for profile in profiles}
    found = {rank: of_trace[id(trace)] for rank, trace in traces.items()}
    if len({trace.on_gpu for trace in traces.values()}) > 1:
        raise UnusableData("some of the traces have GPU work and others none; they are not of one job")
    num_ranks = _world_size(traces, world_size)
    check_groups(traces, num_ranks)
    steps, sent_bytes = _common_steps(found)
    check_beside(traces, steps, sum(sent_bytes))
    element_bytes, hook = _sent_as(steps)
    findings += examine(traces, num_ranks, Matching(matched=(), unmatched=()), {})
    return TracedJob(
        files=tuple(trace.path for trace in traces.values()),
        world_size=num_ranks,
        traces=traces,
        steps=steps,
        num_left_out=sum(map(len, found.values())) - sum(map(len, steps.values())),
        sent_bytes=sent_bytes,
        element_bytes=element_bytes,
        hook=hook,
        findings=tuple(finding.message for finding in findings),
    )


def _world_size(traces: Mapping[int, RankTrace], asked: int | None) -> int:
    named = {trace.header.world_size for trace in traces.values()} - {None}
    if len(named) > 1:
        raise UnusableData(f"the traces are of jobs of {' and '.join(sorted(map(str, named)))} ranks; name those of one job")
    found = next(iter(named), asked)
    if found is None:
        raise UnusableData("no trace names the number of ranks; say --world-size N")
    if asked not in (None, found):
        raise UnusableData(f"--world-size {asked}, but the traces are of a job of {found} ranks")
    if not max(traces) < found <= MAX_RANKS:
        raise UnusableData(f"rank {max(traces)} is not one of {found} ranks, of which there may be {MAX_RANKS}")
    return found


def _common_steps(
    found: Mapping[int, Sequence[ComputedStep]],
) -> tuple[dict[int, tuple[ComputedStep, ...]], tuple[int, ...]]:
    """Return the steps that have the buckets of most steps, on every rank, and these buckets' bytes as they are sent.

    DDP lays its buckets out anew after its first step; of two layouts as frequent the later one counts.
    """
    layouts = Counter(step.bucket_bytes for own in found.values() for step in reversed(own))
    layout = layouts.most_common(1)[0][0]
    sizes = tuple(size for size in layout if size is not None)
    if len(sizes) < len(layout):
        raise UnusableData("the traces do not tell the sizes of DDP's buckets; trace with record_shapes=True, or a newer torch")
    alike = {rank: {step.number: step for step in own if step.bucket_bytes == layout} for rank, own in found.items()}
    numbers = sorted(set.intersection(*(set(own) for own in alike.values())))
    if not numbers:
        raise UnusableData("the traces have no step with the same buckets in common; trace the same steps on every rank")
    return {rank: tuple(own[number] for number in numbers) for rank, own in alike.items()}, sizes


def _sent_as(steps: Mapping[int, Sequence[ComputedStep]]) -> tuple[int, str]:
    """Return how many bytes a gradient has on the wire, and the hook that would send float32 ones like this."""
    names = {kind for own in steps.values() for step in own for kind in step.dtypes}
    known = {_SENT_AS.get((kind or "").lower().removeprefix("c10::")) for kind in names}
    if len(known) > 1 or (sent := known.pop()) is None:
        kinds = _word(", ".join(sorted(map(str, names))))
        raise UnusableData(f"its buckets are of {kinds}; those of float32, float16 or bfloat16 are understood")
    return sent


def timeline(job: TracedJob) -> GradientTimeline:
    """Return DDP's buckets as parameters, medians over all ranks' steps. Raises UnusableData for a backward pass of no time."""
    times = zip(*(step.ready_s for step in job.all_steps), strict=True)
    ready_s = [median(own) for own in times]
    if ready_s[-1] <= 0:
        raise UnusableData("its backward passes take no time but for communication")
    return GradientTimeline(
        rank=min(job.steps),
        num_steps=len(job.all_steps),
        backward_s=ready_s[-1],
        parameters=tuple(
            ParameterTiming(name=f"bucket {index}", num_bytes=sent // job.element_bytes * _GRADIENT_BYTES, ready_s=at_s)
            for index, (sent, at_s) in enumerate(zip(job.sent_bytes, ready_s, strict=True))
        ),
        buckets=(),
    )


def write_traced_job(path: Path, job: TracedJob) -> None:
    """Write the run folder; raises BadInput where it exists or cannot be, UnusableData as `timeline` does."""
    gradients = timeline(job)
    if min(step.step_s for step in job.all_steps) < MIN_TIME_S:
        raise UnusableData("a step of the traces is all exposed communication; there is no computation to predict from")
    create_run(path, run_info(job, path.name))
    for rank, steps in job.steps.items():
        with RecordWriter(path / f"steps.rank{rank:05d}.jsonl") as writer:
            for step in steps:
                writer.append(_measurement(step))
    write_document(path / "gradients.json", gradients)
    finish_run(path, "completed")


def run_info(job: TracedJob, run_id: str) -> RunInfo:
    """Return the identity card of the run that the traces become."""
    hosts = {trace.header.host_name for trace in job.traces.values()}
    return RunInfo(
        schema_version=SCHEMA_VERSION,
        run_id=run_id,
        kind="train",
        status="running",
        started_at=now_utc(),
        command=("commprof", "import", job.origin),
        backend="nccl" if next(iter(job.traces.values())).on_gpu else "gloo",
        world_size=job.world_size,
        num_nodes=len(hosts) if job.complete else 1,
        launcher="import",
        cores_per_node=1,
        threads_per_rank=1,
        ranks=tuple(
            RankInfo(rank=rank, local_rank=rank, hostname=_word(trace.header.host_name or "unknown"), device_name="unknown")
            for rank, trace in job.traces.items()
        ),
        software=SoftwareInfo(python="unknown"),
        environ={},
        workload=_workload(job),
        imported_from=job.origin,
    )


def _workload(job: TracedJob) -> Workload:
    return Workload(
        experiment=job.name,
        num_parameters=job.num_parameters,
        gradient_bytes=job.num_parameters * _GRADIENT_BYTES,
        samples_per_rank=1,
        sequence_length=None,
        first_bucket_bytes=WHOLE_BUCKETS_CAP_BYTES,
        bucket_cap_bytes=WHOLE_BUCKETS_CAP_BYTES,
        synchronised=False,
        precision="unknown",
        communication_hook=job.hook,
        synchronisation="compute_only",
        starts_together=job.complete and job.world_size > 1,
    )


def _measurement(step: ComputedStep) -> StepMeasurement:
    return StepMeasurement(
        step=step.number,
        data_s=0.0,
        forward_s=step.before_s,
        backward_s=step.backward_s,
        optimizer_s=step.after_s,
        step_s=step.step_s,
        num_samples=1,
        loss=None,
        warmup=False,
        profiled=False,  # all of them were: else none would count
        synchronised=False,
    )


def notes_of(job: TracedJob) -> Iterator[str]:
    """Yield what a reader of the run has to know."""
    yield "every step was under the profiler, which slows it, and so is what is predicted from it"
    if job.world_size > 1:
        yield f"computing and sending slowed each other on the {job.world_size} ranks traced; that is in the computation"
    yield "a trace does not tell the batch: one sample stands for what a rank takes in a step"
    yield "its gradients are whole buckets: what other bucket caps would do cannot be predicted from it"
    if not all(step.marked for step in job.all_steps):
        yield "when a bucket was ready is taken from its launch"
    if job.hook != "none":
        yield f"gradients are sent in {job.element_bytes} bytes, as by DDP's hook {job.hook} from float32"
    if others := _others(job):
        yield f"{', '.join(others)} outside DDP's buckets: what of it was exposed is taken out and not predicted"
    if job.num_left_out:
        yield f"steps left out: {job.num_left_out}, with other buckets than most, or not on every rank"
    yield from job.findings


def _others(job: TracedJob) -> list[str]:
    """Return the operations that ranks ran beside their buckets."""
    numbers = {step.number for step in job.all_steps}
    return sorted({one.op for trace in job.traces.values() for one in beside_buckets(trace, numbers)})


def _word(text: str) -> str:
    return printable(text)[:_MAX_WORD]
