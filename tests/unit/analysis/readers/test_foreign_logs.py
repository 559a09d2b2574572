"""Foreign logs: tables written here from a known line t = latency + S/B and a known n must come back as exactly that."""

import json
from pathlib import Path

import pytest

from commprof.analysis.readers.as_run import measurements, understand
from commprof.analysis.readers.dialect import read_log
from commprof.analysis.runs.load import load_run
from commprof.cli import main
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.rundir import read_info
from tests.unit.analysis.readers.tables import BANDWIDTH, LATENCY_S, SIZES, Table, imported, lines


@pytest.mark.parametrize(
    "table",
    [
        Table(),
        Table(columns="type redop", error="error", wrong="2e-07"),
        Table(per_iteration=True),
        Table(per_iteration=True, stamps=True),
        Table(stamps=True, columns="type redop", error="error", wrong="N/A"),
        Table(prefix="0: "),
        Table(prefix="[1,0]<stdout>:"),
        Table(prefix="2026-07-01T12:00:00.123Z stdout F ", listed=0),
        Table(comment="", footer=""),
        Table(ranks=2),
        Table(ranks=12, listed=0),
        Table(ranks=96, listed=0),
        Table(op="all_gather"),
        Table(op="all_gather", columns="type", ranks=6),
        Table(op="all_to_all", ranks=3, listed=0),
        Table(op="reduce_scatter", columns="type redop"),
        Table(op="broadcast"),
        Table(op="broadcast", columns="type root"),
        Table(op="reduce"),
    ],
)
def test_every_dialect_gives_the_line_and_the_ranks_it_was_written_from(table: Table) -> None:
    found = imported("\n".join(lines(table)), name=f"{table.op}.txt")
    assert (found.op, found.ranks.value) == (table.op, table.ranks)
    records = list(measurements(found))
    assert [(r.message_bytes, r.in_place) for r in records] == [(size, place) for size in SIZES for place in (False, True)]
    for record in records:
        seconds = LATENCY_S + record.message_bytes / BANDWIDTH
        assert record.median_s == pytest.approx(seconds, rel=3e-3)
        assert (record.mode, record.calls_per_sample, record.warmup_iterations) == ("pipelined", 40, 5)
        assert record.num_wrong == (None if table.wrong == "N/A" or (table.op == "all_to_all" and record.in_place) else 0)


def test_rows_that_nccl_broke_with_its_own_lines_are_put_together() -> None:
    text = lines(Table())
    at = next(index for index, line in enumerate(text) if " float " in line)
    words = text[at].split()
    start, rest = " ".join(words[:5]), " ".join(words[5:])
    text[at : at + 1] = [
        f"{start}node0:900:901 [0] NCCL INFO Channel 00/0 : 2[2] -> 3[3]",
        "node0:900:9 [1] NCCL WARN x 1 2",
        rest,
    ]
    text.insert(at + 5, "node0:900:901 [0] NCCL INFO Launch mode Parallel")
    words = text[at + 7].split()
    text[at + 7 : at + 8] = [" ".join(words[:9]) + "node0:900:901 [0] NCCL INFO x", " ".join(words[9:])]
    assert len(imported("\n".join(text)).sweep.times) == 2 * len(SIZES)


def test_times_in_ms_are_recognised_by_the_rates() -> None:
    rows = [f"{size} {size // 4} float sum " + " ".join([f"{size / 5e6:.4f} 5.00 7.50 0e+00"] * 2) for size in (2**24, 2**26)]
    found = imported("\n".join(["# bytes N type op time algbw busbw res time algbw busbw res", *rows]))
    assert found.ranks.value == 4
    assert found.sweep.times[0].time_s.value == pytest.approx(2**24 / 5e9, rel=1e-3)


@pytest.mark.parametrize(
    ("above", "order"),
    [
        ("in-place                 out-of-place", (True, False)),
        ("out-of-place           in-place", (False, True)),
        ("", (False, True)),
    ],
)
def test_the_line_above_the_header_says_which_placement_comes_first(above: str, order: tuple[bool, bool]) -> None:
    """Times 1 and 2 times the line; with the data type's column and without it."""
    halves = {2**20: (50.0, 100.0), 2**24: (210.0, 420.0)}
    for kind, columns in (("float sum -1", "type redop root"), ("", "")):
        rows = [
            f"{size} {size // 4} {kind} "
            + " ".join(f"{us:.2f} {size / us / 1e3:.2f} {size / us / 1e3 * 1.5:.2f} 0" for us in both)
            for size, both in halves.items()
        ]
        header = f"# size count {columns} " + " ".join(["time algbw busbw #wrong"] * 2)
        found = imported("\n".join([f"#            {above}", header, *rows]))
        assert found.ranks.value == 4
        times = {(r.message_bytes, r.in_place): r.median_s for r in measurements(found)}
        assert times == pytest.approx(
            {(size, place): us / 1e6 for size, both in halves.items() for place, us in zip(order, both, strict=True)}
        )
        assert any("which placement comes first" in note for note in found.notes) == (not above and not kind)


