"""One DDP step as a bucket schedule: when is each gradient bucket ready, sent and landed, and what stays uncovered?

Rules, from PyTorch's reducer (torch/csrc/distributed/c10d/reducer.cpp): parameters fill buckets in the order their
gradients become ready (from the second iteration on); a bucket closes when its size reaches its cap, so caps are minimum
sizes; buckets launch strictly in order; backward ends when the last one has landed. NCCL sends one bucket at a time, gloo has
two worker threads that share the wire.

While computation and communication overlap, both may run slower. On hosts without GPUs they share cores: with n ranks of
t threads on C cores, each transfer keeping u cores busy, everything proceeds at C / n(t+u) of full speed if that is below 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from commbench.buckets import group_gradients
from commbench.training_records import ParameterTiming


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Parameters that travel together: their bytes, and when the last of them is ready (s after backward began)."""

    num_bytes: int
    ready_s: float
    last_parameter: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Contention:
    """Speed of computation and of communication while both are active, relative to each alone."""

    compute_rate: float
    comm_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A simulated step, seconds from its start: per bucket when it was sent and landed, and when all was over."""

    start_s: tuple[float, ...]
    done_s: tuple[float, ...]
    compute_end_s: float
    end_s: float


NO_CONTENTION = Contention(compute_rate=1.0, comm_rate=1.0)


def assign_buckets(parameters: Sequence[ParameterTiming], first_cap_bytes: int, cap_bytes: int) -> list[Bucket]:
    """Group parameters, given in the order their gradients are ready, as DDP does from its second iteration on."""
    groups = group_gradients([parameter.num_bytes for parameter in parameters], first_cap_bytes, cap_bytes)
    return [_close(parameters[group.start : group.stop]) for group in groups]


def share_cores(cores: int, ranks: int, threads_per_rank: int, comm_cores: float) -> Contention:
    """Return the slowdown while `ranks` on one host compute and communicate at once.

    Relative to what was measured of each alone, in which the ranks may already have been short of cores.
    """
    both = min(1.0, cores / (ranks * (threads_per_rank + comm_cores)))
    compute_alone = min(1.0, cores / (ranks * threads_per_rank))
    comm_alone = min(1.0, cores / (ranks * comm_cores)) if comm_cores else 1.0
    return Contention(compute_rate=both / compute_alone, comm_rate=both / comm_alone)


def simulate_step(
    ready_s: Sequence[float], compute_end_s: float, transfer_s: Sequence[float], workers: int, contention: Contention
) -> Timeline:
    """Play one step. `ready_s` and `compute_end_s` are in computing time from the step's start, as if nothing overlapped.

    `transfer_s` is each bucket's time alone on the wire. At most `workers` buckets are under way, sharing the wire equally.
    """
    assert len(ready_s) == len(transfer_s) and workers >= 1
    count = len(ready_s)
    # In order: a bucket waits for those before it. The last gradient's mark may lie a few us beyond backward's end.
    launch_s = [min(max(ready_s[: index + 1]), compute_end_s) for index in range(count)]
    start, done = [0.0] * count, [0.0] * count
    remaining = dict[int, float]()  # bucket under way -> its transfer still to do
    wall_s = computed_s = compute_wall_s = 0.0
    launched = sent = 0
    while computed_s < compute_end_s or sent < count or remaining:
        while launched < count and launch_s[launched] <= computed_s:
            launched += 1
        while sent < launched and len(remaining) < workers:
            start[sent] = wall_s
            remaining[sent] = transfer_s[sent]
            sent += 1
        computing = computed_s < compute_end_s
        compute_rate = contention.compute_rate if remaining else 1.0
        comm_rate = (contention.comm_rate if computing else 1.0) / max(1, len(remaining))
        milestone_s = min(launch_s[launched], compute_end_s) if launched < count else compute_end_s
        until_compute_s = (milestone_s - computed_s) / compute_rate if computing else float("inf")
        until_comm_s = min(remaining.values(), default=float("inf")) / comm_rate
        elapsed_s = min(until_compute_s, until_comm_s)
        wall_s += elapsed_s
        if computing:
            computed_s = milestone_s if until_compute_s <= until_comm_s else computed_s + elapsed_s * compute_rate
            compute_wall_s = wall_s
        landed = [i for i, left in remaining.items() if left / comm_rate <= elapsed_s]
        remaining = {i: left - elapsed_s * comm_rate for i, left in remaining.items() if i not in landed}
        for index in landed:
            done[index] = wall_s
    return Timeline(start_s=tuple(start), done_s=tuple(done), compute_end_s=compute_wall_s, end_s=wall_s)


def _close(members: Sequence[ParameterTiming]) -> Bucket:
    last = max(members, key=lambda parameter: parameter.ready_s)
    return Bucket(num_bytes=sum(parameter.num_bytes for parameter in members), ready_s=last.ready_s, last_parameter=last.name)
