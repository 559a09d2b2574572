"""Whose log is this? The first mark that no other benchmark makes decides."""

import re
from dataclasses import replace

from commprof.analysis.readers.all_reduce_bench import read_all_reduce_bench
from commprof.analysis.readers.blank_table import read_blank_table
from commprof.analysis.readers.csv_table import read_csv_table, read_json_rows
from commprof.analysis.readers.ending import fatal_line
from commprof.analysis.readers.foreign import ForeignSweep
from commprof.analysis.readers.nccl_tests import read_nccl_tests, why_no_rows
from commprof.analysis.readers.nccl_tests_json import read_nccl_tests_json
from commprof.analysis.readers.nccl_tests_rows import HEADER, text_lines
from commprof.analysis.readers.param import read_param
from commprof.commbench.errors import UnusableData

_NOT_COLLECTIVES = (
    (r"P2P=\w+ (?:Bandwidth|Latency)|D\\D", "p2pBandwidthLatencyTest measures copies between two GPUs, not collectives"),
    (r"memcpy (?:CE|SM) \w+\(row\)", "nvbandwidth measures copies between two ends, not collectives"),
    (r"\| *GPUs *\|.*\|.*busbw", "its table goes by the number of GPUs and has no message sizes; import logs with sizes"),
)


def read_log(text: str) -> tuple[ForeignSweep, ...]:
    """Read every sweep of a log; raises UnusableData with the reason where it holds none.

    nccl-tests' readers know whether a table is whole; of any other a crash that the log tells of is all that is known.
    """
    sweeps = _read(text)
    if any(sweep.dialect.startswith("nccl-tests") for sweep in sweeps) or (fatal := fatal_line(text.splitlines())) is None:
        return sweeps
    return tuple(replace(sweep, ended_early=f"it may lack what came after; the log says {fatal!r}") for sweep in sweeps)


def _read(text: str) -> tuple[ForeignSweep, ...]:
    if re.match(r"\s*[\[{]\s*[{\"]", text[:1_000]):
        return read_json_rows(text) or read_nccl_tests_json(text)
    if "COMMS-RES-" in text:
        return read_param(text)
    if sweeps := read_nccl_tests(text):
        return sweeps
    if re.search(r"\| *payload *\||all_reduce with a [\d.]{1,16} ?\w{1,3} payload", text):
        return read_all_reduce_bench(text)
    for mark, reason in _NOT_COLLECTIVES:
        if re.search(mark, text):
            raise UnusableData(reason)
    if HEADER in text or "test starting" in text or "nThread" in text:
        raise UnusableData(why_no_rows(text_lines(text)))
    return read_blank_table(text) or read_csv_table(text)
