"""Figures of the wire, and what all figures share: axes with units, ids of their own, matplotlib left as it was."""

from threading import Event, Thread

import matplotlib
import numpy as np
import pytest

from commprof.analysis.report.figures.canvas import log_value_axis, new_axes, size_axis, styled, time_unit
from commprof.analysis.report.figures.costs import bandwidth_figure, latency_figure
from commprof.analysis.report.numbers.wire_curves import WireCurve
from commprof.analysis.report.page.html import inline_svg
from commprof.analysis.runs.interval import Interval
from commprof.analysis.wire.results import CostModel
from commprof.commbench.units import format_seconds
from tests.drawn import only, points


def curve(cost: CostModel | None = None) -> WireCurve:
    return WireCurve(
        world_size=4,
        message_bytes=(1000, 2000),
        median_s=(1e-3, 1.6e-3),
        low_s=(0.5e-3, 1e-3),
        high_s=(2e-3, 3e-3),
        num_samples=10,
        cost=cost,
    )


def line() -> CostModel:
    return CostModel(
        op="all_reduce",
        world_size=4,
        latency_s=5e-4,
        latency_interval_s=Interval(low=0, high=1),
        bandwidth_bytes_per_s=2e6,
        bandwidth_interval=Interval(low=0, high=1),
        message_bytes=(1000, 2000),
        median_s=(1e-3, 1.5e-3),
        num_samples=10,
        line_error=0.0,
        comm_cores=0.0,
        verdict="sound",
        run_ids=(),
    )


def test_bus_bandwidth_is_what_each_link_carries() -> None:
    axes = only(bandwidth_figure([curve(line())]))
    assert points(axes, "4 ranks") == [[1000, 2000], pytest.approx([1.5e6, 1.875e6])]  # 2(4-1)/4 = 1.5 times size over time
    drawn = [np.asarray(found.get_ydata()).tolist() for found in axes.lines if found.get_linestyle() == "--"]
    assert drawn == [pytest.approx([1.5e6, 2e6]), []]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("message size (bytes)", "bus bandwidth (bytes/s)")


def test_the_band_reaches_from_the_10th_to_the_90th_percentile() -> None:
    axes = only(latency_figure([curve()]))
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    assert {tuple(corner) for corner in np.asarray(corners)} >= {(1000, 0.5e-3), (2000, 1e-3), (2000, 3e-3), (1000, 2e-3)}
    assert points(axes, "4 ranks")[1] == [1e-3, 1.6e-3]
    assert len(axes.lines) == 2  # the curve and the legend's empty line: no fit, no line


def test_log_ticks_enclose_the_values_and_carry_units() -> None:
    with styled():
        _, axes = new_axes(200, left=50)
        log_value_axis(axes, 3e-4, 4e-3, "time (s)", format_seconds)
        size_axis(axes, [8, 2**25])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["200 us", "500 us", "1 ms", "2 ms", "5 ms"]
    assert axes.get_ylim() == pytest.approx((2e-4, 5e-3))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["32 B", "1 KiB", "32 KiB", "1 MiB", "32 MiB"]


def test_one_odd_size_still_gets_a_tick() -> None:
    with styled():
        _, axes = new_axes(200, left=50)
        size_axis(axes, [3000])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["2.93 KiB"]


@pytest.mark.parametrize(("longest_s", "unit"), [(3.0, "s"), (1.9, "ms"), (0.002, "ms"), (0.0019, "us")])
def test_the_time_axis_takes_the_unit_that_reads_best(longest_s: float, unit: str) -> None:
    assert time_unit(longest_s)[1] == unit


def test_two_figures_on_one_page_share_no_id() -> None:
    first, second = (inline_svg(bandwidth_figure([curve()]), name, "alt") for name in ("one", "two"))
    assert ids(first)
    assert not ids(first) & ids(second)


def ids(svg: str) -> set[str]:
    return {part.split('"')[0] for part in svg.split(' id="')[1:]}


def test_threads_that_draw_leave_matplotlib_as_it_was() -> None:
    before = dict(matplotlib.rcParams)
    drawing, first_done = Event(), Event()

    def draw_longer_than_the_first() -> None:
        with styled():
            drawing.set()
            first_done.wait(10)

    second = Thread(target=draw_longer_than_the_first)
    with styled():
        second.start()
        drawing.wait(0.2)  # set at once by a thread that does not wait for its turn
    first_done.set()
    second.join(10)
    assert dict(matplotlib.rcParams) == before
