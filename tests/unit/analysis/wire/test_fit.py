"""What `fit` is told of lines, switch and order, and what it makes of ranks that were measured pairwise."""

import json
from pathlib import Path

import pytest

from commprof.analysis.runs.load import load_runs
from commprof.analysis.wire.cost import cost_s
from commprof.analysis.wire.fit import fit_wire, ring_orders
from commprof.cli import main
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.rundir import RecordWriter, create_run
from commprof.commbench.records.types import RankInfo
from tests.factory import MIB, collective, message, run_info, write_bench_run, write_measurements


def two_nodes(path: Path, **info: object) -> Path:
    """Write a bench of one rank on each of two nodes: 1 ms and 1 GB/s."""
    return write_bench_run(path, 1e-3, 1e9, num_nodes=2, **info)


def pairwise(path: Path, *, missing: bool = False) -> Path:
    """Write links of 4 ranks dealt out to two hosts: 10 GB/s inside, 1 GB/s between."""
    ranks = tuple(RankInfo(rank=r, local_rank=r // 2, hostname=f"host{r % 2}", device_name="cpu") for r in range(4))
    create_run(path, run_info("links", world_size=4, run_id=path.name, num_nodes=2, ranks=ranks))
    with RecordWriter(path / "links.jsonl") as writer:
        for one, other in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))[missing:]:
            rate = 1e9 if (one - other) % 2 else 1e10
            for size in (1024, 16 * MIB):
                writer.append(message(one, other, [1e-6 + size / rate], message_bytes=size))
    return path


def seconds(out: str) -> float:
    (_, carried) = json.loads(out)
    return float(carried["median_s"][-1])


def test_a_slow_line_and_a_narrow_switch_are_told_in_rates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On 4 nodes 1.5 times the bytes; a line of a fifth makes it 5 times as long, a switch of two lines twice."""
    bench = str(two_nodes(tmp_path / "bench"))
    told = {}
    for words in ((), ("--lines", "1gbit,1gbit,200mbit,1gbit"), ("--lines", "1gbit", "--spine", "2gbit")):
        assert main(["fit", bench, "-n", "4", "--json", *words]) == 0
        told[words] = seconds(capsys.readouterr().out)
    plain, slow, narrow = told.values()
    assert (slow / plain, narrow / plain) == (pytest.approx(5, rel=0.1), pytest.approx(2, rel=0.1))


def test_an_all_gather_of_two_ranks_in_turn_is_carried_as_half_of_their_all_reduce(tmp_path: Path) -> None:
    """2 ranks: S over 1 GB/s for the all-reduce, 0.7 S for the all-gather in turn; on 4 ranks 3/4 S, in a ring."""
    gathered = [collective(size, [0.7 * size / 1e9] * 5, op="all_gather") for size in (MIB, 16 * MIB, 256 * MIB)]
    write_measurements(tmp_path / "gathered", gathered, num_nodes=2)
    runs = load_runs([two_nodes(tmp_path / "reduced"), tmp_path / "gathered"])
    found = fit_wire(runs, [4], nodes=4)
    carried = {cost.op: cost_s(cost, 256 * MIB) for cost in found.carried}
    assert carried["all_gather"] == pytest.approx(0.75 * 256 * MIB / 1e9, rel=0.02)
    assert carried["all_reduce"] == pytest.approx(1.5 * 256 * MIB / 1e9, rel=0.02)
    assert {cost.op: cost_s(cost, 256 * MIB) for cost in found.costs}["all_gather"] == pytest.approx(0.7 * 256 * MIB / 1e9)


def test_an_emulated_wire_says_itself_what_its_lines_are(tmp_path: Path) -> None:
    alike, named = (
        fit_wire(load_runs([two_nodes(tmp_path / name, wire=wire)]), [4]).carried[0]
        for name, wire in (("alike", "1gbit"), ("named", "1gbit,1gbit,500mbit,1gbit"))
    )
    assert cost_s(named, 256 * MIB) / cost_s(alike, 256 * MIB) == pytest.approx(2, rel=0.01)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--lines", "1gbit"), "name their numbers with -n"),
        (("-n", "4", "--spine", "2gbit"), "say with --lines how fast"),
        (("-n", "4", "--lines", "fast"), "fast"),
        (("-n", "4", "--lines", "1gbit,1gbit,1gbit"), "lines of 3 nodes are known and 4 are asked for"),
    ],
)
def test_lines_that_do_not_fit_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert main(["fit", str(two_nodes(tmp_path / "bench")), *words]) in (1, 2)
    assert said in " ".join(capsys.readouterr().err.split())


def test_benches_of_as_many_ranks_on_other_nodes_are_not_one_wire(tmp_path: Path) -> None:
    runs = load_runs([two_nodes(tmp_path / "two"), write_bench_run(tmp_path / "one", 1e-3, 1e9)])
    with pytest.raises(UnusableData, match="2 ranks were benched on 1 and on 2 nodes"):
        fit_wire(runs)


def test_ranks_measured_pairwise_tell_the_rings_best_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By rank the ring leaves each host twice, in the order 0 2 1 3 once."""
    links = pairwise(tmp_path / "links")
    assert main(["fit", str(links)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "a ring is fastest over the ranks 0 2" in text
    assert "50% less" in text
    assert main(["fit", str(two_nodes(tmp_path / "bench")), str(links)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "all-reduce on p ranks" in text
    assert "a ring is fastest" in text


def test_pairs_that_are_missing_tell_no_order_and_keep_nothing_else_from_being_told(tmp_path: Path) -> None:
    runs = load_runs([pairwise(tmp_path / "links", missing=True)])
    assert ring_orders(runs, MIB) == {"links": "ranks 0 and 1 were not measured as a pair, so no order of the ring is told"}
