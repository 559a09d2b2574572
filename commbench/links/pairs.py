"""How fast does each host send to others, and receive? Messages one way between pairs of hosts, many pairs at one time.

The clock is the sender's: from its send until the receiver's answer of one byte has come, so that each direction shows its own
slowness, which a ping-pong would halve. Pairs of one time share nothing but the switch. All of it is gone through in passes, so
that what disturbs a machine for a moment meets a few samples of many pairs and not all samples of one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
import torch.distributed as dist

from commprof.commbench.errors import RunFailed
from commprof.commbench.links.copies import LinkOptions, payload, time_calls
from commprof.commbench.links.schedule import Matching
from commprof.commbench.ranks.runtime import gather_values
from commprof.commbench.records.links import PairMeasurement
from commprof.commbench.timing import Clock, host_wait
from commprof.commbench.units import format_bytes

_PASSES = 4


def num_steps(matchings: Sequence[Matching], options: LinkOptions) -> int:
    """Return how many measurements of whole matchings `measure_hosts` takes."""
    return len(matchings) * len(options.sizes) * len(split_samples(options.iterations))


def split_samples(iterations: int) -> list[int]:
    """Return the samples of each pass: four passes where there are as many samples, alike to one."""
    passes = min(_PASSES, iterations)
    return [iterations // passes + (number < iterations % passes) for number in range(passes)]


def measure_hosts(
    matchings: Sequence[Matching], options: LinkOptions, device: torch.device, clock: Clock, waiting: dist.ProcessGroup
) -> Iterator[tuple[PairMeasurement, ...]]:
    """Yield, on every rank the same, what a matching's pairs measured at each size. Raises RunFailed for a wrong payload."""
    for number, samples in enumerate(split_samples(options.iterations)):
        own = replace(options, iterations=samples, warmup_iterations=0 if number else options.warmup_iterations)
        for place, pairs in enumerate(matchings):
            for size in options.sizes:
                yield _measure_matching(number * len(matchings) + place, pairs, size, own, device, clock, waiting)


def _measure_matching(
    moment: int,
    pairs: Matching,
    size: int,
    options: LinkOptions,
    device: torch.device,
    clock: Clock,
    waiting: dist.ProcessGroup,
) -> tuple[PairMeasurement, ...]:
    rank, num_wrong, own_s = dist.get_rank(), 0, [0.0] * options.iterations
    for sender, receiver in pairs:
        if rank in (sender, receiver):
            num_wrong, own_s = _take_part(sender, receiver, size, options, device, clock)
    dist.barrier(waiting)
    rows = gather_values([float(num_wrong), *own_s], device)
    for sender, receiver in pairs:
        if wrong := int(rows[receiver][0]):
            raise RunFailed(
                f"{wrong} bytes of {format_bytes(size)} from rank {sender} to rank {receiver} arrived wrong; mend that first"
            )
    return tuple(
        PairMeasurement(
            round=moment,
            sender=sender,
            receiver=receiver,
            message_bytes=size,
            samples_s=tuple(rows[sender][1:]),
            timer=clock.name,
        )
        for sender, receiver in pairs
    )


def _take_part(
    sender: int, receiver: int, size: int, options: LinkOptions, device: torch.device, clock: Clock
) -> tuple[int, list[float]]:
    """Send or receive each message, once untimed; return how many bytes of the last came wrong, and each one's seconds."""
    sends = dist.get_rank() == sender
    message = payload(sender, size, device) if sends else torch.zeros(size, dtype=torch.uint8, device=device)
    answer = torch.zeros(1, dtype=torch.uint8, device=device)
    call = partial(_send, message, answer, receiver) if sends else partial(_receive, message, answer, sender)
    with host_wait:
        call()  # TCP begins slowly after a pause
    own_s = time_calls(call, options, clock)
    with host_wait:
        num_wrong = 0 if sends else int((message != payload(sender, size, device)).sum())
    return num_wrong, own_s


def _send(message: torch.Tensor, answer: torch.Tensor, receiver: int) -> None:
    dist.send(message, receiver)
    dist.recv(answer, receiver)


def _receive(message: torch.Tensor, answer: torch.Tensor, sender: int) -> None:
    dist.recv(message, sender)
    dist.send(answer, sender)
