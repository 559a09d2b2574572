"""What a report says of single links: pairs of ranks as a heat map, pairs of hosts, and copies to, from and between GPUs."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from commprof.analysis.report.figures.links import MAX_RANKS, link_figure
from commprof.analysis.report.numbers.data import Material
from commprof.analysis.report.page.html import Cell, Noted, Picture, Section, Table, between
from commprof.analysis.runs.load import Run
from commprof.commbench.links.table import SlowestLink, describe_slowest, slowest_link
from commprof.commbench.records.links import LinkMeasurement, PairMeasurement
from commprof.commbench.spread import quantile
from commprof.commbench.units import format_bytes, format_rate, format_seconds

_MAX_RUNS = 4
_MAX_ROWS = 64
_RANK = re.compile(r"rank(\d{1,7})")
_COPIES = {None: "-", True: "pinned", False: "pageable"}
_ALONE = "One link works while all others rest, so that a slow pair cannot hide behind a ring."
_PEERS = {None: "-", True: "yes", False: "no"}


def link_section(material: Material) -> Section | None:
    """Return the links of every run that measured some; None without any."""
    measured = [run for run in material.runs if run.links or run.pairs]
    if not measured:
        return None
    shown = measured[-_MAX_RUNS:]
    usable = {run.path.name: [link for link in run.links if _possible(link)] for run in shown}
    messages = {name: [link for link in links if link.kind == "send_recv"] for name, links in usable.items()}
    copies = {name: [link for link in links if link.kind != "send_recv"] for name, links in usable.items()}
    return Section(
        name="links",
        title="Links one at a time",
        folded=material.predicted is not None,
        sentences=(
            *(words for name, links in messages.items() for words in _words(name, links)),
            *(words for run in shown for words in _words_between(run)),
            *(_ALONE for _ in shown[:1] if any(usable.values())),
        ),
        pictures=tuple(
            picture for number, (name, links) in enumerate(messages.items()) for picture in _pictures(number, name, links)
        ),
        tables=(
            *(_copy_table(name, links) for name, links in copies.items() if links),
            *(_pair_table(name, links) for name, links in messages.items() if links),
            *(_table_between(run, ways) for run in shown if (ways := _ways(run))),
        ),
        remarks=tuple(_left_out(measured, shown, usable)),
    )


def _possible(link: LinkMeasurement) -> bool:
    """Say whether a measurement can be drawn: where it is a message, it goes between two ranks."""
    two = link.source != link.target and bool(_RANK.fullmatch(link.source)) and bool(_RANK.fullmatch(link.target))
    return link.kind != "send_recv" or two


def _left_out(measured: Sequence[Run], shown: Sequence[Run], usable: dict[str, list[LinkMeasurement]]) -> Iterator[str]:
    if len(measured) > len(shown):
        yield f"The links of {len(measured) - len(shown)} earlier runs are not shown; name those runs alone."
    for run in shown:
        if lost := len(run.links) - len(usable[run.path.name]):
            yield f"{run.path.name}: {lost} measurements without two ranks were left out."


def _ends(links: Sequence[LinkMeasurement]) -> tuple[list[LinkMeasurement], list[LinkMeasurement]]:
    """Return the messages of the smallest size, which tell latency, and of the largest, which tell bandwidth."""
    sizes = sorted({link.message_bytes for link in links})
    small, large = ([link for link in links if link.message_bytes == size] for size in (sizes[0], sizes[-1]))
    return small, large


def _words(name: str, links: Sequence[LinkMeasurement]) -> Iterator[str]:
    """Say which link is the slowest at each end of the sizes, and whether that matters."""
    if not links:
        return
    small, large = _ends(links)
    yield f"{name}, latency: {describe_slowest(slowest_link(small), latency=True).removeprefix('# ')}."
    if large != small:
        yield f"{name}, bandwidth: {describe_slowest(slowest_link(large), latency=False).removeprefix('# ')}."


def _pictures(number: int, name: str, links: Sequence[LinkMeasurement]) -> Iterator[Picture]:
    if not links or len({end for link in links for end in (link.source, link.target)}) > MAX_RANKS:
        return
    small, large = _ends(links)
    yield _picture(f"latency-matrix-{number}", name, small, latency=True)
    if large != small:
        yield _picture(f"bandwidth-matrix-{number}", name, large, latency=False)


def _picture(figure_name: str, name: str, links: Sequence[LinkMeasurement], *, latency: bool) -> Picture:
    size = format_bytes(links[0].message_bytes)
    slowest = slowest_link(links)
    unit = "us" if latency else "GB/s"
    samples = sum(len(link.samples_s) for link in links)
    return Picture(
        name=figure_name,
        title=f"{name}: {f'latency, {size}' if latency else f'bandwidth, {size}'}",
        draw=partial(
            link_figure,
            {_pair(link): link.median_s for link in links},
            {_pair(link): _number(link, latency=latency) for link in links},
            unit,
            _framed(links, slowest),
        ),
        alt=f"Matrix of links between ranks. {describe_slowest(slowest, latency=latency).removeprefix('# ')}.",
        caption=f"Half a round trip of {size}, medians ({unit}); the row's rank sends first. Darker is slower; where all "
        f"links are within 1.5 times of the fastest, none is dark. {samples} samples over {len(links)} ordered pairs.",
        sources=(f"{name}/links.jsonl",),
    )


def _number(link: LinkMeasurement, *, latency: bool) -> str:
    value = link.median_s * 1e6 if latency else link.bandwidth_bytes_per_s / 1e9
    return f"{value:.3g}" if value < 999.5 else f"{value:.0f}"


def _framed(links: Sequence[LinkMeasurement], slowest: SlowestLink | None) -> list[tuple[int, int]]:
    standing_out = {frozenset(ends) for ends in slowest.standing_out} if slowest else set()
    return [_pair(link) for link in links if frozenset((link.source, link.target)) in standing_out]


def _pair(link: LinkMeasurement) -> tuple[int, int]:
    return int(link.source.removeprefix("rank")), int(link.target.removeprefix("rank"))


def _pair_table(name: str, links: Sequence[LinkMeasurement]) -> Table:
    small, large = _ends(links)
    rates = {_pair(link): link for link in large}
    slowest = sorted(small, key=lambda link: -link.median_s)
    more = f" The {_MAX_ROWS} of {len(slowest)} with the highest latency." if len(slowest) > _MAX_ROWS else ""
    chosen = sorted(slowest[:_MAX_ROWS], key=_pair)
    rows = tuple((*map(str, _pair(link)), *_latency(link), *_bandwidth(rates.get(_pair(link)))) for link in chosen)
    return Table(
        title=f"{name}: every pair in numbers",
        note="Medians, and below them the 10th to the 90th percentile of the samples." + more,
        head=(
            *("From", "To", f"Latency ({format_bytes(small[0].message_bytes)})", "Samples"),
            *(f"Bandwidth ({format_bytes(large[0].message_bytes)})", "Samples"),
        ),
        rows=rows,
        words=frozenset(),
        folded=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """One size, one way between two ranks on different hosts, over all rounds in which they met."""

    message_bytes: int
    samples_s: tuple[float, ...]

    @property
    def median_s(self) -> float:
        return quantile(self.samples_s, 0.5)

    @property
    def bandwidth_bytes_per_s(self) -> float:
        return self.message_bytes / self.median_s


def _ways(run: Run) -> dict[tuple[int, int], tuple[_Way, _Way]]:
    """Return by sender and receiver what the smallest and the largest size took, the smallest as half of a round trip."""
    sizes = sorted({pair.message_bytes for pair in run.pairs})
    found: dict[tuple[int, int], tuple[_Way, _Way]] = {}
    for ends in sorted({(pair.sender, pair.receiver) for pair in run.pairs}):
        own = [pair for pair in run.pairs if (pair.sender, pair.receiver) == ends]
        ways = (_way(own, sizes[0], share=0.5), _way(own, sizes[-1], share=1.0))
        if all(way.samples_s for way in ways):  # a run that was stopped may have only one of the sizes
            found[ends] = ways
    return found


def _way(pairs: Sequence[PairMeasurement], message_bytes: int, *, share: float) -> _Way:
    samples_s = (sample * share for pair in pairs if pair.message_bytes == message_bytes for sample in pair.samples_s)
    return _Way(message_bytes=message_bytes, samples_s=tuple(samples_s))


def _words_between(run: Run) -> Iterator[str]:
    """Say what pairs of hosts reach, and who says whether a host is slow."""
    if not (ways := _ways(run)):
        return
    rates = sorted(large.bandwidth_bytes_per_s for _, large in ways.values())
    yield (
        f"{run.path.name}, between hosts: {len(rates)} ways from rank to rank reach "
        f"{between(rates[0], rates[-1], format_rate)}, all pairs of a round at one time. Whether a host is slow, commprof "
        "check says."
    )


def _table_between(run: Run, ways: dict[tuple[int, int], tuple[_Way, _Way]]) -> Table:
    host_of = {own.rank: own.hostname for own in run.info.ranks}
    slowest = sorted(ways, key=lambda ends: -max(way.median_s for way in ways[ends]))
    small, large = ways[slowest[0]]
    more = f" The {_MAX_ROWS} slowest of {len(ways)}." if len(ways) > _MAX_ROWS else ""
    return Table(
        title=f"{run.path.name}: pairs of hosts in numbers",
        note="One way, medians over all rounds, and below them the 10th to the 90th percentile. Latency is half of a message "
        f"and its answer; the rate is a message over its time with the answer.{more}",
        head=(
            *("From", "To", f"Latency ({format_bytes(small.message_bytes)})", "Samples"),
            *(f"Rate ({format_bytes(large.message_bytes)})", "Samples"),
        ),
        rows=tuple(
            (*(f"{host_of[rank]}, rank {rank}" for rank in ends), *_latency(ways[ends][0]), *_bandwidth(ways[ends][1]))
            for ends in sorted(slowest[:_MAX_ROWS])
        ),
        words=frozenset({0, 1}),
        folded=True,
    )


def _latency(link: LinkMeasurement | _Way) -> tuple[Cell, Cell]:
    low, high = (quantile(link.samples_s, part) for part in (0.1, 0.9))
    return Noted(value=format_seconds(link.median_s), note=between(low, high, format_seconds)), str(len(link.samples_s))


def _bandwidth(link: LinkMeasurement | _Way | None) -> tuple[Cell, Cell]:
    if link is None:
        return "-", "-"
    slow, fast = (link.message_bytes / quantile(link.samples_s, part) for part in (0.9, 0.1))
    return Noted(value=format_rate(link.bandwidth_bytes_per_s), note=between(slow, fast, format_rate)), str(len(link.samples_s))


def _copy_table(name: str, links: Sequence[LinkMeasurement]) -> Table:
    ways: dict[tuple[str, str, str, bool | None], list[LinkMeasurement]] = {}
    for link in sorted(links, key=lambda link: link.message_bytes):
        ways.setdefault((link.kind, link.source, link.target, link.pinned), []).append(link)
    rows = tuple(_copy_row(sizes) for sizes in list(ways.values())[:_MAX_ROWS])
    more = f" The first {_MAX_ROWS} of {len(ways)}." if len(ways) > _MAX_ROWS else ""
    return Table(
        title=f"{name}: copies on rank 0's host",
        note=f"Latency of the smallest size, rate of the largest; from {name}/links.jsonl.{more}",
        head=("From", "To", "Memory", "Peer access", "Connection", "Latency", "Samples", "Rate", "Samples"),
        rows=rows,
        words=frozenset({0, 1, 2, 3, 4}),
        folded=len(rows) > 12,
    )


def _copy_row(sizes: Sequence[LinkMeasurement]) -> tuple[Cell, ...]:
    small, large = sizes[0], sizes[-1]
    what = (large.source, large.target, _COPIES[large.pinned], _PEERS[large.peer_access], large.connection or "-")
    return (*what, *_latency(small), *_bandwidth(large))
