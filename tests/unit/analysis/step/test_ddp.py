from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.analysis.step.ddp import NO_CONTENTION, Contention, assign_buckets, share_cores, simulate
from commprof.commbench.records.training import ParameterTiming

MIB = 2**20


def parameters(*sizes: int) -> list[ParameterTiming]:
    return [ParameterTiming(name=f"p{i}", num_bytes=size, ready_s=0.01 * (i + 1)) for i, size in enumerate(sizes)]


@dataclass(frozen=True)
class Timeline:
    """The only draw of a simulation."""

    start_s: tuple[float, ...]
    done_s: tuple[float, ...]
    compute_end_s: float
    end_s: float


def play(ready_s: list[float], compute_end_s: float, transfer_s: list[float], **options: object) -> Timeline:
    settings = {"workers": 1, **options}
    known = simulate(np.array([ready_s]), np.array([compute_end_s]), np.array([transfer_s]), **settings)  # type: ignore[arg-type]
    return Timeline(tuple(known.start_s[0]), tuple(known.done_s[0]), float(known.compute_end_s[0]), float(known.end_s[0]))


def test_buckets_of_twelve_linear_layers_as_pytorch_makes_them() -> None:
    """12 x Linear(1024): PyTorch 2.13 builds 4,198,400, 29,388,800 and 16,793,600 bytes (caps are minimum sizes)."""
    layers = parameters(*[size for _ in range(12) for size in (4096, 4 * 1024 * 1024)])
    assert [b.num_bytes for b in assign_buckets(layers, MIB, 25 * MIB)] == [4_198_400, 29_388_800, 16_793_600]


def test_a_bucket_is_ready_with_its_last_gradient() -> None:
    first, second = assign_buckets(parameters(MIB, 10, 20), MIB, 25 * MIB)
    assert (first.num_bytes, first.ready_s, first.last_parameter) == (MIB, 0.01, "p0")
    assert (second.num_bytes, second.ready_s, second.last_parameter) == (30, 0.03, "p2")


@given(st.lists(st.integers(1, 10 * MIB), min_size=1, max_size=60), st.integers(1, 4 * MIB), st.integers(1, 30 * MIB))
def test_every_byte_travels_once_and_only_the_last_bucket_may_be_small(sizes: list[int], first: int, cap: int) -> None:
    buckets = assign_buckets(parameters(*sizes), first, cap)
    assert sum(b.num_bytes for b in buckets) == sum(sizes)
    assert all(b.num_bytes >= (cap if i else first) for i, b in enumerate(buckets[:-1]))


def test_one_bucket_at_the_end_is_exposed_in_full() -> None:
    assert play([1.0], 1.0, [0.25]).end_s == pytest.approx(1.25)


def test_an_early_bucket_hides_behind_computation() -> None:
    assert play([0.2], 1.0, [0.5]).end_s == pytest.approx(1.0)


def test_one_queue_sends_bucket_after_bucket() -> None:
    timeline = play([0.1, 0.2, 1.0], 1.0, [0.5, 0.7, 0.1])
    assert timeline.start_s == pytest.approx((0.1, 0.6, 1.3))
    assert timeline.done_s == pytest.approx((0.6, 1.3, 1.4))


def test_a_late_bucket_holds_back_those_behind_it() -> None:
    assert play([0.9, 0.1], 1.0, [0.1, 0.1]).start_s == pytest.approx((0.9, 1.0))


def test_two_workers_share_the_wire() -> None:
    """From 0.1 the first runs alone (0.1 done), from 0.2 both at half speed; it needs 0.4 more: 0.8 at half speed."""
    timeline = play([0.1, 0.2], 0.2, [0.5, 0.7], workers=2)
    assert timeline.done_s == pytest.approx((1.0, 1.3))


def test_contention_slows_both_while_they_overlap() -> None:
    """From 0.5 both run at half speed: the transfer of 0.1 takes 0.2, in which computing advances 0.1 instead of 0.2."""
    timeline = play([0.5], 1.0, [0.1], contention=Contention(compute_rate=0.5, comm_rate=0.5))
    assert timeline.done_s == pytest.approx((0.7,))
    assert timeline.compute_end_s == pytest.approx(1.1)


def test_a_mark_behind_the_end_of_backward_does_not_stall() -> None:
    assert play([1.0 + 1e-6], 1.0, [0.5]).end_s == pytest.approx(1.5)


def test_nothing_to_send_takes_the_computation_alone() -> None:
    assert play([], 1.0, []).end_s == 1.0


steps = st.lists(st.tuples(st.floats(0, 1), st.floats(1e-6, 2)), min_size=1, max_size=12)


