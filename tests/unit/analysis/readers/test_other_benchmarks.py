"""Logs of MPI's, DeepSpeed's, gloo's and UCC's benchmarks, written from a known line, come back as it; pairs' are refused."""

import pytest

from commprof.analysis.readers.as_run import Understood, measurements, understand
from commprof.analysis.readers.dialect import read_log
from commprof.commbench.errors import UnusableData

LATENCY_S, BANDWIDTH = 20e-6, 10e9
SIZES = (4, 1024, 65536, 2**20, 2**24)


def seconds(size: float) -> float:
    return LATENCY_S + size / BANDWIDTH


def us(size: float, factor: float = 1.0) -> str:
    return f"{seconds(size) * 1e6 * factor:.2f}"


def line(share: int = 1) -> dict[int, float]:
    """Return the times of the line where the log's sizes are one rank's share of the message."""
    return {size * share: seconds(size) for size in SIZES}


def read(text: str, ranks: int | None = None) -> list[Understood]:
    return [understand(sweep, "log.txt", op=None, ranks=ranks) for sweep in read_log(text)]


def times(found: Understood) -> dict[int, float]:
    return {r.message_bytes: r.median_s for r in measurements(found)}


def osu(name: str, columns: str = "Avg Latency(us)   Min Latency(us)   Max Latency(us)  Iterations", dtype: str = "") -> str:
    cells = len(columns.split("  ")) > 1
    rows = [f"{size}   {us(size)}" + (f"   {us(size, 0.9)}   {us(size, 1.5)}   1000" if cells else "") for size in SIZES]
    noise = "[node0:mpi_rank_0][MPIDI_CH3_Init] [Performance Impact Warning]: 12 of 40 cores"
    return "\n".join(
        [noise, "", f"# OSU {name} v7.3", *([dtype] if dtype else []), f"# Size       {columns}", rows[0], noise, *rows[1:]]
    )


@pytest.mark.parametrize(
    ("name", "op", "share", "backend"),
    [
        ("MPI-CUDA Allreduce Latency Test", "all_reduce", 1, "mpi-cuda"),
        ("MPI Allreduce Latency Test", "all_reduce", 1, "mpi"),
        ("MPI-ROCM Broadcast Latency Test", "broadcast", 1, "mpi-rocm"),
        ("MPI Allgather Latency Test", "all_gather", 4, "mpi"),
        ("MPI Allgatherv Latency Test", "all_gather", 4, "mpi"),
        ("MPI All-to-All Personalized Exchange Latency Test", "all_to_all", 4, "mpi"),
        ("MPI Reduce_scatter Latency Test", "reduce_scatter", 1, "mpi"),
        ("MPI Scatter Latency Test", "scatter", 4, "mpi"),
        ("NCCL-CUDA Allreduce Latency Test", "all_reduce", 1, "nccl"),
    ],
)
def test_osus_collectives(name: str, op: str, share: int, backend: str) -> None:
    (found,) = read(osu(name), ranks=4)
    assert (found.op, found.ranks.value, found.sweep.backend) == (op, 4, backend)
    assert times(found) == pytest.approx(line(share), rel=1e-3)
    assert any("slowest rank's is up to 1.50x" in note for note in found.notes)
    with pytest.raises(UnusableData, match="say --world-size"):
        read(osu(name))


def test_osus_shorter_and_older_forms() -> None:
    (short,) = read(osu("MPI Allreduce Latency Test", "Avg Latency(us)"), ranks=4)
    assert times(short) == pytest.approx(line(), rel=1e-3)
    assert {r.dtype for r in measurements(short)} == {"float32"}
    (typed,) = read(osu("MPI Allreduce Latency Test", dtype="# Datatype: MPI_INT."), ranks=4)
    assert {r.dtype for r in measurements(typed)} == {"int32"}
    launched = "$ mpirun -np 16 -x NCCL_DEBUG ./osu_allreduce -f\n"
    (named,) = read(launched + osu("MPI Allreduce Latency Test"))
    assert (named.ranks.value, named.ranks.source) == (16, "its command line")
    pure = osu("MPI Non-blocking Allreduce Latency Test", "Overall(us)")
    rows = [f"{size}  {us(size, 2)}  {us(size)}  {us(size)}  0.00" for size in SIZES]
    header = "# Size           Overall(us)       Compute(us)    Pure Comm.(us)        Overlap(%)"
    (hidden,) = read("\n".join([pure.splitlines()[2], header, *rows]), ranks=4)
    assert times(hidden) == pytest.approx(line(), rel=1e-3)


