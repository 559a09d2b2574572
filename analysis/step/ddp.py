"""One DDP step as a bucket schedule: when is each gradient bucket ready, sent and landed, and what stays uncovered?

Rules, from PyTorch's reducer (torch/csrc/distributed/c10d/reducer.cpp): parameters fill buckets in the order their
gradients become ready (from the second iteration on); a bucket closes when its size reaches its cap, so caps are minimum
sizes; buckets launch strictly in order; backward ends when the last one has landed. NCCL sends one bucket at a time, gloo has
two worker threads that share the wire.

While computation and communication overlap, both may run slower. Or a bucket waits for a core again and again: its transfer
of A seconds takes A + w beside computation, and proceeds at A / (A + w) of its speed as long as there is something to
compute. On hosts without GPUs they share cores: with n ranks of t threads on C cores, each transfer keeping u cores busy,
everything proceeds at C / n(t+u) of full speed if that is below 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from commprof.commbench.records.buckets import group_gradients
from commprof.commbench.records.training import ParameterTiming

Floats = NDArray[np.float64]
ContentionForm = Literal["rates", "wait"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Parameters that travel together: their bytes, and when the last of them is ready (s after backward began)."""

    num_bytes: int
    ready_s: float
    last_parameter: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Contention:
    """Speed of computation and of communication while both are active, relative to each alone, and the seconds by which a
    bucket takes longer that has computation beside it all along. Numbers, or arrays over draws."""

    compute_rate: float | Floats
    comm_rate: float | Floats
    wait_s: float | Floats = 0.0

    @property
    def first(self) -> "Contention":
        """Draw 0, as numbers."""
        compute_rate, comm_rate, wait_s = (float(np.ravel(v)[0]) for v in (self.compute_rate, self.comm_rate, self.wait_s))
        return Contention(compute_rate=compute_rate, comm_rate=comm_rate, wait_s=wait_s)

    def beside_computation(self, transfer_s: Floats) -> Floats:
        """Return the speed of transfers [draws, buckets] that take so long alone, while there is something to compute."""
        draws = (len(transfer_s),)
        comm_rate, wait_s = (np.broadcast_to(value, draws)[:, None] for value in (self.comm_rate, self.wait_s))
        share: Floats = comm_rate * np.divide(
            transfer_s, transfer_s + wait_s, out=np.ones_like(transfer_s), where=transfer_s > 0
        )
        return share


@dataclass(frozen=True, slots=True, kw_only=True)
class Timelines:
    """Simulated steps, seconds from each one's start: when each bucket was sent and landed [draws, buckets], when the last
    gradient was there and when all was over [draws]."""

    start_s: Floats
    done_s: Floats
    compute_end_s: Floats
    end_s: Floats


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


def simulate(
    ready_s: Floats,
    compute_end_s: Floats,
    transfer_s: Floats,
    *,
    workers: int,
    contention: Contention = NO_CONTENTION,
    copy_s: Floats | None = None,
) -> Timelines:
    """Play steps, several draws of one side by side: [draws, buckets], `compute_end_s` [draws].

    `ready_s` and `compute_end_s` are in computing time from the step's start, as if nothing overlapped; `transfer_s` is each
    bucket's time alone on the wire, `copy_s` the time to copy it back once it has landed and the one before is copied. At
    most `workers` buckets are under way, sharing the wire equally.
    """
    assert ready_s.shape == transfer_s.shape and workers >= 1
    # In order: a bucket waits for those before it. The last gradient's mark may lie a few us beyond backward's end.
    launch_s = np.minimum(np.maximum.accumulate(ready_s, axis=1), compute_end_s[:, None])
    play = _Play(launch_s, compute_end_s, transfer_s, workers, contention)
    while play.goes_on():
        play.advance()
    end_s = play.compute_wall_s.copy()
    for bucket in range(transfer_s.shape[1]):
        end_s = np.maximum(end_s, play.done_s[:, bucket]) + (0.0 if copy_s is None else copy_s[:, bucket])
    return Timelines(start_s=play.start_s, done_s=play.done_s, compute_end_s=play.compute_wall_s, end_s=end_s)


