"""How much do a backward pass and an all-reduce slow each other down when they run at once?

    slowdown = median time per unit while the other is active too / median time per unit alone

Each round measures backward passes alone, the all-reduce alone, and both. While both run, passes follow one another without a
pause until the all-reduce is done: the all-reduce lies wholly inside passes, and only passes that began and ended inside the
all-reduce count. A sample is the mean over a round's passes on all ranks, which do the same at once and may share cores, what
one gains being another's loss; and the all-reduce on the rank where it ends last. Alone passes go on for about as long as the
all-reduce, so that ranks which share cores share them in both.

On hosts the pass runs on the main thread and gloo's own threads carry the all-reduce; both need cores. On GPUs the pass has the
current stream and NCCL its own; they share multiprocessors and memory. A short NCCL all-reduce is repeated, back to back, until
its chain is long enough for several passes. The chain is one CUDA graph: launched one by one, by a host that launches
passes too, all-reduces that are shorter than a launch (about 25 us) would stand apart, and show the host's time as their own.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Protocol

import torch
import torch.distributed as dist

from commprof.commbench.contention.backward import Backward, calibrated_backward
from commprof.commbench.errors import RunFailed
from commprof.commbench.ranks.runtime import barrier, gather_values
from commprof.commbench.records.contention import ContentionMeasurement
from commprof.commbench.timing import Clock, device_clock, host_wait
from commprof.commbench.units import format_bytes

_PASSES_PER_TRANSFER = 10
_MOST_PASSES_ALONE = 100
_MAX_PASS_S = 3e-3  # short enough that what hangs over the ends of an all-reduce is little
_CHAIN_S = 2e-3  # on a GPU, ten passes of this are each several times their launch
_LONGEST_CHAIN = 1000
_TRIALS = 5
_CALLBACK_S = 10.0
_AHEAD = 4  # passes that the host may have queued on a GPU: enough to keep it busy, few to be left over at the end

Spans = list[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentionOptions:
    """Sizes in bytes, and rounds per size."""

    sizes: Sequence[int]
    rounds: int
    warmup_rounds: int


class Transfer(Protocol):
    """All-reduces under way beside the computation. `chain` of them are sent one after the other by each `start`."""

    chain: int

    def start(self) -> None:
        """Send without waiting."""

    def done(self) -> bool:
        """Return whether the last one has arrived."""

    def wait(self) -> tuple[Any, Any]:
        """Wait for the last one and return the clock's marks at start and arrival."""


class HostTransfer:
    """gloo: its worker thread marks the arrival in the moment that it happens, whatever the main thread is computing."""

    chain = 1  # two at once would share the wire, each slower than alone

    def __init__(self, buffer: torch.Tensor, clock: Clock) -> None:
        self._buffer, self._clock = buffer, clock
        self._arrived = threading.Event()

    def start(self) -> None:
        self._arrived.clear()
        self._start = self._clock.mark()
        self._work: Any = dist.all_reduce(self._buffer, async_op=True)
        self._work.get_future().add_done_callback(self._mark_arrival)

    def done(self) -> bool:
        return self._arrived.is_set()

    def wait(self) -> tuple[Any, Any]:
        self._work.wait()  # raises what went wrong, and after the group's timeout
        arrived = self._arrived.wait(timeout=_CALLBACK_S)  # the callback follows at once
        assert arrived, "gloo calls back when a transfer is done"
        return self._start, self._end

    def _mark_arrival(self, future: object) -> None:
        self._end = self._clock.mark()
        self._arrived.set()


class CudaTransfer:
    """NCCL: events on a stream that waits for NCCL's; a chain is captured once and launched as a whole."""

    def __init__(self, buffer: torch.Tensor, clock: Clock, chain: int) -> None:
        self._buffer, self._clock, self.chain = buffer, clock, chain
        self._stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._send: Callable[[], None] = self._all_reduce if chain == 1 else self._captured().replay

    def start(self) -> None:
        with torch.cuda.stream(self._stream):
            self._start = self._clock.mark()
            self._send()
            self._end = self._clock.mark()

    def done(self) -> bool:
        return self._clock.happened(self._end)

    def wait(self) -> tuple[Any, Any]:
        self._clock.seconds(self._start, self._end)
        return self._start, self._end

    def _all_reduce(self) -> None:
        dist.all_reduce(self._buffer, async_op=True).wait()  # the stream waits, the host does not

    def _captured(self) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(self.chain):
                dist.all_reduce(self._buffer)
        return graph


def measure_contention(options: ContentionOptions, device: torch.device) -> Iterator[tuple[int, ContentionMeasurement | None]]:
    """Yield each size with its measurement, on every rank the same; None of a size whose all-reduce no pass fits into.

    Raises RunFailed at the end where none fitted into any: a short all-reduce is over before ranks without a core compute.
    """
    clock = device_clock(device)
    fitted = False
    for size in options.sizes:
        measured = _measured(size, options, device, clock)
        fitted = fitted or measured is not None
        yield size, measured
    if not fitted:
        largest = format_bytes(max(options.sizes))
        raise RunFailed(
            f"no backward pass fits into an all-reduce here, not even of {largest}; end what else takes cores, or raise -e"
        )


