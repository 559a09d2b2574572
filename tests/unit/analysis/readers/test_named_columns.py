"""Tables whose header names its columns: CSV, JSON rows, blank-parted; of rccl-tests, mscclpp-test, nccom-test, NVSHMEM."""

import json

import pytest

from commprof.analysis.readers.as_run import Understood, measurements, understand
from commprof.analysis.readers.dialect import read_log
from commprof.commbench.errors import UnusableData

LATENCY_S, BANDWIDTH = 20e-6, 100e9
SIZES = (2**20, 2**24, 2**28)
RCCL = ("numCycle", "collective", "nodes", "ranks", "ranksPerNode", "gpusPerRank", "size", "type", "redop", "inplace")


def seconds(size: int) -> float:
    return LATENCY_S + size / BANDWIDTH


def only(text: str) -> Understood:
    (sweep,) = read_log(text)
    return understand(sweep, "log.txt", op=None, ranks=None)


def times(found: Understood) -> dict[tuple[int, bool], float]:
    return {(r.message_bytes, r.in_place): r.median_s for r in measurements(found)}


def rates(size: int, ranks: int, factor: float) -> str:
    algbw = size / seconds(size) / 1e9
    return f"{algbw:.2f} {algbw * factor * (ranks - 1) / ranks:.2f}"


@pytest.mark.parametrize("small", [False, True])
def test_rccl_tests_csv_has_times_in_us_and_its_own_ranks_and_nodes(small: bool) -> None:
    sizes = (8, 64) if small else SIZES  # whose algbw is printed as 0.00
    rows = [",".join((*RCCL, "time", "algbw", "busbw", "#wrong"))]
    for size in sizes:
        for place in (0, 1):
            values = ",".join(rates(size, 16, 2.0).split())
            rows.append(f"0,all_reduce,2,16,8,1,{size},float,sum,{place},{seconds(size) * 1e6 * (1 + place):.2f},{values},0")
    found = only("\n".join(rows))
    assert (found.op, found.ranks.value, found.nodes.value, found.sweep.dialect) == ("all_reduce", 16, 2, "rccl-tests -Z")
    wanted = {(size, bool(place)): seconds(size) * (1 + place) for size in sizes for place in (0, 1)}
    assert times(found) == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("as_list", [True, False])
def test_rows_as_json_objects(as_list: bool) -> None:
    """rccl-tests writes a list; mscclpp-test one object a line."""
    names = {"name": "AllReduce", "nodes": 1, "ranks": 4, "ranksPerNode": 4, "type": "float", "redop": "sum", "inPlace": 1}
    rows = [
        {"numCycle": 0, **names, "size": size, "time": seconds(size) * 1e6, "algBw": size / seconds(size) / 1e9, "busBw": 1.5}
        for size in SIZES
    ]
    found = only(json.dumps(rows) if as_list else "\n".join(map(json.dumps, rows)))
    assert (found.op, found.nodes.value) == ("all_reduce", 1)
    assert times(found) == pytest.approx({(size, True): seconds(size) for size in SIZES})


@pytest.mark.parametrize(("unit", "factor"), [("us", 1e6), ("ms", 1e3), ("s", 1.0)])
def test_a_time_without_a_unit_has_the_one_by_which_algbw_comes_out(unit: str, factor: float) -> None:
    rows = [f"all_reduce,4,{size},{seconds(size) * factor:.9g},{size / seconds(size) / 1e9:.3f}" for size in SIZES]
    found = only("\n".join(["op,ranks,size,time,algbw", *rows]))
    assert times(found) == pytest.approx({(size, True): seconds(size) for size in SIZES}, rel=1e-6)
    assert any(f"times are in {unit}:" in note for note in found.notes)
    with pytest.raises(UnusableData, match="has no unit"):
        only("\n".join(["op,ranks,size,time,algbw", f"all_reduce,4,{2**20},30,7.5"]))


def test_nccom_test_says_ranks_and_collective_in_its_command() -> None:
    rows = [
        f"  {size}  {size // 2}  bf16  {seconds(size) * 1e6:.1f}  {rates(size, 32, 1.0).replace(' ', '  ')}" for size in SIZES
    ]
    header = "  size(B)    count(elems)     type    time(us)    algbw(GB/s)    busbw(GB/s)"
    found = only("\n".join(["$ nccom-test -r 32 -N 2 --minbytes 1M allg", header, *rows, "Avg bus bandwidth:   56.1GB/s"]))
    assert (found.op, found.ranks.value, found.nodes.value) == ("all_gather", 32, 2)
    assert found.nodes.source == "its command line (-N)"
    assert times(found) == pytest.approx({(size, True): seconds(size) for size in SIZES}, rel=1e-3)
    assert {r.dtype for r in measurements(found)} == {"bfloat16"}


def test_nvshmem_tables_of_one_file_are_told_apart_by_their_titles() -> None:
    def table(title: str, factor: float) -> list[str]:
        header = (
            "size(B)     type      redop     latency(us)       min_lat(us)       max_lat(us)       algbw(GB/s)   busbw(GB/s)"
        )
        rows = [f"{size} float sum {seconds(size) * 1e6:.6f} 1.0 2.0 {rates(size, 8, factor)}" for size in SIZES]
        return [f"#  {title}", header, *rows]

    pes = [f"mype: {pe} mype_node: {pe} device name: H100 bus id: {pe}" for pe in range(8)]
    text = [*pes, *table("reduction_on_stream", 2.0), *table("alltoall_device", 1.0)]
    reduce, exchange = [understand(sweep, "log.txt", op=None, ranks=None) for sweep in read_log("\n".join(text))]
    assert [(found.op, found.ranks.value) for found in (reduce, exchange)] == [("all_reduce", 8), ("all_to_all", 8)]
    assert times(reduce) == pytest.approx({(size, True): seconds(size) for size in SIZES}, rel=1e-6)


def test_a_short_row_is_left_out() -> None:
    found = only(f"op,ranks,size,time_us\nall_reduce,4,{2**20},30\nall_reduce\n")
    assert found.notes[0] == "1 lines without a size and a time left out"