class _Play:
    """The state of the steps being played; every draw goes from event to event at its own pace."""

    def __init__(
        self, launch_s: Floats, compute_end_s: Floats, transfer_s: Floats, workers: int, contention: Contention
    ) -> None:
        draws, self.num_buckets = transfer_s.shape
        self.contention = contention
        self.beside_rate = contention.beside_computation(transfer_s)
        self.launch_s, self.compute_end_s, self.transfer_s = launch_s, compute_end_s, transfer_s
        # A milestone of computing is the next launch, and at last its end.
        self.milestone_s = np.column_stack([launch_s, compute_end_s])
        self.lanes = np.arange(draws)
        self.remaining_s = np.full((draws, workers), np.inf)  # alone on the wire; infinite where a worker is idle
        self.bucket = np.zeros((draws, workers), dtype=np.int64)
        self.wall_s, self.computed_s = np.zeros(draws), np.zeros(draws)
        self.sent = np.zeros(draws, dtype=np.int64)
        self.start_s, self.done_s = np.zeros_like(transfer_s), np.zeros_like(transfer_s)
        self.compute_wall_s = np.zeros(draws)

    def goes_on(self) -> bool:
        self.computing = self.computed_s < self.compute_end_s
        self.launched = (self.launch_s <= self.computed_s[:, None]).sum(axis=1)
        for worker in range(self.remaining_s.shape[1]):
            lanes = self.lanes[np.isinf(self.remaining_s[:, worker]) & (self.sent < self.launched)]
            sent = self.sent[lanes]
            self.remaining_s[lanes, worker] = self.transfer_s[lanes, sent]
            self.bucket[lanes, worker] = sent
            self.start_s[lanes, sent] = self.wall_s[lanes]
            self.sent[lanes] += 1
        self.under_way = np.isfinite(self.remaining_s)
        return bool(self.computing.any() or self.under_way.any())

    def advance(self) -> None:
        """Go on to the next event: a launch, the end of computing, or a landing."""
        active = self.under_way.sum(axis=1)
        compute_rate = np.where(active > 0, self.contention.compute_rate, 1.0)
        comm_rate = np.where(self.computing[:, None], self._beside_rate(), 1.0) / np.maximum(1, active)[:, None]
        milestone_s = self.milestone_s[self.lanes, self.launched]
        until_compute_s = np.where(self.computing, (milestone_s - self.computed_s) / compute_rate, np.inf)
        until_comm_s = (self.remaining_s / comm_rate).min(axis=1)
        elapsed_s = np.minimum(until_compute_s, until_comm_s)
        elapsed_s[np.isinf(elapsed_s)] = 0.0  # this draw is over
        reached = self.computing & (until_compute_s <= until_comm_s)
        self.wall_s += elapsed_s
        self.computed_s = np.where(
            reached, milestone_s, self.computed_s + np.where(self.computing, elapsed_s * compute_rate, 0)
        )
        self.compute_wall_s = np.where(self.computing, self.wall_s, self.compute_wall_s)
        sent_s = elapsed_s[:, None] * comm_rate
        landed = self.under_way & (self.remaining_s <= sent_s * (1 + 1e-12))
        self.remaining_s = np.where(landed, np.inf, self.remaining_s - sent_s)
        lanes, workers = np.nonzero(landed)
        self.done_s[lanes, self.bucket[lanes, workers]] = self.wall_s[lanes]

    def _beside_rate(self) -> Floats:
        """Return the speed of what each worker sends while there is something to compute [draws, workers]."""
        if not self.num_buckets:
            return np.ones(self.bucket.shape)
        rate: Floats = self.beside_rate[self.lanes[:, None], self.bucket]
        return rate


def _close(members: Sequence[ParameterTiming]) -> Bucket:
    last = max(members, key=lambda parameter: parameter.ready_s)
    return Bucket(num_bytes=sum(parameter.num_bytes for parameter in members), ready_s=last.ready_s, last_parameter=last.name)
