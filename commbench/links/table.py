"""Links in text: copies by the line, messages as two matrices, and which link is slower than it should be.

A link is the two orders of two ranks, each measured at its own time. It stands out when, in both orders, even the low end of
its median's 95 % interval lies above the median of all links by more than a tenth and by more than what samples of a link
usually spread (their 90th percentile over their median). Matrices are in us and in GB/s of 1e9 bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from commprof.commbench.records.links import LinkMeasurement, PairMeasurement
from commprof.commbench.records.types import RunInfo
from commprof.commbench.spread import median_interval, quantile
from commprof.commbench.units import format_bytes, printable

_NOTABLE = 1.1  # links of one kind differ by a few per cent without anything being wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowestLink:
    """The slowest of `num_links` at one size. `standing_out` are all links that do, slowest first; most often none."""

    ends: tuple[str, str]
    median_s: float
    typical_s: float
    num_links: int
    standing_out: tuple[tuple[str, str], ...]

    @property
    def stands_out(self) -> bool:
        return self.ends in self.standing_out

    @property
    def shared_end(self) -> str | None:
        """The rank at one end of every link that stands out, where several do and they share just one."""
        shared = set.intersection(*map(set, self.standing_out)) if len(self.standing_out) > 1 else set()
        return shared.pop() if len(shared) == 1 else None


def slowest_link(measured: Sequence[LinkMeasurement]) -> SlowestLink | None:
    """Return the slowest link among messages of one size; None below two links, which leave nothing to compare."""
    assert len({m.message_bytes for m in measured}) <= 1
    links: dict[tuple[str, str], list[LinkMeasurement]] = {}
    for measurement in measured:
        first, second = sorted((measurement.source, measurement.target), key=_number)
        links.setdefault((first, second), []).append(measurement)
    if len(links) < 2:
        return None
    medians = {ends: median(sample for m in orders for sample in m.samples_s) for ends, orders in links.items()}
    typical_s = median(medians.values())
    spread = median(quantile(m.samples_s, 0.9) / m.median_s for m in measured)
    limit_s = typical_s * max(_NOTABLE, spread)
    by_time = sorted(links, key=lambda ends: -medians[ends])
    return SlowestLink(
        ends=by_time[0],
        median_s=medians[by_time[0]],
        typical_s=typical_s,
        num_links=len(links),
        standing_out=tuple(ends for ends in by_time if all(median_interval(m.samples_s)[0] > limit_s for m in links[ends])),
    )


def describe_slowest(slowest: SlowestLink | None, *, latency: bool) -> str:
    """Say in one line which link is the slowest, how far it is from the median link, and whether that matters."""
    if slowest is None:
        return "# only one link, so none to compare it with"
    ratio = slowest.median_s / slowest.typical_s
    far = f"{ratio - 1:.0%} above" if latency else f"{1 - 1 / ratio:.0%} below"
    place = f"{slowest.ends[0]} - {slowest.ends[1]}, {far} the median of {slowest.num_links} links"
    if not slowest.stands_out:
        return f"# no link stands out: the slowest is {place}, within the spread"
    line = f"# the slowest link is {place}"
    others = len(slowest.standing_out) - 1
    if slowest.shared_end is not None:
        return f"{line}; all {others + 1} slow links end at {slowest.shared_end}: look there first"
    return f"{line}; {others} more stand out" if others else line


def header(run: RunInfo) -> str:
    """Say who takes part."""
    lines = [f"# commprof links: {run.world_size} ranks, backend {run.backend}"]
    lines += [
        f"#  rank{rank.rank} on {printable(rank.hostname)} "
        f"[{printable(rank.pci_bus_id or 'host')}] {printable(rank.device_name)}"
        for rank in run.ranks
    ]
    if len({rank.hostname for rank in run.ranks}) == 1:
        lines.append("# one host: these links lie inside it, and nothing here tells of a network")
    return "\n".join(lines)


COPY_COLUMNS = f"""\
#
# Copies on rank 0's host; latency of the smallest size, rate of the largest
# {"from":>6} {"to":>6}  {"memory":>8}  {"peer access":>11}  {"connection":>10}  {"latency (us)":>12}  {"rate (GB/s)":>11}"""