def test_mscclpp_tests_leave_the_placement_blank_that_they_did_not_measure() -> None:
    above = "#                                        in-place                       out-of-place"
    header = "#       size         count     time   algbw   busbw  #wrong     time   algbw   busbw  #wrong"
    out = " " * 33
    rows = [
        f"     1048576        262144{out}   100.00   10.49   15.73      0",
        f"     2097152        524288{out}   150.00   13.98   20.97",
    ]
    found = imported("\n".join([above, header, *rows, "     4194304       1048576   250.00   16.78   25.17      0"]))
    assert [(time.message_bytes, time.in_place) for time in found.sweep.times] == [
        (2**20, False),
        (2**21, False),
        (2**22, True),
    ]
    assert found.ranks.value == 4


def test_placements_that_are_steadily_apart_are_no_disturbance() -> None:
    rows = [f"{size} {size // 4} float sum -1 80.0 1.0 1.5 0 50.0 1.0 1.5 0" for size in SIZES]
    header = "# size count type redop root " + " ".join(["time algbw busbw #wrong"] * 2)
    assert any("out of place is the slower one" in note for note in imported("\n".join([header, *rows]), ranks=4).notes)


def test_the_old_all_gather_definition_is_worked_out_anew() -> None:
    """Before 2.5 algbw was S/t (n-1)/n, equal to busbw; 12 ranks, as in the DGX-2 of that time."""
    rows = []
    for size in (12 * 2**20, 12 * 2**24):
        rate = f"{11 / 12 * 80:.2f}"
        rows.append(f"{size} {size // 48} float " + " ".join([f"{size / 80e9 * 1e6:.1f} {rate} {rate} N/A"] * 2))
    found = imported("\n".join(["# size count type time algbw busbw error time algbw busbw error", *rows]), "all_gather.txt")
    assert (found.op, found.ranks.value) == ("all_gather", 12)
    assert any("old definition" in note for note in found.notes)
    assert max(r.algbw_bytes_per_s for r in measurements(found)) == pytest.approx(80e9, rel=1e-3)


@pytest.mark.parametrize("side_by_side", [False, True])
def test_a_build_without_mpi_is_refused_by_name(side_by_side: bool) -> None:
    """Four processes, each alone: busbw 0 everywhere, rank 0 four times in the device list."""
    alone = lines(Table(ranks=1))
    text = [line for line in alone for _ in range(4)] if side_by_side else alone
    with pytest.raises(UnusableData, match="MPI=1"):
        imported("\n".join(text))
    talking = [f"[1,{rank}]<stdout>:{line}" for line in alone for rank in range(4)]
    assert len(read_log("\n".join(talking))) == 4


def test_failed_validation_is_kept_and_fit_refuses_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.txt"
    log.write_text("\n".join(lines(Table(footer="50 FAILED", wrong="3"))))
    assert main(["import", str(log), "--folder", str(tmp_path / "run")]) == 0
    assert "validation FAILED" in " ".join(capsys.readouterr().out.split())
    assert main(["fit", str(tmp_path / "run")]) == 2
    assert "gave wrong values" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old_error", "footer", "wrong"), [("1e-01", "9 FAILED", 1), ("1e-07", "9 FAILED", 9), ("1e-07", "0 OK", 0)]
)
def test_the_old_error_column_is_a_deviation_and_no_count(old_error: str, footer: str, wrong: int) -> None:
    found = imported("\n".join(lines(Table(columns="type redop", error="error", wrong=old_error, footer=footer))))
    assert {record.num_wrong for record in measurements(found)} == {wrong}


def test_the_device_list_is_checked_against_the_ratio_and_tells_where_it_cannot() -> None:
    for listed in (1, 4):  # an excerpt, or a list that nccl-tests cut short
        notes = imported("\n".join(lines(Table(listed=listed)))).ranks.notes
        assert notes == (f"the device list says {listed} ranks, busbw / algbw 8",)
    broadcast = "\n".join(lines(Table(op="broadcast", listed=0)))
    with pytest.raises(UnusableData, match="--world-size N"):
        imported(broadcast)
    assert imported(broadcast, ranks=6).ranks.value == 6
    with pytest.raises(UnusableData, match="busbw / algbw says 8 ranks"):
        imported("\n".join(lines(Table())), ranks=6)
    sendrecv = "\n".join(lines(Table(op="broadcast"))).replace("none  0", "sum  -1")
    assert imported(sendrecv).op == "send_recv"


def test_rows_of_no_bytes_and_impossible_times_are_dropped_with_a_note() -> None:
    text = lines(Table(op="all_gather"), [0, 0, *SIZES])
    text += [
        "2048 64 float none -1 nan 0.00 0.00 0 -5.00 0.00 0.00 0",
        "4096 128 float none -1 0.00 inf inf 0 1e99 0.00 0.00 0",
    ]
    found = imported("\n".join(text))
    assert len(found.sweep.times) == 2 * len(SIZES)
    assert [note.partition(" times")[0] for note in found.notes] == ["4", "3"]