IMB_HEAD = [
    "#    Intel(R) MPI Benchmarks 2021.3, MPI-1 part",
    "# Minimum message length in bytes:   0",
    f"# Maximum message length in bytes:   {SIZES[-1]}",
    "# MPI_Datatype                   :   MPI_BYTE",
    "# MPI_Datatype for reductions    :   MPI_FLOAT",
]


def imb(name: str, ranks: int, keep: int = len(SIZES)) -> list[str]:
    rule = "#" + "-" * 60
    header = "       #bytes #repetitions  t_min[usec]  t_max[usec]  t_avg[usec]"
    rows = [f"      {size}    1000   {us(size, 0.9)}   {us(size, 1.1)}   {us(size)}" for size in SIZES[:keep]]
    idle = "# ( 2 additional processes waiting in MPI_Barrier)"
    return [
        rule,
        f"# Benchmarking {name} ",
        f"# #processes = {ranks} ",
        idle,
        rule,
        header,
        "   0  1000  0.05  0.07  0.06",
        *rows,
        "",
    ]


def test_intel_mpi_benchmarks() -> None:
    pingpong = [
        "# Benchmarking PingPong",
        "# #processes = 2",
        "   #bytes #repetitions      t[usec]   Mbytes/sec",
        "  0  1000  1.0  0.00",
    ]
    end = ["# All processes entering MPI_Finalize"]
    text = [*IMB_HEAD, *pingpong, *imb("Allreduce", 2), *imb("Allreduce", 8), *imb("Allgather", 4), *imb("Alltoallv", 4), *end]
    found = read("\n".join(text))
    assert [(f.op, f.ranks.value) for f in found] == [
        ("all_reduce", 2),
        ("all_reduce", 8),
        ("all_gather", 4),
        ("all_to_all", 4),
    ]
    assert times(found[1]) == pytest.approx(line(), rel=1e-3)
    assert times(found[2]) == pytest.approx(line(4), rel=1e-3)
    assert [{r.dtype for r in measurements(f)} for f in found[1:3]] == [{"float32"}, {"int8"}]
    assert all(f.sweep.ended_early is None for f in found)
    with pytest.raises(UnusableData, match=r"PingPong .*commprof links"):
        read("\n".join([*IMB_HEAD, *pingpong, *end]))


def test_intel_mpi_benchmarks_that_died() -> None:
    whole, dead = read(
        "\n".join([*IMB_HEAD, *imb("Allreduce", 2), *imb("Allreduce", 8, keep=3), "BAD TERMINATION of one process"])
    )
    assert "sizes to 16 MiB, the last is 64 KiB" in str(dead.sweep.ended_early)
    assert "BAD TERMINATION" in str(dead.sweep.ended_early)
    assert whole.ranks.value == 2


def ds_bench(op: str, element_bytes: int = 4, *, raw: bool = False) -> list[str]:
    rows = []
    for size in SIZES:
        duration = f"{us(size)}" if raw else f"{us(size)} us" if seconds(size) < 1e-3 else f"{seconds(size) * 1e3:.3f} ms"
        shown = str(size) if raw else f"{size / 2**20:.2f} MB"
        rows.append(f"{shown:20} {size // element_bytes}x{element_bytes}      {duration:20} 69.905    61.167")
    return [
        f"---- Performance of {op} on 8 devices -----------",
        "Size (Bytes)  Description  Duration  Throughput (Gbps)  BusBW (Gbps)",
        "-" * 80,
        *rows,
    ]


@pytest.mark.parametrize("prefix", ["", "node0: "])
def test_ds_bench(prefix: str) -> None:
    text = [*ds_bench("all_reduce"), *ds_bench("all_gather", 2), *ds_bench("all_reduce", raw=True), *ds_bench("pt2pt")]
    reduce, gather, raw = read("\n".join(prefix + words for words in text))
    assert [(f.op, f.ranks.value, f.ranks.source) for f in (reduce, gather)] == [
        ("all_reduce", 8, "its title"),
        ("all_gather", 8, "its title"),
    ]
    assert times(reduce) == pytest.approx(line(), rel=1e-3)
    assert times(raw) == pytest.approx(line(), rel=1e-3)
    assert times(gather) == pytest.approx(line(8), rel=1e-3)
    assert any("taken as bfloat16" in note for note in gather.notes)


