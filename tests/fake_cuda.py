"""A stand-in for torch.cuda: devices that work behind the host, each on its own timeline, and a current device a thread.

Events are as strict as CUDA's: one device's cannot be subtracted from another's, and one that was never recorded not at all.
"""

import threading
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch


@dataclass
class FakeDevice:
    """`queued_s` is when the device will have done all that it was asked to do; `done_s` how far somebody has waited for it."""

    queued_s: float = 0.0
    done_s: float = 0.0


@dataclass(frozen=True)
class FakeStream:
    device_index: int


@dataclass
class FakeCuda:
    devices: list[FakeDevice]
    made: int = 0
    captures: bool = False
    waits: list[str] = field(default_factory=list)
    _threads: threading.local = field(default_factory=threading.local)

    def current_device(self) -> int:
        return getattr(self._threads, "device", 0)

    def set_device(self, index: int) -> None:
        self._threads.device = index

    def current_stream(self, device: int | None = None) -> FakeStream:
        return FakeStream(self.current_device() if device is None else device)

    def synchronize(self, device: int | None = None) -> None:
        index = self.current_device() if device is None else device
        self.waits.append(f"device {index}")
        self.devices[index].done_s = self.devices[index].queued_s

    def is_current_stream_capturing(self) -> bool:
        return self.captures

    def work(self, device: int, seconds: float) -> None:
        """Ask a device for work."""
        self.devices[device].queued_s += seconds

    def Event(self, *, enable_timing: bool) -> "FakeEvent":
        assert enable_timing
        self.made += 1
        return FakeEvent(self)


@dataclass
class FakeEvent:
    cuda: FakeCuda
    device: int | None = None
    at_s: float = 0.0

    def record(self, stream: FakeStream | None = None) -> None:
        index = (stream or self.cuda.current_stream()).device_index
        if self.device not in (None, index):
            raise RuntimeError("Event device does not match recording stream's device")
        self.device, self.at_s = index, self.cuda.devices[index].queued_s

    def query(self) -> bool:
        return self.device is None or self.cuda.devices[self.device].done_s >= self.at_s

    def synchronize(self) -> None:
        if self.device is None or self.query():
            return
        self.cuda.waits.append(f"event at {self.at_s:g}")
        self.cuda.devices[self.device].done_s = self.at_s

    def elapsed_time(self, end: "FakeEvent") -> float:
        if self.device is None or self.device != end.device:
            raise RuntimeError("CUDA error: invalid resource handle")
        if not end.query():
            raise RuntimeError("Both events must be completed before calculating elapsed time.")
        return (end.at_s - self.at_s) * 1e3


def fake_cuda(monkeypatch: pytest.MonkeyPatch, devices: int) -> FakeCuda:
    """Put a stand-in in the place of what commprof asks torch.cuda for."""
    cuda = FakeCuda([FakeDevice() for _ in range(devices)])
    for name in ("current_device", "set_device", "current_stream", "synchronize", "is_current_stream_capturing", "Event"):
        monkeypatch.setattr(torch.cuda, name, getattr(cuda, name))
    return cuda


def in_thread(work: Any) -> None:  # noqa: ANN401
    """Do a piece of work in a thread of its own, as autograd does backward."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