def test_one_file_of_several_tables_becomes_several_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.txt"
    tables = [Table(), Table(ranks=16), Table(op="broadcast", listed=0)]
    log.write_text("\n".join(line for table in tables for line in lines(table)))
    assert main(["import", str(log), "--out", str(tmp_path / "runs"), "--json"]) == 1
    answers = json.loads(capsys.readouterr().out)
    assert [(a["ok"], a["table"], a["op"], a["world_size"]) for a in answers] == [
        (True, 1, "all_reduce", 8),
        (True, 2, "all_reduce", 16),
        (False, 3, None, None),
    ]
    info = read_info(Path(answers[1]["run"]))
    assert (info.num_nodes, info.imported_from, info.status, info.ranks[9].hostname) == (2, "log.txt", "completed", "node1")
    assert len(load_run(Path(answers[1]["run"])).all_reduces) == 2 * len(SIZES)
    assert main(["import", str(log), "--folder", str(tmp_path / "one")]) == 1
    assert "holds 3 tables" in capsys.readouterr().out


def test_all_reduce_bench_tables_of_both_versions() -> None:
    rows = [f"| {size}MiB | {rate * 1.5:.2f}GBps | {rate:.2f}GBps |" for size, rate in ((1, 20), (64, 200), (1024, 240))]
    above = "- software: torch=2.7.0, cuda=12.8, nccl=(2, 26, 2)\nover 4 ranks (5 warmups / 20 trials):\n"
    found = imported("\n".join([above, "| payload |    busbw   |    algbw   |", "| ---: | ---: | ---: |", *rows]))
    assert (found.op, found.ranks.value, found.sweep.mode, found.sweep.warmup_iterations) == ("all_reduce", 4, "isolated", 5)
    assert found.sweep.software is not None
    assert found.sweep.software.nccl == "2.26.2"
    assert found.sweep.times[1].time_s.value == pytest.approx(64 * 2**20 / 200e9)
    words = "The average bandwidth of all_reduce with a 4.0GB payload (5 trials, 4 ranks):\n algbw: 44.17 GBps (353.4 Gbps)\n"
    single = imported(words + " busbw: 66.256 GBps (530.0 Gbps)")
    assert (single.ranks.value, single.sweep.times[0].message_bytes) == (4, 4_000_000_000)


def test_param_lines_full_and_short() -> None:
    full = "\tCOMMS-RES-all_reduce-float32  1048576  262144  100.0 101.0 102.0 99.0 103.0  10.486  18.350  100.0"
    other = "0: \tCOMMS-RES-all_gather_base-bfloat16  1048576  65536  50.0 51.0 52.0 49.0 53.0  20.972  18.350"
    header = "\tCOMMS-RES  total-size (B)  nElementsPerRank  Time(us):p50 p75 p95 Min Max AlgBW(GB/s) BusBW(GB/s)"
    reduce, gather = [understand(s, "x", op=None, ranks=None) for s in read_log("\n".join([header, full, other]))]
    assert (reduce.op, reduce.ranks.value, reduce.sweep.times[0].time_s.value) == ("all_reduce", 8, pytest.approx(1e-4))
    assert (gather.op, gather.ranks.value, gather.sweep.times[0].dtype) == ("all_gather", 8, "bfloat16")
    short = imported("# 0: \tCOMMS-RES-all_reduce-float32        1073741824         41.187      77.226")
    assert (short.ranks.value, short.sweep.times[0].time_s.value) == (16, pytest.approx(2**30 / 41.187e9))
    with pytest.raises(UnusableData, match="QUANT"):
        read_log("COMMS-RES-QUANT-all_reduce 1024 256 1.0 2.0 3.0 4.0")


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_csv_of_ones_own(mark: str) -> None:
    table = [["Op", "size_mib", "Time (ms)", "ranks"], ["all_reduce", "1", "0.5", "4"], ["allreduce", "64", "8", "4"]]
    table += [["all_gather", "1", "0.25", "4"], ["all_reduce", "x", "", "4"]]
    reduce, gather = [understand(s, "x", op=None, ranks=None) for s in read_log("\n".join(map(mark.join, table)))]
    assert [(r.message_bytes, r.median_s, r.world_size) for r in measurements(reduce)] == [(2**20, 5e-4, 4), (2**26, 8e-3, 4)]
    assert (gather.op, gather.ranks.source) == ("all_gather", "its column of ranks")
    with pytest.raises(UnusableData, match="has no unit"):
        read_log("size,time\n1024,5\n")
    with pytest.raises(UnusableData, match="say --op"):
        imported("size,time_us\n1024,5\n")


@pytest.mark.parametrize("scale", ["us", "s"])
def test_numbers_of_any_precision_are_read(scale: str) -> None:
    """Python writes a float with up to 17 digits; none of them makes the number unreadable."""
    seconds = {2**20: 1 / 8101, 2**22: 1 / 2427, 2**24: 1.6125e-3, 2**26: 3 / 467}
    factor = {"us": 1e6, "s": 1.0}[scale]
    table = [f"op,n,size_bytes,time_{scale}", *(f"all_reduce,4,{size},{time * factor!r}" for size, time in seconds.items())]
    found = list(measurements(imported("\n".join(table))))
    assert {r.message_bytes: r.median_s for r in found} == pytest.approx(seconds, rel=1e-12)
