"""The clock on a real device: its own stream and no other, its own device and no other, the work and not the launch."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from commprof.commbench.records.links import LinkMeasurement
from commprof.commbench.records.rundir import read_records
from commprof.commbench.records.types import CollectiveMeasurement
from commprof.commbench.timing import device_clock
from tests.gpu.test_nccl import commprof

GPUS = torch.cuda.device_count() if torch.cuda.is_available() else 0

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(GPUS == 0, reason="this machine has no NVIDIA GPU")]


def busy(index: int = 0) -> Callable[[], None]:
    """Return what keeps a stream busy for some 100 ms."""
    matrix = torch.ones(8192, 8192, device=torch.device("cuda", index))
    matrix @ matrix
    torch.cuda.synchronize(index)

    def work() -> None:
        for _ in range(5 * 10):
            matrix @ matrix

    return work


def test_an_idle_stream_beside_a_busy_one_takes_no_time() -> None:
    clock, work, side = device_clock(torch.device("cuda", 0)), busy(), torch.cuda.Stream()
    clock.prepare(2)
    with torch.cuda.stream(side):
        work()
        held = torch.cuda.Event()
        held.record()
    start, end = clock.mark(), clock.mark()
    assert clock.seconds(start, end) < 1e-3
    assert not held.query()  # the other stream was at work all the while


def test_the_busy_streams_own_marks_hold_its_work() -> None:
    clock, work, side = device_clock(torch.device("cuda", 0)), busy(), torch.cuda.Stream()
    with torch.cuda.stream(side):
        start = clock.mark()
        work()
        end = clock.mark()
    assert not clock.happened(end)
    assert clock.seconds(start, end) > 1e-2


def test_synchronising_waits_for_every_stream_of_the_device() -> None:
    clock, work, side = device_clock(torch.device("cuda", 0)), busy(), torch.cuda.Stream()
    with torch.cuda.stream(side):
        work()
        held = torch.cuda.Event()
        held.record()
    clock.synchronize()
    assert held.query()


@pytest.mark.skipif(GPUS < 2, reason="this machine has fewer than two GPUs")
def test_a_clock_of_the_second_gpu_works_while_the_first_is_current() -> None:
    clock, work = device_clock(torch.device("cuda", 1)), busy(1)
    assert torch.cuda.current_device() == 0
    start = clock.mark()
    work()
    end = clock.mark()
    assert clock.seconds(start, end) > 1e-2
    clock.synchronize()


def test_a_gather_on_one_rank_takes_as_long_as_the_copy_that_it_is(tmp_path: Path) -> None:
    """A dropped wait, or a mark on the wrong stream, would make it far too fast: NCCL copies on a stream of its own."""
    size = ("-b", "256M", "-e", "256M", "-n", "20")
    flags = ("--backend", "nccl", "--place", "out", "--hot", "--mode", "isolated,pipelined", "--folder", "gather")
    commprof(tmp_path, "bench", "all_gather", *size, *flags)
    commprof(tmp_path, "links", *size, "--folder", "links")
    links = read_records(tmp_path / "links" / "links.jsonl", LinkMeasurement)
    (copy,) = [link.median_s for link in links if link.kind == "device_to_device" and link.source == "gpu0"]
    measured = {m.mode: m.median_s for m in read_records(tmp_path / "gather" / "collectives.jsonl", CollectiveMeasurement)}
    assert measured == pytest.approx({"isolated": copy, "pipelined": copy}, rel=0.25)
