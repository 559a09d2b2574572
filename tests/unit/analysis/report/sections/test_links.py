"""Links and overlap in the report: a slow pair is framed and named, copies and slowdowns are told with their samples."""

from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from commprof.analysis.report.figures.canvas import VERMILLION
from commprof.analysis.report.figures.links import link_figure, traffic_figure
from commprof.analysis.report.numbers.data import gather, raw_files
from commprof.analysis.report.page.html import Noted
from commprof.analysis.report.sections.contention import contention_section
from commprof.analysis.report.sections.links import link_section
from commprof.analysis.runs.load import load_run
from commprof.analysis.wire.fabric import even_traffic
from commprof.commbench.records.links import LinkMeasurement, PairMeasurement
from commprof.commbench.records.rundir import RecordWriter, create_run
from commprof.commbench.units import format_bytes
from tests.factory import MIB, message, run_info, write_contention_run
from tests.report_runs import report

STEADY = [0.99, 1.0, 1.0, 1.0, 1.0, 1.01]


def add_links(path: Path, links: list[LinkMeasurement], world_size: int = 4) -> Path:
    create_run(path, run_info("links", world_size=world_size, run_id=path.name))
    with RecordWriter(path / "links.jsonl") as writer:
        for link in links:
            writer.append(link)
    return path


def pairs(ranks: int, size: int, seconds: float, slow: frozenset[int] = frozenset()) -> list[LinkMeasurement]:
    return [
        message(a, b, [seconds * part * (2 if {a, b} == slow else 1) for part in STEADY], message_bytes=size)
        for a, b in permutations(range(ranks), 2)
    ]


def add_pairs(path: Path, seconds: dict[tuple[int, int], float], *, sizes: tuple[int, ...] = (8, 10**6)) -> Path:
    """Write two rounds between hosts of one rank each; a small message and its answer take 20 us."""
    hosts = 1 + max(max(ends) for ends in seconds)
    info = run_info("links", world_size=hosts, run_id=path.name, num_nodes=hosts)
    create_run(path, replace(info, ranks=tuple(replace(own, hostname=f"host{own.rank}") for own in info.ranks)))
    with RecordWriter(path / "pairs.jsonl") as writer:
        for number, ((sender, receiver), time_s) in product((0, 1), seconds.items()):
            for size in sizes:
                samples_s = (20e-6,) * 3 if size == 8 else (time_s, time_s, time_s * 1.01)
                writer.append(
                    PairMeasurement(
                        round=number, sender=sender, receiver=receiver, message_bytes=size, samples_s=samples_s, timer="fake"
                    )
                )
    return path


def copy(kind: str, source: str, target: str, size: int, seconds: float) -> LinkMeasurement:
    made = replace(message(0, 1, [seconds * part for part in STEADY], message_bytes=size), source=source, target=target)
    return replace(made, kind=kind, pinned=True)  # type: ignore[arg-type]


def test_a_slow_pair_is_named_framed_and_counted(tmp_path: Path) -> None:
    """8 B in 10 us; 1 MB in 1 ms is 1 GB/s, and 0.5 GB/s between ranks 1 and 3."""
    links = [*pairs(4, 8, 10e-6), *pairs(4, 10**6, 1e-3, frozenset({1, 3}))]
    page = report(add_links(tmp_path / "links", links))
    assert page.sections[0] == "links"
    assert "links, bandwidth: the slowest link is rank1 - rank3, 50% below the median of 6 links." in page.text
    assert "links, latency: no link stands out" in page.text
    assert page.text.count("72 samples over 12 ordered pairs") == 2
    assert page.row("1 3 10 us 9.95 to 10.1 us 6 0.5 GB/s 0.498 to 0.503 GB/s 6")
    assert page.text.count("Drawn from 1 file links/links.jsonl") == 2


def test_pairs_of_hosts_have_a_table_of_ways(tmp_path: Path) -> None:
    """1 MB in 1 ms is 1 GB/s, and 0.5 GB/s from host 2 to host 0; nothing is drawn, for most pairs were not measured."""
    times = dict.fromkeys(permutations(range(3), 2), 1e-3) | {(2, 0): 2e-3}
    page = report(add_pairs(tmp_path / "hosts", times))
    assert page.sections[0] == "links" and not page.of("svg")
    assert "hosts, between hosts: 6 ways from rank to rank reach 0.5 to 1 GB/s" in page.text
    assert page.row("host2, rank 2 host0, rank 0 10 us 10 to 10 us 6 0.5 GB/s 0.495 to 0.5 GB/s 6")
    assert page.row("host0, rank 0 host2, rank 2 10 us 10 to 10 us 6 1 GB/s 0.99 to 1 GB/s 6")
    assert "One link works while all others rest" not in page.text


