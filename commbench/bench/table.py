"""The nccl-tests table: same columns, same units, so that eyes and parsers that know it need nothing new.

`time` is the median over samples of the slowest rank, in us; algbw and busbw are GB/s of 1e9 bytes; sizes are bytes. The
sweep's two placements stand side by side, as nccl-tests has them; a second mode adds two more. No rate is ever averaged, so
the footer names the best bandwidth instead of nccl-tests' mean over all sizes, which depends on where the sweep begins.

On a terminal of fewer columns than that takes, the columns that are the same in every row stay away, each mode has a line of
its own, and what --stats adds is a second table.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from commprof.commbench.bench.ceiling import Ceiling, share_reached
from commprof.commbench.bench.plan import BenchPlan, Cell, Mode
from commprof.commbench.records.operations import DATA_TYPES
from commprof.commbench.records.types import BurstMeasurement, CollectiveMeasurement, RunInfo
from commprof.commbench.spread import quantile, relative_half_width
from commprof.commbench.units import format_bytes, format_rate, format_seconds, printable

_LEFT = "{:>12}  {:>12}  {:>8}  {:>6}  {:>6}"
_HALF = "{:>7}  {:>6}  {:>6}  {:>6}"
_STATS = "{:>7}  {:>7}  {:>7}  {:>7}  {:>4}"
_STATS_NAMES, _STATS_UNITS = ("min", "p95", "p99", "max", "+-%"), ("(us)", "(us)", "(us)", "(us)", "")
_NARROW = 80
_LABEL = "{:>12}  {:>24}"


def fits(plan: BenchPlan, columns: int, *, stats: bool) -> bool:
    """Say whether the whole table has room in so many columns."""
    return len(_columns(plan.cells, stats)[1]) <= columns


def header(run: RunInfo, plan: BenchPlan, ceiling: Ceiling, *, stats: bool, narrow: bool = False) -> str:
    """Say who takes part and what the wire could carry at best, before anything is measured."""
    lines = [f"# commprof bench {plan.op}: {run.world_size} ranks, backend {run.backend}", "#", "# Using devices"]
    lines += [
        f"#  Rank {rank.rank:2d} on {printable(rank.hostname)} device {rank.local_rank:2d} "
        f"[{printable(rank.pci_bus_id or 'host')}] {printable(rank.device_name)}"
        for rank in run.ranks
    ]
    limit = f"{format_rate(ceiling.bytes_per_s)} on the wire: " if ceiling.bytes_per_s else "unknown: "
    lines += ["#", f"# Theoretical ceiling {limit}{printable(ceiling.reason)}", f"# {_method(plan)}"]
    if narrow:
        lines = _folded(lines)
    columns = _narrow_columns(plan.cells) if narrow else _columns(plan.cells, stats)
    return "\n".join([*lines, "#", *(columns if plan.cells else [])])


def row(plan: BenchPlan, measured: Mapping[Cell, CollectiveMeasurement], *, stats: bool, narrow: bool = False) -> str:
    """Format one size; a cell that was not measured shows N/A."""
    if narrow:
        return "\n".join(_narrow_rows(plan, measured))
    any_one = next(iter(measured.values()))
    type_name, reduction = DATA_TYPES[any_one.dtype].nccl_name, any_one.reduction or "none"
    root = -1 if any_one.root is None else any_one.root
    left = _LEFT.format(any_one.message_bytes, any_one.num_elements, type_name, reduction, root)
    halves = [_half(measured.get(cell), stats) for cell in shown_cells(plan.cells)]
    return "  ".join([left, *halves])


def stats_table(measurements: Sequence[CollectiveMeasurement]) -> str:
    """Lay out what --stats adds, a line a size and cell, where it has no room beside the times."""
    names, units = _STATS.format(*_STATS_NAMES), _STATS.format(*_STATS_UNITS)
    lines = [f"{_LABEL.format('size', 'call')}  {names}", f"{_LABEL.format('(B)', '')}  {units}".rstrip()]
    rows = (f"{_LABEL.format(m.message_bytes, _named(m))}  {_spread(m)}" for m in measurements)
    return "\n".join(["#", *(line.replace(" ", "#", 1) for line in lines), *rows])


def footer(measurements: Sequence[CollectiveMeasurement], ceiling: Ceiling, *, narrow: bool = False) -> str:
    """Close the table: wrong elements over all sizes, best bandwidth and its share of the ceiling, cold calls, second tries."""
    if not measurements:
        return "#"
    lines = [f"# Out of bounds values : {_wrong([m.num_wrong for m in measurements])}"]
    best = max(measurements, key=lambda m: m.busbw_bytes_per_s, default=None)
    if best is not None and best.message_bytes and best.world_size > 1:
        size = format_bytes(best.message_bytes)
        share = share_reached(best, ceiling)
        reached = f", {share:.0%} of the ceiling as a {ceiling.algorithm}" if share is not None else ""
        lines.append(f"# Best bus bandwidth   : {format_rate(best.busbw_bytes_per_s)} at {size}{reached}")
    cold = max((m for m in measurements if m.cold_s), key=lambda m: (m.cold_s or 0) / m.median_s, default=None)
    if cold is not None and cold.cold_s is not None:
        times = f"{cold.cold_s / cold.median_s:.3g} times the median ({format_seconds(cold.cold_s)})"
        lines.append(f"# Slowest first call   : {times} at {format_bytes(cold.message_bytes)}, not in the samples")
    again = [(m, second) for m in measurements for second in m.remeasured]
    if again:
        calm = sum(second.slowest_rank_s < m.slowest_rank_s[second.iteration] / 1.5 for m, second in again)
        lines.append(f"# Far-out samples      : {len(again)} tried again, {calm} of them were fast the second time")
    return "\n".join([*(_folded(lines) if narrow else lines), "#"])


def burst_text(burst: BurstMeasurement) -> str:
    """Say what a burst of buckets took, in all and bucket by bucket."""
    total = quantile(burst.slowest_rank_s, 0.5)
    num_bytes = sum(burst.bucket_bytes)
    rate = format_rate(num_bytes / total)
    lines = [
        f"# Burst: {printable(burst.source)}, {format_bytes(num_bytes)} in all, {len(burst.slowest_rank_s)} samples",
        f"# total {format_seconds(total)} (p95 {format_seconds(quantile(burst.slowest_rank_s, 0.95))}), algbw {rate}, "
        f"wrong {_wrong([burst.num_wrong])}",
        "#  bucket          size      landed    after the one before",
        "#                   (B)        (us)        (us)",
    ]
    before_s = 0.0
    for index, size in enumerate(burst.bucket_bytes):
        landed_s = quantile([done[index] for done in burst.done_s], 0.5)
        lines.append(f"  {index:7d}  {size:12d}  {landed_s * 1e6:10.1f}  {(landed_s - before_s) * 1e6:10.1f}")
        before_s = landed_s
    return "\n".join([*lines, "#"])


def shown_cells(cells: Sequence[Cell]) -> list[Cell]:
    """Return the table's halves: out of place, then in place, for each mode, whether or not both are measured."""
    return [Cell(mode=mode, in_place=in_place) for mode in _modes(cells) for in_place in (False, True)]


