"""Whose log is this? The first mark that no other benchmark makes decides."""

import re
from collections.abc import Callable
from dataclasses import replace

from commprof.analysis.readers.ending import fatal_line
from commprof.analysis.readers.foreign import ForeignSweep
from commprof.analysis.readers.formats import ds_bench, gloo_benchmark, imb, osu, ucc_perftest
from commprof.analysis.readers.formats.all_reduce_bench import read_all_reduce_bench
from commprof.analysis.readers.formats.blank_table import read_blank_table
from commprof.analysis.readers.formats.csv_table import read_csv_table, read_json_rows
from commprof.analysis.readers.formats.nccl_tests import read_nccl_tests, why_no_rows
from commprof.analysis.readers.formats.nccl_tests_json import read_nccl_tests_json
from commprof.analysis.readers.formats.nccl_tests_rows import HEADER, text_lines
from commprof.analysis.readers.formats.param import read_param
from commprof.commbench.errors import UnusableData

_KNOWS_ITS_END = ("nccl-tests", "mscclpp-test")
_READERS: tuple[tuple[re.Pattern[str], Callable[[str], tuple[ForeignSweep, ...]]], ...] = (
    (re.compile("COMMS-RES-"), read_param),
    (osu.TITLE, osu.read_osu),
    (imb.TITLE, imb.read_imb),
    (ds_bench.TITLE, ds_bench.read_ds_bench),
    (gloo_benchmark.MARK, gloo_benchmark.read_gloo_benchmark),
    (ucc_perftest.MARK, ucc_perftest.read_ucc_perftest),
)
_PAIRS = "commprof links measures the pairs of a job; import a collective's log"
_NOT_COLLECTIVES = (
    (r"P2P=\w+ (?:Bandwidth|Latency)|D\\D", "p2pBandwidthLatencyTest measures copies between two GPUs, not collectives"),
    (
        r"memcpy (?:CE|SM) \w+\(row\)|nvbandwidth Version|\"nvbandwidth\"",
        "nvbandwidth measures copies between two ends, not collectives",
    ),
    (
        r"(?:RDMA_\w+|Send|Write|Read|Atomic\w*) (?:Bidirectional )?(?:BW|Latency) Test|#bytes +#iterations",
        "perftest (ib_write_bw and its like) measures one link, not collectives",
    ),
    (
        r"\[CUDA Bandwidth Test\]|bandwidthTest|(?:Host to Device|Device to Host) Bandwidth",
        "bandwidthTest measures copies between host and GPU, not collectives",
    ),
    (r"\[ *\d+\] +\d[\d.]*-\d[\d.]* +sec .*bits/sec", "iperf measures one TCP connection, not collectives"),
    (r"rocm_bandwidth_test|RocmBandwidthTest", "rocm_bandwidth_test measures copies between two ends, not collectives"),
    (
        r"# *shmem_(?:put|get|p|g|st|atomic)\w*|shmem_\w+_(?:bw|latency)\b",
        "NVSHMEM's put and get tests measure a pair, not collectives",
    ),
)
_NO_SIZES = (
    (r"\| *GPUs *\|.*\|.*busbw", "its table goes by the number of GPUs and has no message sizes; import logs with sizes"),
)


def read_log(text: str) -> tuple[ForeignSweep, ...]:
    """Read every sweep of a log; raises UnusableData with the reason where it holds none.

    nccl-tests' readers know whether a table is whole; of any other a crash that the log tells of is all that is known.
    """
    sweeps = _read(text)
    if any(sweep.dialect.startswith(_KNOWS_ITS_END) or sweep.ended_early is not None for sweep in sweeps):
        return sweeps
    fatal = fatal_line(text.splitlines())
    if fatal is None:
        return sweeps
    return tuple(replace(sweep, ended_early=f"it may lack what came after; the log says {fatal!r}") for sweep in sweeps)


def _read(text: str) -> tuple[ForeignSweep, ...]:
    if re.match(r"\s*[\[{]\s*[{\"]", text[:1_000]):
        _refuse_pairs(text)
        return read_json_rows(text) or read_nccl_tests_json(text)
    for begins, read in _READERS:
        if begins.search(text):
            return read(text)
    if sweeps := read_nccl_tests(text):
        return sweeps
    if re.search(r"\| *payload *\||all_reduce with a [\d.]{1,16} ?\w{1,3} payload|payload bandwidth of all_reduce", text):
        return read_all_reduce_bench(text)
    _refuse_pairs(text)
    for mark, reason in _NO_SIZES:
        if re.search(mark, text):
            raise UnusableData(reason)
    if HEADER in text or "test starting" in text or "nThread" in text:
        raise UnusableData(why_no_rows(text_lines(text)))
    return read_blank_table(text) or read_csv_table(text)


def _refuse_pairs(text: str) -> None:
    for mark, reason in _NOT_COLLECTIVES:
        if re.search(mark, text):
            raise UnusableData(f"{reason}; {_PAIRS}")
