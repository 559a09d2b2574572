"""How are DDP's buckets and the cost of a collective shown to people?"""

from collections.abc import Sequence

from commprof.analysis.traces.all_ranks.buckets import BucketStep, BucketSummary, summarise_buckets
from commprof.analysis.traces.all_ranks.cost import TraceCost
from commprof.analysis.traces.shown.groups import with_group
from commprof.commbench.display.sheet import Block, Column, Row, Table, Words, line
from commprof.commbench.units import format_bytes, format_rate, format_seconds

_MAX_ROWS = 16
_TIMES = ("ready", "launch", "start", "end", "transfer")
_OURS, _ANYBODYS = "DDP's buckets", "gradient buckets"  # all-reduces in backward may be DeepSpeed's as well
_NAMED = "Ready is when DDP handed the bucket over."
_UNNAMED = "The trace does not mark buckets: they are the all-reduces in backward, and ready is the launch."


def bucket_blocks(steps: Sequence[BucketStep]) -> list[Block]:
    """Return the table of DDP's buckets and the sentence under it; nothing where there are none."""
    buckets = summarise_buckets(steps)
    if not buckets:
        return []
    columns = (
        Column(name="bucket", width=12, left=True, before="", folds=True, key=True),
        Column(name="size", width=10, before=" "),
        *(Column(name=name, width=max(7, len(name)), before=" ") for name in _TIMES),
        *(Column(name=name, width=7, before=" ") for name in ("hidden", "exposed")),
    )
    marked = all(own.named for own in buckets)
    num_ranks, num_steps = len({own.rank for own in steps}), len({own.step for own in steps})
    seen = f"Seen on {num_ranks} rank{'s' * (num_ranks > 1)} in {num_steps} step{'s' * (num_steps > 1)}."
    more = len(buckets) - _MAX_ROWS
    return [
        line(f"{_OURS if marked else _ANYBODYS} (medians over steps, means over ranks; since backward began)", "strong"),
        Table(columns=columns, rows=[_bucket_row(own) for own in buckets[:_MAX_ROWS]]),
        *([line(f"and {more} other buckets; --json has all")] if more > 0 else []),
        Words(f"{_NAMED if marked else _UNNAMED} {seen}"),
    ]


def _bucket_row(own: BucketSummary) -> Row:
    size = "?" if own.message_bytes is None else format_bytes(own.message_bytes)
    times = (format_seconds(getattr(own, f"{name}_s")) for name in _TIMES)
    shares = ("-" if share is None else f"{share:.0%}" for share in (own.hidden_share, own.exposed_share))
    return Row((with_group(str(own.bucket), own.group), size, *times, *shares))


def cost_sentences(costs: Sequence[TraceCost]) -> list[str]:
    """Say what each operation costs as a line over size; where there is no line, why there is none for what moved most."""
    lines = [own for own in costs if own.line is not None]
    return [_cost_sentence(own) for own in lines or sorted(costs, key=lambda own: -sum(own.message_bytes))[:1]]


def _cost_sentence(own: TraceCost) -> str:
    if own.line is None:
        return f"No line over size for {own.op}: {own.refusal}."
    line = own.line
    low, high = line.bandwidth_interval.low, line.bandwidth_interval.high
    busbw = "" if own.busbw_bytes_per_s is None else f" (busbw {format_rate(own.busbw_bytes_per_s)})"
    return (
        f"{own.op} on {own.num_ranks} ranks takes {format_seconds(line.latency_s)} + size / "
        f"{format_rate(line.bandwidth_bytes_per_s)}{busbw}; the line is off by {line.error:.0%} in the median over "
        f"{len(own.message_bytes)} sizes, its bandwidth is {format_rate(low)} to {format_rate(high)} (95 %)."
    )