def test_a_run_of_pairs_that_was_stopped_shows_those_with_both_sizes(tmp_path: Path) -> None:
    run = add_pairs(tmp_path / "hosts", {(0, 1): 1e-3, (1, 0): 1e-3, (1, 2): 1e-3})
    lines = (run / "pairs.jsonl").read_text().splitlines()
    (run / "pairs.jsonl").write_text(
        "\n".join(line for line in lines if '"sender":0' not in line or "1000000" not in line) + "\n"
    )
    page = report(run)
    assert "2 ways from rank to rank reach 1 to 1 GB/s" in page.text
    assert not page.row("host0, rank 0 host1, rank 1 10 us 10 to 10 us 6 1 GB/s 0.99 to 1 GB/s 6")


def test_shades_grow_with_the_time_and_noise_stays_faint() -> None:
    def shades(slowest: float) -> list[float]:
        times = {(0, 1): 1.0, (1, 0): slowest}
        cells = link_figure(times, dict.fromkeys(times, ""), "us", [(1, 0)]).axes[0].patches
        return [cell.get_facecolor()[3] for cell in cells if isinstance(cell, Rectangle) and cell.get_fill()]

    assert shades(4.0) == pytest.approx([0.08, 0.75])
    assert shades(1.02)[1] < 0.15
    figure = link_figure({(0, 1): 1.0, (1, 0): 2.0}, {(0, 1): "1", (1, 0): "2"}, "us", [(1, 0)])
    (frame,) = [patch for patch in figure.axes[0].patches if not patch.get_fill()]
    assert to_hex(frame.get_edgecolor()) == VERMILLION
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["fastest: 1 us", "slowest: 2 us", "stands out"]


def test_copies_are_told_by_way(tmp_path: Path) -> None:
    links = [copy("host_to_device", "host", "gpu0", size, time) for size, time in ((8, 5e-6), (10**7, 1e-3))]
    section = link_section(gather([add_links(tmp_path / "links", links)]))
    assert section is not None and section.pictures == ()
    (table,) = section.tables
    assert table.rows[0][:5] == ("host", "gpu0", "pinned", "-", "-")
    assert [cell.value for cell in table.rows[0] if isinstance(cell, Noted)] == ["5 us", "10 GB/s"]


def test_what_cannot_be_a_link_is_left_out_and_counted(tmp_path: Path) -> None:
    good = message(0, 1, STEADY)
    bad = [
        replace(good, source="<b>"),
        replace(good, target="rank0"),
    ]
    section = link_section(gather([add_links(tmp_path / "links", [good, *bad])]))
    assert section is not None
    assert section.remarks == ("links: 2 measurements without two ranks were left out.",)
    assert section.sentences[0] == "links, latency: only one link, so none to compare it with."


def test_many_ranks_are_a_table_of_the_slowest(tmp_path: Path) -> None:
    links = [message(a, b, [1e-6 * (1 + a)] * 6, message_bytes=8) for a, b in permutations(range(34), 2)]
    section = link_section(gather([add_links(tmp_path / "links", links, 34)]))
    assert section is not None and section.pictures == ()
    assert len(section.tables[0].rows) == 64
    assert "The 64 of 1122 with the highest latency." in section.tables[0].note
    assert {row[0] for row in section.tables[0].rows} <= {"32", "33"}


def test_each_kind_of_run_has_its_own_raw_file(tmp_path: Path) -> None:
    runs = [add_links(tmp_path / "pairs", pairs(2, 8, 1e-6), 2), write_contention_run(tmp_path / "both", [(2**20, 1.5, 2.0)])]
    assert raw_files([load_run(run) for run in runs]) == ("both/contention.jsonl",)


def test_slowdowns_are_told_both_ways(tmp_path: Path) -> None:
    run = write_contention_run(tmp_path / "both", [(2**20, 1.5, 2.0), (2**22, 1.25, 3.0)])
    section = contention_section(gather([run]))
    assert section is not None
    assert section.tables[0].rows[0] == ("1 MiB", "1 ms", "1.5 ms", "1.50x", "10 ms", "20 ms", "2.00x", "1")
    assert (
        "up to 1.50x as long beside an all-reduce (1 MiB), the all-reduce up to 3.00x beside the pass (4 MiB)"
        in (section.sentences[0])
    )


@pytest.mark.parametrize(("nodes", "boxes", "texts"), [(2, 2, 0), (4, 4, 0), (16, 3, 1)])
def test_the_bytes_of_a_ring_are_drawn_on_nodes_lines_and_switch(nodes: int, boxes: int, texts: int) -> None:
    """On nodes of 4 in blocks, 3 hops inside and one out; of many nodes the first two and the last, and what is between."""
    figure = traffic_figure(even_traffic(4 * nodes, nodes, 1, MIB), nodes)
    (axes,) = figure.axes
    patches = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert (len(patches), len(axes.lines)) == (boxes + 1, boxes)
    said = [text.get_text() for text in axes.texts]
    hop = 2 * (4 * nodes - 1) / (4 * nodes) * MIB
    assert said[0] == f"through the switch {format_bytes(round(nodes * hop))}"
    assert f"node {nodes - 1}\ninside\n{format_bytes(round(3 * hop))}" in said
    assert said.count(f"out\n{format_bytes(round(hop))}") == boxes
    assert said.count("...") == texts