def test_gloos_benchmark_of_both_forms() -> None:
    rows = [f"{size}  {size // 4}  {us(size, 0.9)}  {us(size)}  {us(size, 2)}  {us(size, 3)}  1.234  500" for size in SIZES]
    header = "   size (B)   elements   min (us)   p50 (us)   p99 (us)   max (us)   bandwidth (GB/s)   iterations"
    new = [
        "=" * 40,
        "      ALLREDUCE_RING_CHUNKED",
        "",
        "Device:   tcp, pci=, iface=eth0",
        "Options:  processes=4, inputs=1, threads=1, verify=true",
        header,
        *rows,
    ]
    (found,) = read("\n".join(new))
    assert (found.op, found.ranks.value, found.sweep.backend) == ("all_reduce", 4, "gloo")
    assert times(found) == pytest.approx(line(), rel=1e-3)
    rows = [f"{size // 4}  {us(size, 0.9)}  {us(size)}  {us(size, 2)}  {us(size, 3)}  1.234  500" for size in SIZES]
    header = "   elements   min (us)   p50 (us)   p99 (us)   max (us)   avg (GB/s)    samples"
    (old,) = read("\n".join(["Algorithm:   new_allreduce_ring", "Options:     processes=2, inputs=2", header, *rows]))
    assert (old.op, old.ranks.value) == ("all_reduce", 2)
    assert times(old) == pytest.approx(line(), rel=1e-3)
    assert any("gave 2 buffers" in note for note in old.notes)
    with pytest.raises(UnusableData, match="names no collective"):
        read("\n".join(["   BARRIER_ALL_TO_ALL", "Options:   processes=4, inputs=1", header, *rows]))


@pytest.mark.parametrize(("full", "ranks"), [(True, None), (False, 8)])
def test_uccs_perftest(full: bool, ranks: int | None) -> None:
    def rate(size: int) -> str:
        return f"   {size / seconds(size) / 1e9 * 2 * 7 / 8:.2f}   1.00   1.00" if full else ""

    rows = [f"{size // 4}   {size}   {us(size)}   {us(size, 0.9)}   {us(size, 1.1)}{rate(size)}" for size in SIZES]
    head = ["Collective:             Allreduce", "Memory type:            cuda", "Datatype:               float32"]
    head += ["Reduction:              sum", "Inplace:                0", "Warmup:", "  small                 100", ""]
    (found,) = read(
        "\n".join([*head, "  Count   Size   Time, us   Bus Bandwidth, GB/s", "  avg  min  max", *rows]), ranks=ranks
    )
    assert (found.op, found.ranks.value, found.sweep.backend) == ("all_reduce", 8, "ucc-cuda")
    assert times(found) == pytest.approx(line(), rel=1e-3)


def test_every_trial_of_a_stability_profile_is_a_sample() -> None:
    above = "The 0.5GiB payload bandwidth of all_reduce over 8 ranks (5 warmups / 20 trials):\n"
    rows = [f"| {rate * 1.75:6.2f}GBps | {rate:6.2f}GBps |" for rate in (100.0, 110.0, 90.0)]
    (found,) = read("\n".join([above, "|    busbw   |    algbw   |", "| ---------: | ---------: |", *rows]))
    (record,) = measurements(found)
    assert (record.message_bytes, record.world_size, record.warmup_iterations) == (2**29, 8, 5)
    assert record.slowest_rank_s == pytest.approx([2**29 / 100e9, 2**29 / 110e9, 2**29 / 90e9])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("# OSU MPI-CUDA Bandwidth Test v7.3\n# Size      Bandwidth (MB/s)\n1   2.4\n", "OSU's test of bandwidth"),
        ("# OSU MPI Latency Test v5.9\n# Size          Latency (us)\n0   1.2\n8   1.3\n", "OSU's test of latency"),
        ("# OSU MPI Bi-Directional Bandwidth Test v7\n# Size      Bandwidth (MB/s)\n1   2.4\n", "OSU's test of bi-direc"),
        (
            "   RDMA_Write BW Test\n #bytes     #iterations    BW peak[Gb/sec]\n 65536  5000  96.1\n",
            "ib_write_bw",
        ),
        (
            "   Send Latency Test\n #bytes #iterations    t_min[usec]    t_max[usec]  t_typical[usec]\n 2  9  1.2  4.0  1.3\n",
            "ib_write_bw",
        ),
        ("[CUDA Bandwidth Test] - Starting...\n Host to Device Bandwidth, 1 Device(s)\n  33554432   12.3\n", "bandwidthTest"),
        ("nvbandwidth Version: v0.6\nmemcpy CE GPU(row) <- GPU(column) bandwidth (GB/s)\n 0  N/A  300.1\n", "nvbandwidth"),
        ('{"nvbandwidth": {"testcases": []}}', "nvbandwidth"),
        ("#shmem_put_bw\nsize(B)  scope  BW(GB/s)\n8  block  0.01\n", "NVSHMEM's put and get"),
        ("[  5]   0.00-10.00  sec  1.10 GBytes   941 Mbits/sec   0   sender\n", "iperf"),
    ],
)
def test_tools_for_pairs_are_refused_by_name_with_what_to_use(text: str, name: str) -> None:
    with pytest.raises(UnusableData, match=f"{name}.*commprof links"):
        read_log(text)
