"""How fast is each link by itself: host and GPU, GPU and GPU, rank and rank, while nothing else is on the way?

    latency    median time of the smallest message (s)
    bandwidth  bytes of the largest message / its median time (B/s)

Copies. Rank 0 copies between its host and every GPU it sees, within each GPU and between every two, and the other ranks wait.
CUDA events on the device that carries the copy time it. Copies are queued one behind the other, so that launching is hidden
as soon as a copy takes longer than that (about 10 us); below, the time is the launch, as a program sees it. A copy within
one GPU reads and writes its memory: the traffic there is twice the bandwidth.

Peer access. torch turns it on for every two GPUs that can have it and cannot turn it off (NCCL_P2P_DISABLE concerns NCCL
alone). "Without" is therefore a copy staged by hand: all of it to pinned host memory, then all of it to the other GPU. A
driver that has to stage overlaps the two in pieces and may be up to twice as fast. Where two GPUs cannot have peer access,
torch's own copy is the one without.

Messages. Each ordered pair of a host's ranks plays ping-pong while all others wait; a sample is half a round trip, because
two ranks' clocks differ by more than a message takes. A link that is slow in one direction only thus shows half of its
slowness, in both orders of its ranks: each order is the same link measured at another time. Ranks on two hosts: pairs.py.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import permutations
from typing import Literal

import torch
import torch.distributed as dist

from commprof.commbench.errors import RunFailed
from commprof.commbench.machine.gpus import GpuFacts, read_gpus
from commprof.commbench.ranks.runtime import gather_values, pci_bus_id
from commprof.commbench.records.links import LinkMeasurement
from commprof.commbench.timing import Clock, CudaClock, host_wait
from commprof.commbench.units import format_bytes

_PERIOD = 251  # prime, so it lines up with no segment size; fits a byte
_RANK_STRIDE = 31


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkOptions:
    """Sizes in bytes, and both counts per size."""

    sizes: Sequence[int]
    iterations: int
    warmup_iterations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One way for a copy to go; `staged` through the host by hand. `gpu` is the device whose stream carries it."""

    kind: Literal["host_to_device", "device_to_host", "device_to_device", "peer_to_peer"]
    source: torch.device
    target: torch.device
    pinned: bool | None = None
    peer_access: bool | None = None
    connection: str | None = None
    staged: bool = False

    @property
    def gpu(self) -> torch.device:
        return self.source if self.source.type == "cuda" else self.target


def waiting_group(timeout_s: float) -> dist.ProcessGroup:
    """Return a group of all ranks that waits on the host: a barrier of NCCL's would keep the waiting GPUs busy."""
    group: dist.ProcessGroup = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_s))
    return group


def measure_copies(options: LinkOptions, waiting: dist.ProcessGroup) -> Iterator[LinkMeasurement]:
    """Yield, on rank 0, every copy at every size; the others wait route by route. Raises RunFailed for a wrong copy."""
    routes = list_routes(torch.cuda.device_count(), own=torch.cuda.current_device()) if dist.get_rank() == 0 else []
    count = torch.tensor([len(routes)])
    dist.broadcast(count, 0, group=waiting)
    for index in range(int(count)):
        if routes:
            for size in options.sizes:
                yield measure_copy(routes[index], size, options)
        dist.barrier(waiting)


def list_routes(num_gpus: int, own: int = 0) -> list[Route]:
    """Return every copy there is between the host and the GPUs that this process sees, and between those.

    Of GPUs that take one process alone only its own: another rank has each of the others, and a copy would end the run.
    """
    facts = read_gpus()
    alone = {gpu.pci_bus_id for gpu in facts.gpus if gpu.compute_mode in ("exclusive", "prohibited")}
    host, seen = torch.device("cpu"), [torch.device("cuda", index) for index in range(num_gpus)]
    gpus = [gpu for gpu in seen if gpu.index == own or pci_bus_id(gpu) not in alone]
    routes = []
    for gpu in gpus:
        for pinned in (True, False):
            routes.append(Route(kind="host_to_device", source=host, target=gpu, pinned=pinned))
            routes.append(Route(kind="device_to_host", source=gpu, target=host, pinned=pinned))
        routes.append(Route(kind="device_to_device", source=gpu, target=gpu))
    for source, target in permutations(gpus, 2):
        peer = torch.cuda.can_device_access_peer(source, target)
        between = connection(pci_bus_id(source), pci_bus_id(target), facts)
        route = partial(Route, kind="peer_to_peer", source=source, target=target, connection=between)
        routes.append(route(peer_access=peer))
        if peer:
            routes.append(route(peer_access=False, staged=True))
    return routes


def connection(first_bus_id: str | None, second_bus_id: str | None, facts: GpuFacts) -> str | None:
    """Name what NVML says lies between two GPUs as nvidia-smi topo -m does ("NV12", "PHB"); None where it does not say.

    By PCI bus, because CUDA and NVML may number GPUs differently.
    """
    positions = {gpu.pci_bus_id: position for position, gpu in enumerate(facts.gpus)}
    if first_bus_id not in positions or second_bus_id not in positions:
        return None
    name = facts.topology[positions[first_bus_id]][positions[second_bus_id]]
    return None if name == "?" else name


