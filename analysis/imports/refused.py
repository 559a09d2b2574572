"""Which traces are no DDP run's that `predict` could take for a profile? Each is refused with what it is, or lacks."""

from collections.abc import Collection, Mapping, Sequence

from commprof.analysis.imports.profile import ComputedStep, RankProfile
from commprof.analysis.traces.one_rank.collectives import Collective
from commprof.analysis.traces.one_rank.rank_trace import RankTrace
from commprof.analysis.traces.one_rank.steps import NO_STEP
from commprof.commbench.errors import UnusableData
from commprof.commbench.units import format_bytes

_MOST_BESIDE = 0.25  # of the gradients' bytes, that the ranks may send besides


def check_profile(profile: RankProfile) -> None:
    """Raise UnusableData where a rank's trace has no steps, no collective, or no buckets."""
    trace = profile.trace
    if not trace.windows or trace.windows[0].number == NO_STEP:
        raise UnusableData(f"{trace.path} marks no steps; profile with a schedule, and call step() after each step")
    if not trace.collectives:
        raise UnusableData(f"{trace.path} holds no collective; it takes a trace of a DDP run")
    if not profile.steps:
        raise UnusableData(
            f"{trace.path} holds no all-reduce that DDP launched during backward in a marked step; trace a DDP run with "
            "ProfilerActivity.CPU (and record_shapes=True for gloo)"
        )


def check_groups(traces: Mapping[int, RankTrace], world_size: int) -> None:
    """Raise UnusableData for gradients that are summed over a part of the ranks, as beside model parallelism."""
    for trace in traces.values():
        sent = {trace.collectives[position].group_size for bucket in trace.buckets for position in bucket.collectives}
        for size in sent - {None, world_size}:
            raise UnusableData(
                f"{trace.path} sums gradients over {size} of {world_size} ranks; DDP over all ranks is understood"
            )


def check_beside(traces: Mapping[int, RankTrace], steps: Mapping[int, Sequence[ComputedStep]], bucket_bytes: int) -> None:
    """Raise UnusableData for ranks that send much besides gradients, as where parameters are gathered: nobody predicts that."""
    beside = [one for rank, trace in traces.items() for one in beside_buckets(trace, {step.number for step in steps[rank]})]
    in_step = sum(one.message_bytes or 0 for one in beside) / sum(map(len, steps.values()))
    if in_step > _MOST_BESIDE * bucket_bytes:
        operations, gradients = " and ".join(sorted({one.op for one in beside})), format_bytes(bucket_bytes)
        raise UnusableData(
            f"besides {gradients} of gradients its ranks send {format_bytes(in_step)} a step by {operations}, as "
            "ZeRO and sharded optimizers do, and DDP's prediction would be without it; record the script (commprof record)"
        )


def beside_buckets(trace: RankTrace, numbers: Collection[int]) -> list[Collective]:
    """Return what a rank ran in these steps outside of its buckets."""
    in_buckets = {position for bucket in trace.buckets for position in bucket.collectives}
    return [one for number, one in enumerate(trace.collectives) if number not in in_buckets and one.step in numbers]
