"""The fitted wire in words and columns, 80 wide but for names.

First each collective's line, which people compare; then the times of the curve, which predictions use; then where the curve
was disturbed, changes its course or was carried over, and what speaks against it.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from commprof.analysis.wire.benched import Unusable
from commprof.analysis.wire.cost import cost_s, is_measured
from commprof.analysis.wire.other_world_sizes import RING
from commprof.analysis.wire.outside_sweep import unmeasured_buckets
from commprof.analysis.wire.results import CostModel
from commprof.commbench.units import format_bytes, format_rate, format_seconds, printable

_WIDTH = 80
_SHOWN_BYTES = (2**20, 8 * 2**20, 25 * 2**20, 64 * 2**20, 256 * 2**20)  # 1 and 25 MiB are DDP's first bucket and its others


def fit_text(
    costs: Sequence[CostModel],
    carried: Sequence[CostModel] = (),
    unusable: Sequence[Unusable] = (),
    published: Mapping[str, CostModel] | None = None,
) -> str:
    """Lay out everything that `commprof fit` found."""
    lines: list[str] = []
    for op, dtype in dict.fromkeys((cost.op, cost.dtype) for cost in costs):
        alike = [cost for cost in costs if (cost.op, cost.dtype) == (op, dtype)]
        lines += [*_lines(alike), ""]
    lines += _times([*costs, *carried], published or {})
    lines += _findings(costs)
    for cost in carried:
        lines += ["", *_carrying(cost)]
    lines += [_wrapped(f"{u.op} of {u.dtype} on {u.world_size} ranks: unusable: {printable(u.reason)}") for u in unusable]
    return "\n".join(lines)


def _lines(costs: Sequence[CostModel]) -> Iterator[str]:
    """Yield the table of the fitted lines of one collective, 95 % intervals in brackets."""
    of = "" if costs[0].dtype == "float32" else f" of {costs[0].dtype}"
    ring = f"  (ring: latency = {RING.formula.split(' + ', maxsplit=1)[0]})" if costs[0].op == "all_reduce" else ""
    yield _wrapped(f"{costs[0].op.replace('_', '-')}{of} on p ranks: t = latency + S/bandwidth{ring}")
    yield ""
    yield f"{'ranks':>5} {'latency':>25}  {'bandwidth (algbw)':>25}  {'busbw':>10} half-size"
    for cost in costs:
        latency, bandwidth = format_seconds(cost.latency_s), format_rate(cost.bandwidth_bytes_per_s)
        if not cost.single_samples:
            low, high = cost.latency_interval_s.low, cost.latency_interval_s.high
            latency += f" [{format_seconds(low)}, {format_seconds(high)}]"
            unit = 1e9 if bandwidth.endswith(" GB/s") else 1e6
            slow, fast = cost.bandwidth_interval.low / unit, cost.bandwidth_interval.high / unit
            bandwidth += f" [{slow:.3g}, {fast:.3g}]"
        yield (
            f"{cost.world_size:>5} {latency:>25}  {bandwidth:>25}  {format_rate(cost.busbw_bytes_per_s):>10} "
            f"{format_bytes(cost.half_bandwidth_bytes)}"
        )
    for cost in costs:
        no_interval = ", one a size and so no interval" if cost.single_samples else ""
        yield _wrapped(f"{cost.world_size:>5} ranks, {cost.num_samples} samples{no_interval}: {cost.verdict}")


def _times(costs: Sequence[CostModel], published: Mapping[str, CostModel]) -> Iterator[str]:
    """Yield the curves' times at a few sizes, and how far each is off where a size is left out."""
    yield f"{'one call, on the curve':26}" + "".join(f"{format_bytes(size):>9}" for size in _SHOWN_BYTES) + f"{'off by':>8}"
    for cost in costs:
        yield _row(f"{cost.op}, {cost.world_size} ranks", cost)
    for name, cost in published.items():
        yield _row(name, cost)
    shown = [*costs, *published.values()]
    if any(cost.carried_from or not all(is_measured(cost, size) for size in _SHOWN_BYTES) for cost in shown):
        yield "~ not measured: outside the sweep, on the fitted line, or carried over"
    yield _wrapped(
        "off by: sizes from 1 to 256 MiB (from 256 KiB up where none lies there) left out and taken from neighbours, mean"
    )


def _row(name: str, cost: CostModel) -> str:
    times = (f"{'' if is_measured(cost, size) else '~'}{format_seconds(cost_s(cost, size))}" for size in _SHOWN_BYTES)
    off = "-" if cost.curve_error is None or cost.carried_from else f"{cost.curve_error:.1%}"
    return f"{name:26}" + "".join(f"{time:>9}" for time in times) + f"{off:>8}"


def _findings(costs: Sequence[CostModel]) -> Iterator[str]:
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
            yield _wrapped(f"{where}: {format_bytes(size.message_bytes)} set aside: {size.factor:.1f} times {size.reason}")


def _carrying(cost: CostModel) -> Iterator[str]:
    yield _wrapped(
        f"{cost.op} on {cost.world_size} ranks, {cost.verdict} by the form: {cost.form}; latency "
        f"{format_seconds(cost.latency_s)}, busbw {format_rate(cost.busbw_bytes_per_s)}"
    )
    yield from (_wrapped(f"  - {doubt}") for doubt in cost.doubts)


def _wrapped(text: str) -> str:
    indent = " " * (len(text) - len(text.lstrip()) + 4)
    return textwrap.fill(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