def _measured(size: int, options: ContentionOptions, device: torch.device, clock: Clock) -> ContentionMeasurement | None:
    transfer, comm_s, own = _calibrate(size, device, clock)
    alone = min(_MOST_PASSES_ALONE, max(_PASSES_PER_TRANSFER, round(comm_s / own.seconds)))
    rounds = [_round(transfer, own.run, alone, device, clock) for _ in range(options.warmup_rounds + options.rounds)]
    samples = rounds[options.warmup_rounds :]
    with_comm = [sample.compute_with_comm_s for sample in samples if sample.compute_with_comm_s is not None]
    if not with_comm:
        return None
    return ContentionMeasurement(
        message_bytes=size,
        world_size=dist.get_world_size(),
        matrix_size=own.width,
        layers=own.layers,
        threads_per_rank=torch.get_num_threads(),
        compute_alone_s=tuple(sample.compute_alone_s for sample in samples),
        compute_with_comm_s=tuple(with_comm),
        comm_alone_s=tuple(sample.comm_alone_s for sample in samples),
        comm_with_compute_s=tuple(sample.comm_with_compute_s for sample in samples),
        timer=clock.name,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One sample of everything. None: a rank had no whole pass inside its all-reduce."""

    compute_alone_s: float
    compute_with_comm_s: float | None
    comm_alone_s: float
    comm_with_compute_s: float


def inside(spans: Spans, start_s: float, end_s: float) -> Spans:
    """Return the spans that lie wholly between two moments."""
    return [(begin, end) for begin, end in spans if begin >= start_s and end <= end_s]


def mean_s(spans: Spans) -> float:
    """Return the mean length of spans; 0 for none."""
    return sum(end - begin for begin, end in spans) / len(spans) if spans else 0.0


def _round(transfer: Transfer, backward: Callable[[], None], num_alone: int, device: torch.device, clock: Clock) -> Round:
    _together(clock)
    comm_s = _alone_s(transfer, clock)
    _together(clock)
    origin = clock.mark()
    alone = _spans(clock, origin, [_timed(backward, clock) for _ in range(num_alone)])
    _together(clock)
    origin = clock.mark()
    with host_wait:  # the passes come to an end, each of them, also where the all-reduce never does
        beside, span = _both(transfer, backward, device, clock)
    ((start_s, end_s),) = _spans(clock, origin, [span])
    within = inside(_spans(clock, origin, beside), start_s, end_s)
    both_s = end_s - start_s
    rows = gather_values([mean_s(alone), mean_s(within), comm_s / transfer.chain, both_s / transfer.chain], device)
    columns = list(zip(*rows, strict=True))
    return Round(
        compute_alone_s=fmean(columns[0]),
        compute_with_comm_s=fmean(columns[1]) if all(columns[1]) else None,
        comm_alone_s=max(columns[2]),
        comm_with_compute_s=max(columns[3]),
    )


def _both(
    transfer: Transfer, backward: Callable[[], None], device: torch.device, clock: Clock
) -> tuple[list[tuple[Any, Any]], tuple[Any, Any]]:
    """Run passes until the all-reduce is done; return the marks of all of them and of the all-reduce."""
    # A GPU gets its first passes before the all-reduce, which would else be over before they arrive.
    passes = [_timed(backward, clock) for _ in range(_AHEAD if device.type == "cuda" else 0)]
    transfer.start()
    while not transfer.done():
        passes.append(_timed(backward, clock))
        if len(passes) > _AHEAD:
            clock.seconds(*passes[-_AHEAD])  # waits for that one, so that few are queued when the all-reduce is done
    return passes, transfer.wait()


def _calibrate(size: int, device: torch.device, clock: Clock) -> tuple[Transfer, float, Backward]:
    """Return the transfer, its seconds and the backward pass beside it, the same on all ranks: rank 0 decides."""
    buffer = torch.zeros(max(1, size // 4), device=device)  # zeros stay zeros, however often they are summed
    transfer: Transfer = HostTransfer(buffer, clock) if device.type == "cpu" else CudaTransfer(buffer, clock, 1)
    comm_s = _typical_s(transfer, device, clock)
    for _ in range(2 if device.type == "cuda" else 0):  # the first chain shows what is left without the launches
        chain = min(_LONGEST_CHAIN, max(1, round(transfer.chain * _CHAIN_S / comm_s)))
        if chain > transfer.chain:
            transfer = CudaTransfer(buffer, clock, chain)
            comm_s = _typical_s(transfer, device, clock)
    target_s = min(comm_s / _PASSES_PER_TRANSFER, _MAX_PASS_S)
    return transfer, comm_s, calibrated_backward(target_s, device, clock, lambda seconds: _agree(seconds, device))


def _typical_s(transfer: Transfer, device: torch.device, clock: Clock) -> float:
    """Return the median seconds of a whole chain alone, the same on all ranks."""
    times = []
    for _ in range(_TRIALS):
        _together(clock)
        times.append(_alone_s(transfer, clock))
    return _agree(sorted(times)[_TRIALS // 2], device)


def _timed(backward: Callable[[], None], clock: Clock) -> tuple[Any, Any]:
    start = clock.mark()
    backward()
    return start, clock.mark()


def _alone_s(transfer: Transfer, clock: Clock) -> float:
    with host_wait:
        transfer.start()
        return clock.seconds(*transfer.wait())


def _spans(clock: Clock, origin: Any, marks: Sequence[tuple[Any, Any]]) -> Spans:  # noqa: ANN401  a clock's mark
    """Return pairs of marks as seconds after `origin`."""
    return [(clock.seconds(origin, start), clock.seconds(origin, end)) for start, end in marks]


def _together(clock: Clock) -> None:
    """Let all ranks begin at once, nothing left to do from before."""
    barrier()
    clock.synchronize()


def _agree(seconds: float, device: torch.device) -> float:
    """Return rank 0's figure on every rank."""
    return gather_values([seconds], device)[0][0]
