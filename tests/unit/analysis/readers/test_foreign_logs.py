"""Foreign logs: tables written here from a known line t = latency + S/B and a known n must come back as exactly that."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from commprof.analysis.readers.as_run import measurements, understand
from commprof.analysis.readers.dialect import read_log
from commprof.analysis.readers.foreign import figure
from commprof.analysis.readers.presets import preset_names
from commprof.analysis.runs.load import load_run
from commprof.analysis.wire.benched import fit_costs
from commprof.cli import main
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.records.rundir import read_info
from tests.factory import MIB, step, timeline, write_bench_run, write_training_run

SIZES = tuple(2**power for power in range(10, 31, 2))
LATENCY_S, BANDWIDTH = 20e-6, 100e9


@dataclass(frozen=True)
class Table:
    """How one nccl-tests prints: what differs between its versions, flags and launchers."""

    op: str = "all_reduce"
    ranks: int = 8
    columns: str = "type redop root"
    error: str = "#wrong"
    listed: int | None = None
    prefix: str = ""
    per_iteration: bool = False
    stamps: bool = False
    comment: str = "# "
    footer: str = "0 OK"
    wrong: str = "0"


def printed(value: float, width: int) -> str:
    """As nccl-tests prints: as many decimals, up to two, as the width takes."""
    return next((text for text in (f"{value:.2f}", f"{value:.1f}", f"{value:.0f}") if len(text) <= width), f"{value:.1e}")


def half(size: int, table: Table, wrong: str) -> str:
    seconds = LATENCY_S + size / BANDWIDTH
    algbw = size / seconds / 1e9
    busbw = algbw * OPERATIONS[table.op].bus_factor(table.ranks)
    extra = (
        f" {printed(seconds * 9e5, 7)} {printed(seconds * 2e6, 7)} {printed(seconds * 2e6, 7)} 7.50"
        if table.per_iteration
        else ""
    )
    return f" {printed(seconds * 1e6, 7)} {printed(algbw, 6)} {printed(busbw, 6)} {wrong}{extra}"


def row(size: int, table: Table) -> str:
    operation = OPERATIONS[table.op]
    words = {"type": "float", "redop": "sum" if operation.reduces else "none", "root": "0" if operation.rooted else "-1"}
    count = size // (4 * (table.ranks if operation.shared else 1))
    kind = "  ".join(words[name] for name in table.columns.split())
    in_place = "N/A" if table.op == "all_to_all" else table.wrong
    stamp = " 2026-07-01 12:00:00" if table.stamps else ""
    return f"{size:12} {count:12} {kind} {half(size, table, table.wrong)} {half(size, table, in_place)}{stamp}"


def lines(table: Table, sizes: Sequence[int] = SIZES) -> list[str]:
    listed = table.ranks if table.listed is None else table.listed
    per_half = "time algbw busbw " + table.error + (" i_min i_max i_p99 i_cv%" if table.per_iteration else "")
    head = [
        "nThread 1 nGpus 1 minBytes 8 maxBytes 99 step: 4(factor) warmup iters: 5 iters: 20 agg iters: 2 validation: 1 graph: 0"
    ]
    head += [
        f" Rank {r:2} Group  0 Pid {900 + r} on node{r // 8} device {r % 8:2} [0000:{r % 8:02x}:00] H100" for r in range(listed)
    ]
    head += [
        "",
        "      size         count  " + f"{table.columns} {per_half} {per_half}" + (" timestamp" if table.stamps else ""),
    ]
    text = [table.comment + line for line in head] + [row(size, table) for size in sizes]
    text += [f"# Out of bounds values : {table.footer}", "# Avg bus bandwidth    : 12.3"] if table.footer else []
    return [table.prefix + line for line in text]


def imported(text: str, name: str = "log.txt", op: str | None = None, ranks: int | None = None):  # noqa: ANN201
    (sweep,) = read_log(text)
    return understand(sweep, name, op=op, ranks=ranks)


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


@pytest.mark.parametrize(("word", "value"), [("1e999", None), ("1e-999", 0.0), ("9" * 41, None), ("0." + "1" * 60, 1 / 9)])
def test_a_number_is_read_or_refused_and_never_an_error(word: str, value: float | None) -> None:
    read = figure(word)
    assert (read is None) if value is None else (read is not None and read.value == pytest.approx(value))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no table is recognised"),
        ("# nThread 1 nGpus 8\nnode: Test CUDA failure common.cu:892 'out of memory'\n", "Test CUDA failure"),
        ("./build/hypercube_perf\n" + "\n".join(lines(Table(ranks=4, listed=0))), "hypercube has no counterpart"),
        ("\n".join(lines(Table(listed=0), [8, 64])), "fit 5 to 65536 ranks and nothing else tells"),
        ("\n".join(lines(Table(ranks=1000, listed=0))), "fit 9.. to 1... ranks and nothing else tells"),
        ("\n".join(lines(Table())).replace(" time ", " cputime "), "CPU time"),
        ("   D\\D     0      1\n     0 910.02  18.83\n", "not collectives"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(UnusableData, match=reason):
        imported(text)


def test_hostile_files_are_answered_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "\x1b[31mbad.log"
    bad.write_text("\n".join(lines(Table())).replace("H100", "H\x1b[2J100\x07"))
    spaces, binary = tmp_path / "spaces", tmp_path / "binary"
    spaces.write_text("1 " * 50_000 + "\n" + " [0] NCCL INFO" * 9_000 + "\n" + "9" * 90_000 + "\n" + "{" * 90_000)
    binary.write_bytes(bytes(range(256)) * 40)
    (tmp_path / "nested").write_text('{"results": ' + "[" * 90_000)
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**30)
    names = [str(bad), *(str(tmp_path / name) for name in ("spaces", "binary", "nested", "huge", "missing", "."))]
    assert main(["import", *names, "--out", str(tmp_path / "runs")]) == 1
    out = capsys.readouterr().out
    assert out.count("REFUSED") == 6
    (run,) = (tmp_path / "runs").iterdir()
    assert "\x1b" not in out + (run / "run.json").read_text() + read_info(run).ranks[0].device_name
    assert "\x07" not in read_info(run).ranks[0].device_name


def test_a_log_is_not_pooled_with_another_wire_of_as_many_ranks(
    tmp_path: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log.txt").write_text("\n".join(lines(Table())))
    assert main(["import", str(tmp_path / "log.txt"), "--folder", str(tmp_path / "imported")]) == 0
    measured = write_bench_run(tmp_path / "measured", LATENCY_S, BANDWIDTH, world_size=8, backend="nccl")
    assert main(["fit", str(tmp_path / "imported"), str(measured)]) == 2
    assert "not of one wire" in capsys.readouterr().err
    assert main(["fit", str(tmp_path / "imported")]) == 0
    assert "one a size and so no interval" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "imported")]) == 0
    assert "log.txt, a log of another program" in (here / "report.html").read_text()


def test_every_preset_fits_and_answers_what_if(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = preset_names()
    assert main(["import", *(word for name in names for word in ("--preset", name)), "--out", str(tmp_path / "runs")]) == 0
    costs = [cost for run in (tmp_path / "runs").iterdir() for cost in fit_costs([load_run(run)]).values()]
    assert len(costs) == len(names)
    assert all(cost.message_bytes[0] == 256 * 2**10 and 1e9 < cost.bandwidth_bytes_per_s < 1e12 for cost in costs)
    ready = timeline([("w", 40 * MIB, 0.05)], 0.06)
    profile, of_cpu = (
        write_training_run(tmp_path / backend, [step(index) for index in range(10)], gradients=ready, backend=backend)
        for backend in ("nccl", "gloo")
    )
    assert main(["import", "--preset", "h100x8-nvlink", "--folder", str(tmp_path / "wire")]) == 0
    capsys.readouterr()
    assert main(["predict", str(profile), str(tmp_path / "wire"), "-n", "8"]) == 0
    assert "the wire is that of preset h100x8-nvlink" in capsys.readouterr().out
    for words in (["predict", str(of_cpu), str(tmp_path / "wire"), "-n", "8"], ["advise", str(of_cpu), str(tmp_path / "wire")]):
        assert main(words) == 2
        assert "no machine computes on CPUs and sends between GPUs" in capsys.readouterr().err
    page = tmp_path / "page.html"
    assert main(["report", str(of_cpu), str(tmp_path / "wire"), "--out", str(page)]) == 0
    assert "no machine computes on CPUs and sends between GPUs" in page.read_text()
    assert main(["import", "--preset", "abacus"]) == 2
    assert "known are a100x8-nvlink" in capsys.readouterr().err