def _columns(cells: Sequence[Cell], stats: bool) -> list[str]:
    shown = shown_cells(cells)
    several = len(shown) > 2
    titles = [f"{cell.mode} " * several + ("in-place" if cell.in_place else "out-of-place") for cell in shown]
    names = [_HALF.format("time", "algbw", "busbw", "#wrong")] + [_STATS.format(*_STATS_NAMES)] * stats
    units = [_HALF.format("(us)", "(GB/s)", "(GB/s)", "")] + [_STATS.format(*_STATS_UNITS)] * stats
    width = len("  ".join(names))
    return [
        "  ".join([_LEFT.format(*[""] * 5), *(f"{title:^{width}}" for title in titles)]).replace(" ", "#", 1).rstrip(),
        "  ".join([_LEFT.format("size", "count", "type", "redop", "root"), *names * len(shown)]).replace(" ", "#", 1),
        "  ".join([_LEFT.format("(B)", "(elements)", "", "", ""), *units * len(shown)]).replace(" ", "#", 1).rstrip(),
    ]


def _method(plan: BenchPlan) -> str:
    effort = plan.effort
    enough = (
        f"{effort.iterations} samples a size"
        if effort.iterations is not None
        else f"each median to {effort.precision:.2g} of itself (95 % interval), {effort.budget_s:g} s in all"
    )
    buffers = "one buffer (hot)" if plan.hot else "buffers larger than the cache in turn"
    modes = " and ".join([*dict.fromkeys(cell.mode for cell in plan.cells), *(["burst"] if plan.bucket_bytes else [])])
    return f"Timing {modes}, {enough}, {plan.warmup_iterations} warm-up calls at most, {buffers}"


