"""What torch's allocator had given out in steps drawn on paper; times in microseconds."""

import json
from pathlib import Path
from typing import Any

import pytest

from commprof.analysis.traces.one_rank.kineto import read_trace
from commprof.analysis.traces.one_rank.rank_trace import RankTrace, reduce_trace
from commprof.analysis.traces.one_rank.reduced import read_reduced, write_reduced
from commprof.analysis.traces.one_rank.work.memory import MemoryPeak
from commprof.cli import main
from tests.traces import event, header, profiler_step, write_trace

MIB = 2**20


def level(at: float, mib: float, device: Any = 0) -> dict[str, Any]:  # noqa: ANN401
    arguments = {"Total Allocated": int(mib * MIB), "Bytes": 1, "Device Type": device, "Device Id": -1}
    return {
        "ph": "i",
        "cat": "cpu_instant_event",
        "s": "t",
        "name": "[memory]",
        "pid": 1,
        "tid": 1,
        "ts": at,
        "args": arguments,
    }


EVENTS = [
    profiler_step(1, 0, 100), profiler_step(2, 100, 200), profiler_step(3, 200, 300),
    event("cpu_op", "aten::mm", 10, 20), event("cpu_op", "aten::mm", 110, 120),
    level(5, 10), level(40, 50), level(90, 20), level(130, 70), level(190, 20), level(150, 8, 1),
    level(160, 5, "a kind"),
]  # fmt: skip


def reduced(path: Path) -> RankTrace:
    write_trace(path, EVENTS, header(0, 1))
    return reduce_trace(read_trace(path))


def test_the_most_in_each_step_and_what_it_took_beyond_its_begin(tmp_path: Path) -> None:
    """The third step changes nothing and is not told; a level of no known device is no level."""
    own = reduced(tmp_path / "rank0.json")
    assert own.memory_peaks == (
        MemoryPeak(step=1, device="cpu", begin_bytes=0, peak_bytes=50 * MIB, after_ns=40_000),
        MemoryPeak(step=2, device="cpu", begin_bytes=20 * MIB, peak_bytes=70 * MIB, after_ns=30_000),
        MemoryPeak(step=2, device="cuda", begin_bytes=0, peak_bytes=8 * MIB, after_ns=50_000),
    )
    write_reduced(tmp_path / "small.reduced.gz", own)
    assert read_reduced(tmp_path / "small.reduced.gz").memory_peaks == own.memory_peaks


def test_it_is_told_in_words_and_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reduced(tmp_path / "rank0.json")
    assert main(["trace", str(tmp_path / "rank0.json")]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert (
        "cpu: at most 70 MiB, on rank 0 in step 2, 30 us after it began; a step takes 50 MiB beyond its begin (median)" in told
    )
    assert main(["trace", str(tmp_path / "rank0.json"), "--json"]) == 0
    assert [peak["device"] for peak in json.loads(capsys.readouterr().out)["memory"]["0"]] == ["cpu", "cpu", "cuda"]


def test_without_such_events_nothing_is_said_of_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trace(tmp_path / "rank0.json", EVENTS[:5], header(0, 1))
    assert main(["trace", str(tmp_path / "rank0.json")]) == 0
    assert "allocator" not in capsys.readouterr().out
