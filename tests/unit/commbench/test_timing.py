"""A CUDA clock belongs to one device, whatever device a thread has chosen, and makes its events before they are needed."""

import threading

import pytest
import torch

from commprof.commbench import timing
from commprof.commbench.errors import BadInput
from commprof.commbench.timing import CudaClock, HostWait, MonotonicClock, device_clock, host_wait
from tests.fake_cuda import FakeCuda, FakeEvent, fake_cuda, in_thread


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return fake_cuda(monkeypatch, 4)


@pytest.mark.parametrize("device", range(4))
def test_marks_are_on_the_clocks_device_in_every_thread(cuda: FakeCuda, device: int) -> None:
    clock = device_clock(torch.device("cuda", device))
    marks = [clock.mark()]
    cuda.work(device, 2.0)
    cuda.work((device + 1) % 4, 50.0)
    in_thread(lambda: marks.append(clock.mark()))  # its current device is 0

    def elsewhere() -> None:
        cuda.set_device((device + 2) % 4)
        cuda.work(device, 1.0)
        marks.append(clock.mark())

    in_thread(elsewhere)
    assert [clock.seconds(marks[0], mark) for mark in marks] == pytest.approx([0.0, 2.0, 3.0])
    clock.synchronize()
    assert cuda.waits[-1] == f"device {device}"


def test_without_a_device_it_is_the_one_that_is_current_when_the_clock_is_made(cuda: FakeCuda) -> None:
    cuda.set_device(2)
    clock = CudaClock()
    cuda.set_device(0)
    assert clock.mark().device == 2
    assert device_clock(torch.device("cuda")).mark().device == 0


def test_events_are_made_beforehand_and_used_again(cuda: FakeCuda) -> None:
    clock = device_clock(torch.device("cuda", 1))
    clock.prepare(4)
    before = cuda.made
    for _ in range(10):
        clock.prepare(4)
        marks = [clock.mark() for _ in range(4)]
        assert len({id(mark) for mark in marks}) == 4
        clock.release(marks)
    assert cuda.made == before == 4


def test_marking_and_asking_whether_it_happened_wait_for_nothing(cuda: FakeCuda) -> None:
    clock = device_clock(torch.device("cuda", 0))
    start = clock.mark()
    cuda.work(0, 1.0)
    end = clock.mark()
    assert (clock.happened(start), clock.happened(end), cuda.waits) == (True, False, [])
    assert clock.seconds(start, end) == pytest.approx(1.0)
    assert clock.happened(end)


def test_what_the_host_waits_for_can_be_seen_from_another_thread(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float | None] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: in_thread(lambda: seen.append(host_wait.since_s)))
    CudaClock(torch.device("cuda", 0)).synchronize()
    assert seen[0] is not None
    assert host_wait.since_s is None
    assert threading.current_thread() is threading.main_thread()


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> HostWait:
    monkeypatch.setattr(timing, "host_wait", wait := HostWait())
    return wait


def test_a_launch_that_finds_the_queue_full_is_a_wait(cuda: FakeCuda, wait: HostWait) -> None:
    """The host is in no call that is known to wait: it launches on, and the newest mark is never reached."""
    clock = device_clock(torch.device("cuda", 1))
    assert not wait.lasts_longer_than(0)
    clock.mark()
    cuda.work(1, 1.0)  # an all-reduce whose peer is lost
    mark = clock.mark()
    assert wait.lasts_longer_than(0)
    assert not wait.lasts_longer_than(60)
    clock.seconds(mark, mark)
    assert not wait.lasts_longer_than(0)  # the device came to it: a host that compiles for a while waits for nobody
    cuda.work(0, 1.0)
    assert not wait.lasts_longer_than(0)


def test_only_an_old_mark_is_asked_for_and_a_failed_device_is_no_wait(
    cuda: FakeCuda, wait: HostWait, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(event: FakeEvent) -> bool:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(FakeEvent, "query", failed)
    device_clock(torch.device("cuda", 0)).mark()
    assert not wait.lasts_longer_than(60)
    assert not wait.lasts_longer_than(0)


def test_a_device_that_has_come_to_a_mark_is_not_asked_for_it_again() -> None:
    wait, asked = HostWait(), []  # type: ignore[var-annotated]
    wait.asked(lambda: asked.append("first") or True)  # type: ignore[func-returns-value]
    assert [wait.lasts_longer_than(0) for _ in range(3)] == [False] * 3
    wait.asked(lambda: asked.append("second") or False)  # type: ignore[func-returns-value]
    assert [wait.lasts_longer_than(0) for _ in range(2)] == [True] * 2
    assert asked == ["first", "second", "second"]


@pytest.mark.parametrize("kind", ["xpu", "mps", "hpu", "meta"])
def test_a_device_that_the_hosts_clock_would_misjudge_is_refused(kind: str) -> None:
    with pytest.raises(BadInput, match=f"{kind} runs behind the host"):
        device_clock(torch.device(kind))
    assert isinstance(device_clock(torch.device("cpu")), MonotonicClock)
