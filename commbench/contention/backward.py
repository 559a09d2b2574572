"""What computes beside the all-reduce? A backward pass of many small kernels, as the one in which DDP sends its buckets.

Linear layers of n x n with a ReLU between them, on n samples, all float32 as DDP's gradients are: each layer's backward pass is
two products of n x n and a few kernels that only read and write. One matrix product, which was measured before, is one kernel:
it never comes back to the host, and keeps a core's caches and vector units as no training does.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from commprof.commbench.timing import Clock

_LAYERS = 8
_WIDTH_STEP = 16
_WIDTHS = (32, 8192)
_TRIAL_WIDTH = 128
_TRIALS = 5

Agree = Callable[[float], float]
"""Returns rank 0's figure on every rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backward:
    """A backward pass through `layers` layers of `width`: `run` asks the device for one, which takes `seconds` alone."""

    width: int
    layers: int
    seconds: float
    run: Callable[[], None]


def calibrated_backward(target_s: float, device: torch.device, clock: Clock, agree: Agree) -> Backward:
    """Return a backward pass of about `target_s`, the same on all ranks; two steps suffice, as its time grows with the cube.

    Where the narrowest takes longer it has fewer layers.
    """
    found = _timed(_TRIAL_WIDTH, _LAYERS, device, clock, agree)
    for _ in range(2):
        found = _timed(width_for(target_s, found.width, found.seconds), _LAYERS, device, clock, agree)
    if found.width == _WIDTHS[0] and found.seconds > target_s:
        found = _timed(found.width, max(1, int(_LAYERS * target_s / found.seconds)), device, clock, agree)
    return found


def width_for(target_s: float, width: int, seconds: float) -> int:
    """Return the width, a multiple of 16 between 32 and 8192, for `target_s` when one of `width` took `seconds`."""
    wanted = _WIDTH_STEP * round(width * math.cbrt(target_s / seconds) / _WIDTH_STEP)
    return min(max(wanted, _WIDTHS[0]), _WIDTHS[1])


def _timed(width: int, layers: int, device: torch.device, clock: Clock, agree: Agree) -> Backward:
    run = backward_of(width, layers, device)
    run()
    times = []
    for _ in range(_TRIALS):
        start = clock.mark()
        run()
        times.append(clock.seconds(start, clock.mark()))
    return Backward(width=width, layers=layers, seconds=agree(sorted(times)[_TRIALS // 2]), run=run)


def backward_of(width: int, layers: int, device: torch.device) -> Callable[[], None]:
    """Return what computes the gradients of `layers` layers once; the forward pass is done here, and kept."""
    blocks = [torch.nn.Linear(width, width, device=device) for _ in range(layers)]
    values = torch.ones(width, width, device=device)
    for block in blocks:
        values = torch.relu(block(values))
    loss = values.sum()
    weights = [parameter for block in blocks for parameter in block.parameters()]

    def backward() -> None:
        torch.autograd.grad(loss, weights, retain_graph=True)

    return backward
