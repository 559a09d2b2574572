"""Products beside a chain of short all-reduces, on a simulated GPU: a host that launches, and two streams."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch

from commprof.commbench.contention import overlap
from commprof.commbench.contention.overlap import CudaTransfer

LAUNCH_S = 25e-6  # of an all-reduce, on the host; a product's is shorter
PRODUCT_LAUNCH_S = 8e-6


@dataclass
class Gpu:
    """`busy` is until when each stream has work."""

    host_s: float = 0.0
    current: str = "main"
    busy: dict[str, float] = field(default_factory=lambda: {"main": 0.0, "side": 0.0})

    def launch(self, host_s: float, device_s: float) -> None:
        self.host_s += host_s
        self.busy[self.current] = max(self.host_s, self.busy[self.current]) + device_s

    @contextmanager
    def stream(self, name: str) -> Iterator[None]:
        before, self.current = self.current, name
        yield
        self.current = before


@dataclass
class Mark:
    gpu: Gpu
    at_s: float

    def query(self) -> bool:
        self.gpu.host_s += 1e-6
        return self.gpu.host_s >= self.at_s

    def synchronize(self) -> None:
        self.gpu.host_s = max(self.gpu.host_s, self.at_s)


class SimulatedClock:
    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu

    def mark(self) -> Mark:
        return Mark(self._gpu, max(self._gpu.host_s, self._gpu.busy[self._gpu.current]))

    def happened(self, mark: Mark) -> bool:
        return mark.query()

    def seconds(self, start: Mark, end: Mark) -> float:
        end.synchronize()
        return end.at_s - start.at_s


@pytest.mark.parametrize("kernel_us", [4, 8, 15, 30, 60, 200])
@pytest.mark.parametrize("product_us", [60, 200])
def test_the_chain_lies_wholly_beside_products(monkeypatch: pytest.MonkeyPatch, kernel_us: float, product_us: float) -> None:
    gpu = Gpu()
    clock = SimulatedClock(gpu)

    def all_reduce(buffer: object, async_op: bool) -> SimpleNamespace:
        gpu.launch(LAUNCH_S, kernel_us * 1e-6)
        return SimpleNamespace(wait=lambda: None)

    monkeypatch.setattr(torch.cuda, "Stream", lambda: "side")
    monkeypatch.setattr(torch.cuda, "stream", gpu.stream)
    monkeypatch.setattr(overlap.dist, "all_reduce", all_reduce)
    chain = max(1, round(2e-3 / max(LAUNCH_S, kernel_us * 1e-6)))
    transfer = CudaTransfer(torch.zeros(1), clock, chain)  # type: ignore[arg-type]
    products, (start, end) = overlap._both(
        transfer,
        lambda: gpu.launch(PRODUCT_LAUNCH_S, product_us * 1e-6),
        torch.device("cuda"),
        clock,  # type: ignore[arg-type]
    )
    beside_s = sum(max(0.0, min(e.at_s, end.at_s) - max(s.at_s, start.at_s)) for s, e in products)
    assert beside_s == pytest.approx(end.at_s - start.at_s, rel=0.02)
    assert len([product for product in products if product[0].at_s > end.at_s]) <= 4  # few are left over