def copy_row(measured: Sequence[LinkMeasurement]) -> str:
    """Sum up one copy over its sizes, smallest first."""
    smallest, largest = measured[0], measured[-1]
    memory = {None: "-", True: "pinned", False: "pageable"}[largest.pinned]
    peer = {None: "-", True: "yes", False: "no"}[largest.peer_access]
    between = printable(largest.connection or "-")
    return (
        f"  {largest.source:>6} {largest.target:>6}  {memory:>8}  {peer:>11}  {between:>10}  "
        f"{smallest.median_s * 1e6:>12.2f}  {largest.bandwidth_bytes_per_s / 1e9:>11.2f}"
    )


def matrices(measured: Sequence[LinkMeasurement]) -> str:
    """Lay out messages between ranks: latency at the smallest size, bandwidth at the largest, and the slowest link of each."""
    smallest, largest = min(m.message_bytes for m in measured), max(m.message_bytes for m in measured)
    small = [m for m in measured if m.message_bytes == smallest]
    large = [m for m in measured if m.message_bytes == largest]
    return "\n".join(
        [
            f"#\n# Latency (us): half a round trip of {format_bytes(smallest)}; the row's rank sends first",
            _matrix(small, lambda m: m.median_s * 1e6),
            describe_slowest(slowest_link(small), latency=True),
            f"#\n# Bandwidth (GB/s): {format_bytes(largest)} over half a round trip",
            _matrix(large, lambda m: m.bandwidth_bytes_per_s / 1e9),
            describe_slowest(slowest_link(large), latency=False),
        ]
    )


def between_hosts(measured: Sequence[PairMeasurement], run: RunInfo) -> str:
    """Lay out, by rank, the medians over its partners on other hosts: latency, what it sends and what it receives."""
    smallest, largest = min(m.message_bytes for m in measured), max(m.message_bytes for m in measured)
    host_of = {own.rank: printable(own.hostname) for own in run.ranks}
    width = max(len(name) for name in (*host_of.values(), "# host"))
    rounds = len({m.round for m in measured})
    lines = [
        f"#\n# Between hosts, one way, in {rounds} rounds of pairs at one time: medians over a rank's partners",
        f"# latency: half of {format_bytes(smallest)} and back; rates: {format_bytes(largest)} over its time with an answer",
        f"{'# host':{width}}  {'rank':>6}  {'partners':>8}  {'latency (us)':>12}  "
        f"{'sends (GB/s)':>12}  {'receives (GB/s)':>15}",
    ]
    for rank in sorted({m.sender for m in measured} | {m.receiver for m in measured}):
        sent, received = [m for m in measured if m.sender == rank], [m for m in measured if m.receiver == rank]
        trips_s = [sample for m in sent if m.message_bytes == smallest for sample in m.samples_s]
        rates = [_median_rate([m for m in ones if m.message_bytes == largest]) for ones in (sent, received)]
        lines.append(
            f"{host_of[rank]:{width}}  {rank:>6}  {len({m.receiver for m in sent}):>8}  {median(trips_s) / 2 * 1e6:>12.2f}  "
            f"{rates[0] / 1e9:>12.3f}  {rates[1] / 1e9:>15.3f}"
        )
    return "\n".join([*lines, "# is a host slow, and how sure is that? commprof check on this run"])


def _median_rate(measured: Sequence[PairMeasurement]) -> float:
    return median(m.message_bytes / sample for m in measured for sample in m.samples_s)


def _matrix(cells: Sequence[LinkMeasurement], value: Callable[[LinkMeasurement], float]) -> str:
    names = sorted({m.source for m in cells}, key=_number)
    shown = {(m.source, m.target): f"{value(m):.2f}" for m in cells}
    rows = [("#", *names), *((row, *(shown.get((row, column), "-") for column in names)) for row in names)]
    return "\n".join(f"{head:8}" + "".join(f"{text:>10}" for text in cells) for head, *cells in rows)


def _number(end: str) -> int:
    return int(end.removeprefix("rank"))