def _half(measured: CollectiveMeasurement | None, stats: bool) -> str:
    if measured is None:
        return "  ".join([_HALF.format(*["N/A"] * 4)] + [_STATS.format(*["N/A"] * 5)] * stats)
    wrong = "N/A" if measured.num_wrong is None else measured.num_wrong
    rates = (f"{rate / 1e9:.2f}" for rate in (measured.algbw_bytes_per_s, measured.busbw_bytes_per_s))
    half = _HALF.format(_time(measured.median_s), *rates, wrong)
    if not stats:
        return half
    return f"{half}  {_spread(measured)}"


def _spread(measured: CollectiveMeasurement) -> str:
    samples = measured.slowest_rank_s
    times = [_time(quantile(samples, q)) for q in (0.0, 0.95, 0.99, 1.0)]
    off = 100 * relative_half_width(samples)
    return _STATS.format(*times, f"{off:.1f}" if off < 99.95 else ">99")


def _named(measured: CollectiveMeasurement) -> str:
    return f"{measured.mode} {'in-place' if measured.in_place else 'out-of-place'}"


def _folded(lines: Sequence[str]) -> list[str]:
    return [part for line in lines for part in textwrap.wrap(line, _NARROW, subsequent_indent="#   ") or ["#"]]


def _narrow_columns(cells: Sequence[Cell]) -> list[str]:
    half, modes = _HALF.format("time", "algbw", "busbw", "#wrong"), _modes(cells)
    titles = "  ".join(f"{place:^{len(half)}}" for place in ("out-of-place", "in-place"))
    units = "  ".join([_HALF.format("(us)", "(GB/s)", "(GB/s)", "")] * 2)
    told = [f"# {', '.join(f'{mode[0]} {mode}' for mode in modes)}"] if len(modes) > 1 else []
    lines = [f"{'':>12}  {titles}", f"{'size':>12}  {half}  {half}", f"{'(B)':>12}  {units}"]
    return [*told, *(line.replace(" ", "#", 1).rstrip() for line in lines)]


def _narrow_rows(plan: BenchPlan, measured: Mapping[Cell, CollectiveMeasurement]) -> Iterator[str]:
    size, modes = next(iter(measured.values())).message_bytes, _modes(plan.cells)
    for mode in modes:
        halves = [_half(measured.get(Cell(mode=mode, in_place=in_place)), stats=False) for in_place in (False, True)]
        label = f"{mode[0]} {size:>10}" if len(modes) > 1 else f"{size:>12}"
        yield "  ".join([label, *halves])


def _modes(cells: Sequence[Cell]) -> list[Mode]:
    return list(dict.fromkeys(cell.mode for cell in cells))


def _time(seconds: float) -> str:
    """Write us in seven characters as long as they last; always at least one digit of a us."""
    return f"{seconds * 1e6:.2f}" if seconds * 1e6 < 9999.995 else f"{seconds * 1e6:.0f}"


def _wrong(counts: Sequence[int | None]) -> str:
    checked = [count for count in counts if count is not None]
    return f"{sum(checked)} {'OK' if not any(checked) else 'FAILED'}" if checked else "not checked"
