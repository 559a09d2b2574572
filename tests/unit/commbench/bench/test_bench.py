import argparse
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from commprof.commbench.bench import table
from commprof.commbench.bench.ceiling import Ceiling
from commprof.commbench.bench.cli import VERB as BENCH
from commprof.commbench.bench.cli import bench_plan, bench_sizes, check_bench
from commprof.commbench.bench.plan import STANDARD, Cell, parse_buckets
from commprof.commbench.bench.sweep import far_out, next_count
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import create_run, write_document
from commprof.commbench.records.training import BucketTiming
from commprof.commbench.records.types import Remeasured
from tests.factory import collective, run_info, timeline, write_training_run

NO_CEILING = Ceiling(bytes_per_s=None, reason="none")


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    BENCH.add_arguments(parser)
    return parser.parse_args(words)


def test_sizes_follow_nccl_tests_letters() -> None:
    assert bench_sizes(parse("-b", "1M", "-e", "8M", "-f", "2")) == [2**20, 2**21, 2**22, 2**23]
    assert bench_sizes(parse("-b", "1K", "-e", "3K", "-i", "1K")) == [1024, 2048, 3072]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-b", "12Q"], "size '12Q'"),
        (["-b", "1M", "-e", "1K"], "0 < smallest size <= largest size"),
        (["-b", "0"], "0 < smallest size"),
        (["-f", "1"], "-f 1 never reaches"),
        (["-i", "0"], "-i 0 makes over"),
        (["-i", "1", "-e", "1G"], "use a larger step"),
        (["-n", "0"], "at least 1 timed"),
        (["-n", "50001"], "use at most 50000"),
        (["-w", "-1"], "0 untimed"),
        (["--timeout", "0"], "above 0 seconds"),
        (["--nproc", "0"], "--nproc 0 starts nothing"),
        (["--backend", "gloo", "-e", "900T"], "lower -e"),
        (["--mode", "fast"], "'fast' is not one of isolated, pipelined, burst"),
        (["--mode", "burst"], "--mode burst and --buckets go together"),
        (["all_gather", "--mode", "burst", "--buckets", "1M"], "DDP's burst is of all-reduces"),
        (["-d", "fp8"], "'fp8' is not a data type"),
        (["--backend", "gloo", "-d", "int32", "-o", "avg"], "gloo has no avg of int32"),
        (["all_to_all", "--place", "in"], "all_to_all has no in-place form"),
        (["send_recv"], "one rank has none"),
        (["broadcast", "--nproc", "2", "-r", "2"], "the ranks are 0 to 1"),
        (["--backend", "gloo", "-G"], "gloo has none"),
        (["--backend", "nccl", "-G"], "add --mode pipelined"),
        (["--backend", "nccl", "-G", "--mode", "burst", "--buckets", "1M"], "add --mode pipelined"),
        (["barrier", "--backend", "nccl", "-G", "--mode", "pipelined"], "cannot capture a barrier"),
        (["--seconds", "0"], "--seconds 0 must be above 0"),
        (["--resume", "nowhere"], "nowhere is not a run folder"),
    ],
)
def test_a_sweep_that_cannot_be_measured_is_refused_before_anything_starts(words: list[str], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        BENCH.check(parse(*words))
    assert message in str(caught.value)


def test_a_sweep_is_gone_on_with_as_it_was_begun(tmp_path: Path) -> None:
    create_run(tmp_path / "r", run_info(status="interrupted"))
    write_document(tmp_path / "r" / "bench.json", bench_plan(parse("-b", "1K", "-n", "7")))
    run = str(tmp_path / "r")
    assert bench_plan(parse("--resume", run, "--nproc", "2")) == bench_plan(parse("-b", "1K", "-n", "7"))
    with pytest.raises(BadInput, match="drop maxbytes=1G"):
        BENCH.check(parse("--resume", run, "-e", "1G"))
    with pytest.raises(BadInput, match="measured on 2 ranks, not 4"):
        BENCH.check(parse("--resume", run, "--nproc", "4"))
    create_run(tmp_path / "whole", run_info(status="completed"))
    with pytest.raises(BadInput, match="nothing to go on with"):
        BENCH.check(parse("--resume", str(tmp_path / "whole")))


def test_the_bus_carries_what_nccl_tests_says() -> None:
    measured = collective(10**9, [0.01, 0.02, 0.03], world_size=4)
    assert measured.algbw_bytes_per_s == pytest.approx(50e9)
    assert measured.busbw_bytes_per_s == pytest.approx(75e9)


OUT, IN = (Cell(mode="isolated", in_place=in_place) for in_place in (False, True))
PLAN = bench_plan(parse())


def test_the_table_has_nccl_tests_thirteen_columns() -> None:
    cells = {OUT: collective(2**20, [28.06e-6], num_wrong=None), IN: collective(2**20, [27.36e-6], world_size=4)}
    assert table.row(PLAN, cells, stats=False).split() == [
        "1048576",
        "262144",
        "float",
        "sum",
        "-1",
        "28.06",
        "37.37",
        "37.37",
        "N/A",
        "27.36",
        "38.33",
        "57.49",
        "0",
    ]
    units = table.header(run_info(), PLAN, NO_CEILING, stats=False).splitlines()[-1]
    assert units.split() == ["#", "(B)", "(elements)", "(us)", "(GB/s)", "(GB/s)", "(us)", "(GB/s)", "(GB/s)"]


@pytest.mark.parametrize("stats", [False, True])
@pytest.mark.parametrize("mode", ["isolated", "isolated,pipelined"])
def test_every_row_fits_under_its_header(mode: str, stats: bool) -> None:
    plan = bench_plan(parse("--mode", mode))
    for seconds in (9.9999e-6, 0.0099999, 0.01, 8.7072):
        cells = {cell: collective(8, [seconds] * 9, mode=cell.mode, in_place=cell.in_place) for cell in plan.cells}
        names, units = table.header(run_info(), plan, NO_CEILING, stats=stats).splitlines()[-2:]
        row = table.row(plan, cells, stats=stats)
        assert len(row.split()) == len(names.split()) - 1 == 5 + len(plan.cells) * (9 if stats else 4)
        assert len(names) == len(row)
        assert len(units) <= len(names)
        assert units.count("(us)") == len(plan.cells) * (5 if stats else 1)


def test_a_size_that_was_not_finished_shows_so() -> None:
    assert table.row(PLAN, {IN: collective(8, [1e-5])}, stats=False).split()[5:9] == ["N/A"] * 4


def test_a_barrier_has_no_size_and_no_reduction() -> None:
    plan = bench_plan(parse("barrier"))
    assert plan.message_sizes(4) == [0]
    row = table.row(plan, {OUT: collective(0, [1e-5], op="barrier", num_wrong=None)}, stats=False).split()
    assert row[:2] == ["0", "0"]
    assert row[6:8] == ["0.00", "0.00"]


def test_the_header_shows_a_hostile_host_name_harmlessly() -> None:
    header = table.header(run_info(hostname="a\x1b[2Jb"), PLAN, Ceiling(bytes_per_s=25e9, reason="PCIe"), stats=False)
    assert "\x1b" not in header
    assert "25 GB/s on the wire: PCIe" in header


def test_one_wrong_element_fails_the_table() -> None:
    assert "1 FAILED" in table.footer([collective(8, [1e-5]), collective(8, [1e-5], num_wrong=1)], NO_CEILING)
    assert "0 OK" in table.footer([collective(8, [1e-5])], NO_CEILING)
    assert "not checked" in table.footer([collective(8, [1e-5], num_wrong=None)], NO_CEILING)


def test_the_footer_names_the_cold_call_and_the_second_tries_and_averages_no_rate() -> None:
    again = (Remeasured(iteration=1, slowest_rank_s=1e-5, fastest_rank_s=1e-5),)
    ring = Ceiling(bytes_per_s=0.8e9, reason="x", algorithm="ring")
    text = table.footer([collective(1000, [1e-5, 9e-5, 1e-5], cold_s=5e-5, remeasured=again), collective(2000, [1e-5])], ring)
    assert "5 times the median (50 us) at 1000 B" in text
    assert "1 tried again, 1 of them were fast the second time" in text
    assert "0.2 GB/s at 1.953 KiB, 25% of the ceiling as a ring" in text
    assert "Avg" not in text
    assert "# Best" not in table.footer([], NO_CEILING)


def test_sizes_are_whole_elements_and_each_once() -> None:
    plan = bench_plan(parse("all_gather", "-b", "8", "-e", "64", "-d", "double"))
    assert plan.message_sizes(4) == [32, 64]


def test_what_is_measured_is_not_measured_again() -> None:
    plan = bench_plan(parse("-b", "8", "-e", "32"))
    done = [collective(8, [1e-5], in_place=False), collective(8, [1e-5]), collective(16, [1e-5], in_place=False)]
    assert plan.remaining(2, done) == [(16, IN), (32, OUT), (32, IN)]


def test_a_burst_has_ddps_buckets(tmp_path: Path) -> None:
    mib = 2**20
    assert parse_buckets("60M")[0] == (mib, 25 * mib, 25 * mib, 9 * mib)
    assert parse_buckets("60M/25M")[0] == (25 * mib, 25 * mib, 10 * mib)
    assert parse_buckets("1M,25M")[0] == (mib, 25 * mib)
    buckets = tuple(BucketTiming(index=i, num_bytes=b, ready_s=0, launched_s=0, done_s=0) for i, b in enumerate((5, 7)))
    write_document(tmp_path / "gradients.json", replace(timeline([("w", 12, 0.1)], 0.1), buckets=buckets))
    assert parse_buckets(str(tmp_path))[0] == (5, 7)
    write_document(tmp_path / "gradients.json", timeline([("w", 3 * mib, 0.1), ("v", 26 * mib, 0.2), ("u", mib, 0.3)], 0.4))
    assert parse_buckets(str(tmp_path / "gradients.json"))[0] == (3 * mib, 26 * mib, mib)
    run = write_training_run(tmp_path / "r", [], gradients=timeline([("w", 40, 0.1), ("v", 2 * mib, 0.2)], 0.4))
    assert parse_buckets(str(run))[0] == (40 + 2 * mib,)
    for wrong in ("0", "1M,,x", "1T/1"):
        with pytest.raises(BadInput):
            parse_buckets(wrong)
    write_document(tmp_path / "gradients.json", timeline([], 0.1))
    with pytest.raises(BadInput, match="need 1 to"):
        parse_buckets(str(tmp_path / "gradients.json"))


QUIET, NOISY = [1e-3 + 1e-6 * (i % 3) for i in range(20)], [1e-3 * (1 + i % 2) for i in range(20)]


@pytest.mark.parametrize(
    ("samples", "left_s", "sample_s", "count"),
    [
        ([], 0.0, 1.0, 3),  # three, whatever they cost
        ([1e-3] * 3, 9.0, 1e-3, 17),  # too few to be believed
        (QUIET, 9.0, 1e-3, 0),  # known to 2 %
        (NOISY, 9.0, 1e-3, 20),  # twice as many
        (NOISY, 0.0105, 1e-3, 10),  # as many as there is time for
        (NOISY, 0.0, 1e-3, 0),
        (NOISY, 9.0, 0.4, 2),  # a second at a time
        (NOISY * 250, 99.0, 1e-3, 0),  # the most that a record holds
    ],
)
def test_a_size_is_timed_until_its_median_is_known_or_time_is_up(
    samples: list[float], left_s: float, sample_s: float, count: int
) -> None:
    assert next_count(samples, STANDARD, left_s, sample_s) == count


def test_a_fixed_number_of_samples_is_kept_to() -> None:
    fixed = replace(STANDARD, iterations=600)
    assert [next_count([1.0] * taken, fixed, 0.0, 1.0) for taken in (0, 500, 600)] == [500, 100, 0]


def test_only_samples_far_beyond_the_rest_are_tried_again() -> None:
    assert far_out([*QUIET, 5e-3, *QUIET]) == [20]
    assert far_out(QUIET) == far_out(NOISY) == far_out([1.0, 9.0]) == []
    assert len(far_out(QUIET * 20 + [1.0] * 50)) == 16


@pytest.mark.parametrize("mode", ["isolated", "pipelined", "isolated,pipelined"])
@pytest.mark.parametrize(("size", "seconds"), [(8, 9.9999e-6), (2**30, 0.0099999), (2**36, 8.7072)])
def test_a_narrow_terminal_has_every_number_within_80_columns(mode: str, size: int, seconds: float) -> None:
    plan = bench_plan(parse("--mode", mode, "--stats"))
    cells = {cell: collective(size, [seconds] * 9, mode=cell.mode, in_place=cell.in_place) for cell in plan.cells}
    header = table.header(run_info(hostname="h" * 70), plan, NO_CEILING, stats=True, narrow=True)
    row = table.row(plan, cells, stats=True, narrow=True)
    stats = table.stats_table(list(cells.values()))
    assert max(map(len, [*header.splitlines(), *row.splitlines(), *stats.splitlines()])) <= 80
    assert all(line.startswith("#") for line in header.splitlines())
    assert len(row.splitlines()) == len(plan.cells) // 2
    assert row.split().count(str(size)) == len(plan.cells) // 2
    whole = table.row(plan, cells, stats=False).split()[5:]
    assert [word for line in row.splitlines() for word in line.split()[-8:]] == whole
    assert len(stats.splitlines()) == 3 + len(plan.cells)
    assert not table.fits(plan, 80, stats=False)
    assert table.fits(plan, 400, stats=True)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["-g", "8"], "start N ranks with --nproc N"),
        (["-t", "2"], "start N ranks with --nproc N"),
        (["-o", "all"], "commprof bench -o X for each of sum, avg, min, max"),
        (["-d", "all"], "for each of float32, float64"),
        (["-o", "prod"], "use one of sum, avg, min, max"),
        (["-d", "uint8"], "use one of float32"),
        (["-m", "5"], "--mode pipelined"),
        (["-J", "out.json"], "commprof bench --json > FILE"),
    ],
)
def test_what_nccl_tests_would_do_and_this_does_not_is_answered_by_name(words: list[str], answer: str) -> None:
    with pytest.raises(BadInput, match=re.escape(answer)):
        check_bench(parse(*words))


def test_nccl_tests_habits_that_change_nothing_are_taken() -> None:
    args = parse(*shlex.split("-g 1 -t 1 -p 1 -a 1 -C 1 -z 0 -m 1 -T 30 -c 1 -n 20 -w 5 -b 8 -e 64M -f 2 -o sum -d float"))
    check_bench(args)
    assert args.timeout == 30
    assert bench_plan(args).dtype == "float32"
