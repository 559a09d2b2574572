"""Figures about many ranks and series: every text lies inside the figure and beside the others, every series is told apart."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from commprof.analysis.report.figures.canvas import MOST_SERIES, series_style, styled
from commprof.analysis.report.figures.costs import cost_figure
from commprof.analysis.report.figures.extrapolated import extrapolated_figure
from commprof.analysis.report.figures.predictions import speedup_figure
from commprof.analysis.report.figures.savings import savings_figure
from commprof.analysis.runs.interval import Interval
from commprof.analysis.scaling.extrapolate import Extrapolation, extrapolate
from commprof.analysis.scaling.series import Series
from commprof.analysis.step.results import Change
from commprof.analysis.wire.results import CostModel
from commprof.commbench.errors import UnusableData
from tests.unit.analysis.report.figures.test_plots import predicted
from tests.unit.analysis.report.figures.test_wire_figures import line

LONG = "model-70b/sequence-2048/micro-batch-8/accumulation-4/{}"


def told(count: int, name: str = "series-{}", world_sizes: tuple[int, ...] = (8, 16)) -> list[Extrapolation]:
    steps_s = {1: 1.0, 2: 1.1, 4: 1.2}
    series = [
        Series(name=name.format(index), measure="step_s", values=steps_s, interconnect="nvlink") for index in range(count)
    ]
    return [extrapolate(one, world_sizes, scaling="weak") for one in series]


def costs(count: int) -> list[CostModel]:
    return [replace(line(), world_size=n) for n in range(2, count + 2)]


def saved(what: str, low_s: float = 0.1) -> Change:
    interval_s = Interval(low=low_s, high=0.3)
    return Change(what=what, setting="", world_size=65_536, seconds_saved=0.2, speedup=1.1, interval_s=interval_s)


FIGURES: dict[str, Callable[[], Figure]] = {
    "forty numbers of ranks": lambda: speedup_figure(predicted({n: {"schedule": 0.1} for n in range(2, 42)}), [], ()),
    "few ranks": lambda: speedup_figure(predicted({n: {"schedule": 0.1} for n in range(2, 9)}), [], ()),
    "most ranks": lambda: speedup_figure(predicted({n: {"schedule": 0.1} for n in (2, 65_536)}), [], ()),
    "one series": lambda: extrapolated_figure(told(1)),
    "eight series": lambda: extrapolated_figure(told(8)),
    "long names": lambda: extrapolated_figure(told(3, LONG)),
    "far ranks": lambda: extrapolated_figure(told(1, world_sizes=tuple(range(8, 41)))),
    "eight curves": lambda: cost_figure(costs(8)),
    "one change": lambda: savings_figure([saved("accumulate gradients over 8 batches")]),
    "a change that two runs may lose": lambda: savings_figure([saved("send gradients in two bytes", low_s=-0.5)]),
    "long change": lambda: savings_figure([saved("word " * 20)]),
}


@pytest.mark.parametrize("name", FIGURES)
def test_texts_lie_inside_the_figure_and_beside_each_other(name: str) -> None:
    with styled():
        figure = FIGURES[name]()
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        drawn = figure.get_tightbbox(renderer)
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    labels = [tick.label1 for tick in axes.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    texts = [axes.xaxis.label, axes.yaxis.label, *labels, *(text for own in figure.legends for text in own.get_texts())]
    boxes = {text.get_text(): text.get_window_extent(renderer) for text in texts if text.get_text()} | {"axes": axes.bbox}
    width, height = figure.get_size_inches()
    assert (drawn.x0 >= 0, drawn.y0 >= 0, drawn.x1 <= width, drawn.y1 <= height) == (True,) * 4
    assert [pair for pair in combinations(boxes, 2) if boxes[pair[0]].overlaps(boxes[pair[1]])] == []


def test_as_many_series_as_a_figure_holds_differ_in_colour_or_marker() -> None:
    assert len({series_style(index) for index in range(MOST_SERIES)}) == MOST_SERIES


def test_more_series_are_refused() -> None:
    with pytest.raises(UnusableData, match="37 series are too many"):
        extrapolated_figure(told(MOST_SERIES + 1))
    with pytest.raises(UnusableData, match="37 curves are too many"):
        cost_figure(costs(MOST_SERIES + 1))


def test_speedups_are_drawn_over_the_smallest_row() -> None:
    """Twice the ranks with 5 % lost: 1.9 over 8; MFU falls by it, the step of a fixed batch per rank grows by it."""
    for measure, values in (("throughput", {8: 100, 16: 190}), ("mfu", {8: 50, 16: 47.5}), ("step_s", {8: 0.95, 16: 1.0})):
        one = extrapolate(Series(name="s", measure=measure, values=values, ranks_per_node=8), [32], scaling="weak")  # type: ignore[arg-type]
        (axes,) = extrapolated_figure([one]).axes
        assert axes.get_ylabel() == "speedup over 8 ranks (x)"
        anchors = [line for line in axes.lines if list(line.get_xdata()) == [8, 16]]  # type: ignore[arg-type]
        assert list(anchors[0].get_ydata()) == pytest.approx([1, 1.9])  # type: ignore[arg-type]


def test_an_interval_of_a_saving_is_drawn_to_its_end_below_zero() -> None:
    (axes,) = savings_figure([saved("send gradients in two bytes", low_s=-0.5), saved("wait")]).axes
    low, high = axes.get_xlim()
    assert low < -500 < 300 < high, axes.get_xlabel()
