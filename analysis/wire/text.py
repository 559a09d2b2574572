"""The fitted wire in words and columns.

First each collective's line, which people compare; then the times of the curve, which predictions use; then where the curve
was disturbed, changes its course or was carried over, and what speaks against it.
"""

from collections.abc import Iterator, Mapping, Sequence

from commprof.analysis.scaling.speedup import Scaling
from commprof.analysis.wire.benched import Unusable
from commprof.analysis.wire.cost import cost_s, is_measured
from commprof.analysis.wire.forms import RING
from commprof.analysis.wire.outside_sweep import unmeasured_buckets
from commprof.analysis.wire.results import CostModel
from commprof.analysis.wire.ring_order import RingOrder
from commprof.commbench.display.sheet import GAP, Block, Cell, Column, Row, Table, Tone, Words, joined, line
from commprof.commbench.units import format_bytes, format_rate, format_seconds

_SHOWN_BYTES = (2**20, 8 * 2**20, 25 * 2**20, 64 * 2**20, 256 * 2**20)  # 1 and 25 MiB are DDP's first bucket and its others
_WORTH_SAYING = 0.02  # of the time: orders nearer than that are not told apart
_LINE_COLUMNS = (
    Column(name="ranks", width=5, before="", key=True),
    Column(name="latency", width=25, before=" "),
    Column(name="bandwidth (algbw)", width=25),
    Column(name="busbw", width=10),
    Column(name="half-size", left=True, before=" "),
)
_TIME_COLUMNS = (
    Column(name="one call, on the curve", width=26, left=True, before="", folds=True, key=True),
    *(Column(name=format_bytes(size), width=9, before="") for size in _SHOWN_BYTES),
    Column(name="off by", width=8, before=""),
)


def fit_sheet(
    costs: Sequence[CostModel],
    carried: Sequence[CostModel] = (),
    unusable: Sequence[Unusable] = (),
    published: Mapping[str, CostModel] | None = None,
) -> list[Block]:
    """Lay out everything that `commprof fit` found."""
    blocks: list[Block] = []
    for op, dtype in dict.fromkeys((cost.op, cost.dtype) for cost in costs):
        alike = [cost for cost in costs if (cost.op, cost.dtype) == (op, dtype)]
        blocks += [*_lines(alike), GAP]
    blocks += _times([*costs, *carried], published or {})
    blocks += _findings(costs)
    for cost in carried:
        blocks += [GAP, *_carrying(cost)]
    refused = (f"{u.op} of {u.dtype} on {u.world_size} ranks: unusable: {u.reason}" for u in unusable)
    return [*blocks, *(_wrapped(text, "bad") for text in refused)]


def _lines(costs: Sequence[CostModel]) -> Iterator[Block]:
    """Yield the table of the fitted lines of one collective, 95 % intervals in brackets."""
    of = "" if costs[0].dtype == "float32" else f" of {costs[0].dtype}"
    ring = f"  (ring: latency = {RING.formula.split(' + ', maxsplit=1)[0]})" if costs[0].op == "all_reduce" else ""
    yield _wrapped(f"{costs[0].op.replace('_', '-')}{of} on p ranks: t = latency + S/bandwidth{ring}", "strong")
    yield GAP
    yield Table(columns=_LINE_COLUMNS, rows=[_line_row(cost) for cost in costs])
    for cost in costs:
        no_interval = ", one a size and so no interval" if cost.single_samples else ""
        yield _wrapped(f"{cost.world_size:>5} ranks, {cost.num_samples} samples{no_interval}: {cost.verdict}")


def _line_row(cost: CostModel) -> Row:
    latency, bandwidth = format_seconds(cost.latency_s), format_rate(cost.bandwidth_bytes_per_s)
    if not cost.single_samples:
        low, high = cost.latency_interval_s.low, cost.latency_interval_s.high
        latency += f" [{format_seconds(low)}, {format_seconds(high)}]"
        unit = 1e9 if bandwidth.endswith(" GB/s") else 1e6
        slow, fast = cost.bandwidth_interval.low / unit, cost.bandwidth_interval.high / unit
        bandwidth += f" [{slow:.3g}, {fast:.3g}]"
    half = format_bytes(cost.half_bandwidth_bytes)
    return Row((str(cost.world_size), latency, bandwidth, format_rate(cost.busbw_bytes_per_s), half))


