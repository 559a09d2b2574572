"""What changes save -> a matplotlib Figure: seconds a batch with their 90 % intervals."""

from collections.abc import Sequence
from textwrap import fill, shorten

from matplotlib.figure import Figure

from commprof.analysis.report.figures.canvas import BLUE, INK, bar_axis, label_width, new_axes, styled, time_unit
from commprof.analysis.step.results import Change
from commprof.commbench.errors import UnusableData

_LONGEST_LABEL = 44
_LABEL_LINE = 26


@styled()
def savings_figure(changes: Sequence[Change]) -> Figure:
    """Draw one bar a change, in the order given; raise UnusableData where no change saves time."""
    if not changes:
        raise UnusableData("no change of the configuration surely saves time, so there is none to draw")
    labels = [fill(_label(change), _LABEL_LINE) for change in changes]
    left = label_width(line for label in labels for line in label.splitlines())
    figure, axes = new_axes(58 + 13 * sum(2 + label.count("\n") for label in labels), left=left)
    spans = [(c.interval_s.low, c.interval_s.high) if c.interval_s else (c.seconds_saved, c.seconds_saved) for c in changes]
    low_s, high_s = min(0.0, *(low for low, _ in spans)), max(high for _, high in spans)
    scale, unit = time_unit(max(-low_s, high_s))
    rows, saved = range(len(changes)), [change.seconds_saved / scale for change in changes]
    ends = [
        [max(0.0, value - low / scale) for value, (low, _) in zip(saved, spans, strict=True)],
        [max(0.0, high / scale - value) for value, (_, high) in zip(saved, spans, strict=True)],
    ]
    axes.barh(rows, saved, xerr=ends, height=0.6, color=BLUE, alpha=0.75)
    axes.set_yticks(rows, labels)
    bar_axis(axes, f"saved a batch, 90 % interval ({unit})", len(changes))
    if low_s < 0:  # two runs may show a loss where a gain is predicted
        axes.set_xlim(left=1.05 * low_s / scale)
        axes.axvline(0.0, color=INK, linewidth=0.8, alpha=0.5)
    axes.xaxis.label.set(x=1, horizontalalignment="right")  # it may be wider than the bars' axis
    return figure


def _label(change: Change) -> str:
    doubt = f" ({change.doubt})" if change.doubt else ""
    return f"{change.world_size} ranks: {shorten(change.what, _LONGEST_LABEL)}{doubt}"
