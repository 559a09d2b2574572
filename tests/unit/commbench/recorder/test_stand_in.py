"""What stands in for an exchange, held against a process group of one rank and an exchange of a known length."""

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Self, cast

import pytest
import torch
import torch.distributed as dist

from commprof.commbench.recorder.stand_in import ComputingClock, StandIn
from commprof.commbench.records.training import EXCHANGED_PASSES


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    group = dist.group.WORLD  # kept until its thread is done: see Exchanged
    try:
        yield StandIn(group)
    finally:
        dist.destroy_process_group()
        del group


def there(bucket: torch.Tensor) -> torch.futures.Future[torch.Tensor]:
    future: torch.futures.Future[torch.Tensor] = torch.futures.Future()
    future.set_result(bucket)
    return future


def exchange(stand_in: StandIn, least_s: float) -> float:
    """A pass whose last bucket is on its way for at least so long; return how long it took."""
    begun_s = time.perf_counter()
    stand_in.begins_pass()
    stand_in.launches_last()
    time.sleep(least_s)
    stand_in.exchanged.lands()
    return time.perf_counter() - begun_s


def test_the_first_passes_exchange_and_the_later_ones_wait_as_long(stand_in: StandIn) -> None:
    """The first pass, which connects the ranks, is left out of the median."""
    took_s = []
    for least_s in (0.2, 0.02, 0.02, 0.02):
        took_s.append(exchange(stand_in, least_s))
        assert stand_in.exchanges and stand_in.wait_s is None
    stand_in.begins_pass()
    assert not stand_in.exchanges
    bucket, clock = torch.ones(3), ComputingClock()
    begun_s, computing_from = time.perf_counter(), clock.mark()
    assert stand_in.meet(there(bucket)).wait() is bucket
    waited_s, computed_s = time.perf_counter() - begun_s, clock.seconds(computing_from, clock.mark())
    assert stand_in.wait_s is not None and 0.02 <= stand_in.wait_s <= median(took_s[1:])
    assert waited_s >= stand_in.wait_s
    assert computed_s <= waited_s - stand_in.wait_s


def test_a_collective_that_blocks_is_timed_and_then_waited_for(stand_in: StandIn) -> None:
    for _ in range(EXCHANGED_PASSES):
        stand_in.begins_pass()
        with stand_in.exchanging():
            time.sleep(0.02)
    stand_in.begins_pass()
    begun_s = time.perf_counter()
    stand_in.wait()
    assert time.perf_counter() - begun_s >= 0.02


class _Meeting:
    """A group whose meetings take as long as they are told to, one after the other."""

    def __init__(self, *meetings_s: float) -> None:
        self._meetings_s = iter(meetings_s)

    def allreduce(self, _tensors: object, _options: object) -> Self:
        return self

    def get_future(self) -> Self:
        return self

    def wait(self) -> None:
        time.sleep(next(self._meetings_s))


@pytest.mark.parametrize(("first_s", "late_s"), [(0.15, 0.1), (0.05, 0.0)])
def test_what_the_last_to_come_keeps_a_rank_waiting_for_is_computing_time(first_s: float, late_s: float) -> None:
    """The first meeting takes until the last has come and a message's time, the second one the message's: 50 ms."""
    stand_in = StandIn(cast("dist.ProcessGroup", _Meeting(first_s, 0.05)))
    for _ in range(EXCHANGED_PASSES):
        exchange(stand_in, 0.02)
    stand_in.begins_pass()
    clock, begun_s = ComputingClock(), time.perf_counter()
    computing_from = clock.mark()
    stand_in.wait()
    computed_s, whole_s = clock.seconds(computing_from, clock.mark()), time.perf_counter() - begun_s
    assert whole_s >= first_s + 0.05 + 0.02
    assert late_s - 0.02 <= computed_s <= late_s + 0.02 + (whole_s - first_s - 0.07)


def test_the_last_exchange_counts_and_no_later_pass(stand_in: StandIn) -> None:
    for _ in range(EXCHANGED_PASSES):
        exchange(stand_in, 0.01)
    for _ in range(3):
        stand_in.begins_pass()
        stand_in.meet(there(torch.ones(1))).wait()
    agreed_s = stand_in.wait_s
    assert agreed_s is not None and agreed_s >= 0.01