def measure_copy(route: Route, size: int, options: LinkOptions) -> LinkMeasurement:
    """Time one copy, verified once beforehand; raises RunFailed when it arrives wrong."""
    with torch.cuda.device(route.gpu):
        clock = CudaClock(route.gpu)
        source, target = _buffer(size, route.source, route.pinned), _buffer(size, route.target, route.pinned)
        expected = payload(1, size, torch.device("cpu"))
        source.copy_(expected)
        copy = _staged(source, target) if route.staged else partial(_copy, source, target)
        copy()
        clock.synchronize()
        if not torch.equal(target.cpu(), expected):
            raise RunFailed(f"a copy of {format_bytes(size)} from {_name(route.source)} to {_name(route.target)} arrived wrong")
        samples = time_calls(copy, options, clock)
    return LinkMeasurement(
        kind=route.kind,
        source=_name(route.source),
        target=_name(route.target),
        message_bytes=size,
        samples_s=tuple(samples),
        timer=clock.name,
        pinned=route.pinned,
        peer_access=route.peer_access,
        connection=route.connection,
    )


def measure_pairs(
    hosts: Sequence[Sequence[int]], options: LinkOptions, device: torch.device, clock: Clock, waiting: dist.ProcessGroup
) -> Iterator[LinkMeasurement]:
    """Yield, on every rank the same, each ordered pair of a host's ranks at each size. Raises RunFailed for a wrong payload."""
    for ranks in hosts:
        for source, target in permutations(ranks, 2):
            for size in options.sizes:
                yield _measure_pair(source, target, size, options, device, clock, waiting)


def _measure_pair(
    source: int,
    target: int,
    size: int,
    options: LinkOptions,
    device: torch.device,
    clock: Clock,
    waiting: dist.ProcessGroup,
) -> LinkMeasurement:
    rank, num_wrong, own_s = dist.get_rank(), 0, [0.0] * options.iterations
    if rank in (source, target):
        peer = target if rank == source else source
        sent, received = payload(rank, size, device), torch.zeros(size, dtype=torch.uint8, device=device)
        trip = partial(_round_trip, sent, received, peer, rank == source)
        with host_wait:
            trip()
            num_wrong = int((received != payload(peer, size, device)).sum())
        own_s = time_calls(trip, options, clock)
    dist.barrier(waiting)
    rows = gather_values([float(num_wrong), *own_s], device)
    wrong = sum(int(row[0]) for row in rows)
    if wrong:
        raise RunFailed(
            f"{wrong} bytes of {format_bytes(size)} between ranks {source} and {target} arrived wrong; mend that first"
        )
    return LinkMeasurement(
        kind="send_recv",
        source=f"rank{source}",
        target=f"rank{target}",
        message_bytes=size,
        samples_s=tuple(seconds / 2 for seconds in rows[source][1:]),
        timer=clock.name,
    )


def time_calls(call: Callable[[], None], options: LinkOptions, clock: Clock) -> list[float]:
    """Return the seconds of each of a row of calls, queued one behind the other after untimed ones."""
    for _ in range(options.warmup_iterations):
        with host_wait:  # launches wait as well, once the device's queue is full
            call()
    with host_wait:
        clock.prepare(2 * options.iterations)
        clock.synchronize()
    marks = []
    for _ in range(options.iterations):  # each a wait of its own: many calls may take longer than any peer does
        with host_wait:
            start = clock.mark()
            call()
            marks.append((start, clock.mark()))
    return [clock.seconds(start, end) for start, end in marks]


def payload(sender: int, size: int, device: torch.device) -> torch.Tensor:
    """Return what a rank sends: byte i is (i + 31 sender) mod 251, so that a shifted or a stale part shows."""
    period = ((torch.arange(_PERIOD) + _RANK_STRIDE * sender) % _PERIOD).to(torch.uint8)
    return period.to(device).repeat(-(-size // _PERIOD))[:size]


def _round_trip(sent: torch.Tensor, received: torch.Tensor, peer: int, first: bool) -> None:
    if first:
        dist.send(sent, peer)
    dist.recv(received, peer)
    if not first:
        dist.send(sent, peer)


def _copy(source: torch.Tensor, target: torch.Tensor) -> None:
    target.copy_(source, non_blocking=True)


def _staged(source: torch.Tensor, target: torch.Tensor) -> Callable[[], None]:
    """Return a copy by way of pinned host memory that begins and ends on the source's stream, where it is timed."""
    stage = torch.empty(source.numel(), dtype=torch.uint8, pin_memory=True)
    out, into = torch.cuda.current_stream(source.device), torch.cuda.current_stream(target.device)

    def copy() -> None:
        stage.copy_(source, non_blocking=True)
        into.wait_stream(out)
        target.copy_(stage, non_blocking=True)
        out.wait_stream(into)

    return copy


def _buffer(size: int, device: torch.device, pinned: bool | None) -> torch.Tensor:
    return torch.zeros(size, dtype=torch.uint8, device=device, pin_memory=bool(pinned) and device.type == "cpu")


def _name(device: torch.device) -> str:
    return "host" if device.type == "cpu" else f"gpu{device.index}"
