"""What does a mark cost, does the clock see its own stream and no other, and is the event's making in what it times?"""

import sys
import time
from collections.abc import Callable
from statistics import median

import torch

from commprof.commbench.timing import Clock, device_clock

_REPEATS = 300


def mark_cost_s(clock: Clock) -> float:
    clock.prepare(_REPEATS)
    clock.synchronize()
    start_s = time.perf_counter()
    marks = [clock.mark() for _ in range(_REPEATS)]
    cost_s = (time.perf_counter() - start_s) / _REPEATS
    clock.release(marks)
    return cost_s


def short_call_s(clock: Clock, call: Callable[[], object], *, prepared: bool) -> float:
    """Return a short call's median seconds, its events made beforehand or as they are needed."""
    seconds = []
    for _ in range(_REPEATS):
        if prepared:
            clock.prepare(2)
        clock.synchronize()
        start = clock.mark()
        call()
        end = clock.mark()
        seconds.append(clock.seconds(start, end))
        if prepared:
            clock.release([start, end])
    return median(seconds)


def main(kind: str) -> None:
    device = torch.device(kind, 0) if kind == "cuda" else torch.device(kind)
    clock, few = device_clock(device), torch.ones(1024, device=device)
    sys.stdout.write(f"a mark {mark_cost_s(clock) * 1e6:.2f} us\n")
    fresh, ready = (short_call_s(device_clock(device), lambda: few.add_(1), prepared=way) for way in (False, True))
    sys.stdout.write(f"add_ of 4 KiB: events made in between {fresh * 1e6:.2f} us, beforehand {ready * 1e6:.2f} us\n")
    size = 8192 if kind == "cuda" else 64
    matrix = torch.ones(size, size, device=device)
    product_s = short_call_s(clock, lambda: matrix @ matrix, prepared=True) if kind == "cpu" else _products_s(clock, matrix)
    sys.stdout.write(f"a product of {size}: {product_s * 1e3:.3f} ms, {2 * size**3 / product_s / 1e12:.2f} TFLOP/s\n")


def _products_s(clock: Clock, matrix: torch.Tensor) -> float:
    start = clock.mark()
    for _ in range(10):
        matrix @ matrix
    return clock.seconds(start, clock.mark()) / 10


if __name__ == "__main__":
    main(sys.argv[1])
