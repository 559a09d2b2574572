"""Rules of `commprof check` on published nccl-tests tables: they fire where something was wrong and are silent elsewhere.

The limits were settled while looking at logs 01 to 03, 05 to 07, 10, 22, 46 and 47, and with 11, 16, 27, 40, 42, 44 and 58
read as text. The rules met 08, 12, 15, 17 to 20, 25, 26, 29, 31, 34, 36 to 38, 43, 49 and 57 only afterwards.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from commprof.analysis.health.evidence import Evidence
from commprof.analysis.health.results import Verdict
from commprof.analysis.health.run_health import health
from commprof.analysis.health.stability import stability
from commprof.analysis.runs.load import Run
from commprof.cli import main
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.records.types import CollectiveMeasurement
from tests.factory import run_info

LOGS = Path(__file__).parents[2].parent / "shared/data/nccl_logs"
CASES = Path(__file__).parents[2].parent / "shared/cases/logs"
PREFIX = re.compile(r"^(\[[\d,]+\]<std\w+>:|\d+: )")

pytestmark = [
    pytest.mark.field,
    pytest.mark.skipif(not LOGS.is_dir(), reason="the published tables are not in ../shared/data/nccl_logs"),
]


def rows(path: Path) -> Iterator[list[str]]:
    """Yield the words of a table's rows of non-zero size; the last eight are time, algbw, busbw and errors, twice."""
    for line in path.read_text().splitlines():
        words = PREFIX.sub("", line.strip()).split()
        if len(words) >= 11 and words[0].isdecimal() and words[1].isdecimal() and int(words[0]) > 0:
            yield words


def measurements(path: Path, op: str, world_size: int) -> Iterator[CollectiveMeasurement]:
    for words in rows(path):
        for in_place, time_us in ((False, words[-8]), (True, words[-4])):
            yield CollectiveMeasurement(
                op=op,
                dtype="float32",
                message_bytes=int(words[0]),
                world_size=world_size,
                mode="pipelined",
                in_place=in_place,
                warmup_iterations=5,
                slowest_rank_s=(float(time_us) * 1e-6,),
                fastest_rank_s=(float(time_us) * 1e-6,),
                timer="nccl-tests",
                calls_per_sample=20,
            )


def failures_and_notes(name: str, op: str, world_size: int) -> dict[str, Verdict]:
    (path,) = LOGS.glob(f"{name}_*.txt")
    found = tuple(measurements(path, op, world_size))
    assert len(found) > 20
    assert op in OPERATIONS
    info = run_info(backend="nccl", world_size=world_size)
    run = Run(path=path, info=info, collectives=found, steps={}, gradients=None)
    evidence = Evidence(run=run, hosts=None, telemetry=None, bursts=(), links=())
    return {v.name: v for v in (*health(evidence), *stability(evidence)) if v.ok is False or v.note}


@pytest.mark.parametrize(
    ("name", "op", "world_size"),
    [
        ("11", "all_reduce", 2),
        ("12", "all_reduce", 4),
        ("15", "all_reduce", 16),
        ("16", "all_reduce", 2),
        ("17", "all_gather", 2),
        ("19", "reduce", 2),
        ("20", "all_to_all", 2),
        ("34", "all_gather", 16),
        ("43", "all_reduce", 4),
        ("57", "all_reduce", 12),
    ],
)
def test_healthy_tables_are_let_pass(name: str, op: str, world_size: int) -> None:
    assert failures_and_notes(name, op, world_size) == {}


@pytest.mark.parametrize(
    ("name", "op", "world_size", "size"),
    [
        ("40", "all_reduce", 4, "16 KiB takes 291 us, 12.0x"),
        ("42", "all_reduce", 16, "32 KiB takes 2.07 ms, 7.2x"),
        ("18", "broadcast", 2, "1 MiB takes 288 us, 2.5x"),
        ("25", "all_reduce", 16, "512 KiB takes 241 us, 2.7x"),
        ("38", "all_reduce", 8, "32 B takes 22.2 us, 1.6x"),
    ],
)
def test_cold_and_disturbed_sizes_are_found_by_both_rules(name: str, op: str, world_size: int, size: str) -> None:
    found = failures_and_notes(name, op, world_size)
    assert set(found) - {"slow range"} == {"spikes", "placements"}
    assert ("slow range" in found) == (name == "42")  # 64 KiB takes 1.66 ms in both placements, between the disturbed sizes
    assert size in found["spikes"].message


def test_a_pcie_machine_that_slows_with_size_gets_a_note() -> None:
    """Log 58 loses 18 % from 1 MiB to 128 MiB, less than fails a run; its two sockets' healthy kin lose a tenth."""
    found = failures_and_notes("58", "all_reduce", 8)
    assert set(found) == {"falling"}
    assert found["falling"].measured == pytest.approx(0.178, abs=0.001)
    assert "from 2.99 GB/s at 1 MiB to 2.46 GB/s at 128 MiB" in found["falling"].message


@pytest.mark.parametrize(
    ("name", "failing", "words"),
    [
        ("01_slow_range", {"slow range"}, "128 KiB to 1 MiB, 1.44 ms where 2 MiB takes 365 us"),
        ("02_jump_both_placements", {"switch"}, "at 64 MiB, 3.4 times the time of 32 MiB for 2 times the bytes"),
        ("13_alltoall_in_place", set(), ""),
    ],
)
@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not in ../shared/cases/logs")
def test_what_both_placements_show_is_no_disturbance(
    tmp_path: Path, name: str, failing: set[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["import", str(CASES / f"{name}.txt"), "--folder", str(run)]) == 0
    capsys.readouterr()
    assert main(["check", str(run), "--json"]) == (3 if failing else 0)
    verdicts = {own["name"]: own for own in json.loads(capsys.readouterr().out)}
    assert {own for own, verdict in verdicts.items() if verdict["ok"] is False} == failing
    assert all(words in verdicts[own]["message"] and "so no disturbance" in verdicts[own]["message"] for own in failing)
    assert ("hosts: unknown" in verdicts["ranks"]["message"]) == (name == "02_jump_both_placements")