@given(steps, st.integers(1, 3), st.floats(0.1, 1), st.floats(0.1, 1))
def test_a_step_is_never_shorter_than_its_parts_nor_longer_than_their_sum(
    buckets: list[tuple[float, float]], workers: int, compute_rate: float, comm_rate: float
) -> None:
    ready, transfer = [b[0] for b in buckets], [b[1] for b in buckets]
    contention = Contention(compute_rate=compute_rate, comm_rate=comm_rate)
    timeline = play(ready, 1.0, transfer, workers=workers, contention=contention)
    assert timeline.end_s >= max(1.0, sum(transfer)) * (1 - 1e-9)
    assert timeline.end_s <= (1 / compute_rate + sum(transfer) / comm_rate) * (1 + 1e-9)
    assert all(start <= done for start, done in zip(timeline.start_s, timeline.done_s, strict=True))
    assert list(timeline.start_s) == sorted(timeline.start_s)


def test_buckets_are_copied_back_in_order_after_they_have_landed() -> None:
    """The first is copied from 1.0 to 1.1, while the second travels until 1.4; its copy ends at 1.5."""
    assert play([0.2, 1.0], 1.0, [0.5, 0.4], copy_s=np.array([[0.1, 0.1]])).end_s == pytest.approx(1.5)
    assert play([0.2, 0.9], 1.0, [0.5, 0.1], copy_s=np.array([[0.1, 0.3]])).end_s == pytest.approx(1.4)


@given(st.lists(st.tuples(st.floats(0.5, 1.5), st.floats(0.1, 2)), min_size=1, max_size=8), st.integers(1, 2))
def test_draws_side_by_side_do_not_disturb_each_other(scales: list[tuple[float, float]], workers: int) -> None:
    ready, transfer = np.array([0.1, 0.4, 0.4, 1.0]), np.array([0.5, 0.2, 0.1, 0.3])
    compute, comm = (np.array(column) for column in zip(*scales, strict=True))
    rates = Contention(compute_rate=0.7, comm_rate=0.6)
    together = simulate(compute[:, None] * ready, compute, comm[:, None] * transfer, workers=workers, contention=rates)
    for draw, (c, w) in enumerate(scales):
        alone = play((c * ready).tolist(), c, (w * transfer).tolist(), workers=workers, contention=rates)
        assert together.end_s[draw] == pytest.approx(alone.end_s)


def test_enough_cores_mean_no_contention() -> None:
    assert share_cores(8, 2, 1, 1.0) == NO_CONTENTION


def test_two_ranks_on_two_cores_share_them_with_their_transfers() -> None:
    shared = share_cores(2, 2, 1, 0.6)
    assert shared.compute_rate == pytest.approx(1 / 1.6)
    assert shared.comm_rate == pytest.approx(1 / 1.6)


def test_ranks_short_of_cores_already_lose_only_what_is_new() -> None:
    """4 ranks on 2 cores compute at 1/2 alone and at 2/(4*1.5) with transfers: two thirds of what was measured."""
    assert share_cores(2, 4, 1, 0.5).compute_rate == pytest.approx(2 / 3)


def test_gpus_take_no_cores() -> None:
    assert share_cores(2, 1, 1, 0.0) == NO_CONTENTION


def test_a_bucket_beside_computation_takes_so_much_longer_whatever_its_size() -> None:
    """0.1 and 0.4 alone take 0.3 longer each; the last has nothing beside it."""
    waits = Contention(compute_rate=1.0, comm_rate=1.0, wait_s=0.3)
    timeline = play([0.0, 0.5, 2.0], 2.0, [0.1, 0.4, 0.4], contention=waits)
    assert timeline.done_s == pytest.approx((0.4, 1.2, 2.4))
    assert timeline.compute_end_s == 2.0


def test_a_bucket_that_outlasts_computation_is_longer_by_its_share() -> None:
    """Of 0.6 alone, 0.9 beside computation, two thirds of 0.3 are done when that ends; the other 0.4 take as long alone."""
    waits = Contention(compute_rate=1.0, comm_rate=1.0, wait_s=0.3)
    assert play([0.7], 1.0, [0.6], contention=waits).done_s == pytest.approx((1.4,))


def test_each_draw_is_longer_by_what_it_says() -> None:
    waits = Contention(compute_rate=np.ones(2), comm_rate=np.ones(2), wait_s=np.array([0.1, 0.3]))
    ready, end_s, transfer = np.full((2, 1), 0.2), np.ones(2), np.full((2, 1), 0.4)
    assert simulate(ready, end_s, transfer, workers=1, contention=waits).done_s[:, 0] == pytest.approx([0.7, 0.9])