def _times(costs: Sequence[CostModel], published: Mapping[str, CostModel]) -> Iterator[Block]:
    """Yield the curves' times at a few sizes, and how far each is off where a size is left out."""
    rows = [_row(f"{cost.op}, {cost.world_size} ranks", cost) for cost in costs]
    yield Table(columns=_TIME_COLUMNS, rows=[*rows, *(_row(name, cost) for name, cost in published.items())])
    shown = [*costs, *published.values()]
    if any(cost.carried_from or not all(is_measured(cost, size) for size in _SHOWN_BYTES) for cost in shown):
        yield line("~ not measured: outside the sweep, on the fitted line, or carried over")
    yield _wrapped(
        "off by: sizes from 1 to 256 MiB (from 256 KiB up where none lies there) left out and taken from neighbours, mean"
    )


def _row(name: str, cost: CostModel) -> Row:
    off = "-" if cost.curve_error is None or cost.carried_from else f"{cost.curve_error:.1%}"
    return Row((name, *(_time(cost, size) for size in _SHOWN_BYTES), off))


def _time(cost: CostModel, size: int) -> Cell:
    text = format_seconds(cost_s(cost, size))
    return Cell(text) if is_measured(cost, size) else Cell(f"~{text}", "faint")


def _findings(costs: Sequence[CostModel]) -> Iterator[Block]:
    for cost in costs:
        where = f"{cost.op} on {cost.world_size} ranks"
        if (unmeasured := unmeasured_buckets(cost)) is not None:
            yield _wrapped(f"{where}: {unmeasured}")
        for switch in cost.switches:
            before, after = format_bytes(switch.previous_bytes), format_bytes(switch.message_bytes)
            yield _wrapped(
                f"{where}: another protocol or algorithm from {after} on: {switch.factor:.2f} times the time that the sizes "
                f"up to {before} lead to"
            )
        for size in cost.set_aside:
            yield _wrapped(
                f"{where}: {format_bytes(size.message_bytes)} set aside: {size.factor:.1f} times {size.reason}", "note"
            )


def _carrying(cost: CostModel) -> Iterator[Block]:
    yield _wrapped(
        f"{cost.op} on {cost.world_size} ranks, {cost.verdict} by the form: {cost.form}; latency "
        f"{format_seconds(cost.latency_s)}, busbw {format_rate(cost.busbw_bytes_per_s)}"
    )
    yield from (_wrapped(f"  - {doubt}") for doubt in cost.doubts)


def explained_sheet(found: Sequence[Scaling]) -> list[Block]:
    """Say which laws the times of a training obey."""
    return joined([[Words(text, break_on_hyphens=True) for text in each.explain().splitlines()] for each in found])


def order_sheet(name: str, order: RingOrder | str, message_bytes: int) -> list[Block]:
    """Say in which order a ring over the ranks that were measured pairwise would be fastest, or why that is not told."""
    if isinstance(order, str):
        return [_wrapped(f"{name}: the ring's best order cannot be told: {order}")]
    size, now, then = format_bytes(message_bytes), format_seconds(order.rank_order_s), format_seconds(order.ring_s)
    if order.gain < _WORTH_SAYING:
        return [_wrapped(f"{name}: by its pairs, a ring over the ranks as they are is as fast as in any other order found")]
    return [
        _wrapped(f"{name}: by its pairs, a ring is fastest over the ranks {' '.join(map(str, order.ranks))}", "strong"),
        _wrapped(
            f"an all-reduce of {size} then takes about {then}, in the order of ranks {now} ({order.gain:.0%} less); list the "
            "hosts in that order when the job is started: rings between hosts go by rank"
        ),
    ]


def _wrapped(text: str, tone: Tone = "plain") -> Words:
    own = text.lstrip()
    indent = " " * (len(text) - len(own))
    return Words(own, indent, indent + "    ", tone, break_long_words=False)
