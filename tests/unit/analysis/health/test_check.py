import json
from pathlib import Path

import pytest

from commprof.analysis.health.cli import parse_tolerance
from commprof.analysis.health.results import Verdict
from commprof.analysis.health.text import check_sheet
from commprof.cli import main
from commprof.commbench.display.sheet import plain_text
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import RecordWriter, write_document
from commprof.commbench.records.types import CollectiveMeasurement
from tests.factory import collective, run_info, step, write_measurements, write_training_run
from tests.unit.analysis.health.machines import gpu, host, telemetry

SIZES = [2**k for k in range(10, 31, 2)]
STEADY = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0, 1.01, 0.99, 1.0]


def sweep(*, factor: float = 1.0, in_place: bool = True, **fields: object) -> list[CollectiveMeasurement]:
    """10 us + S / 10 GB/s, known to a percent."""
    return [
        collective(size, [factor * (10e-6 + size / 1e10) * wobble for wobble in STEADY], in_place=in_place, **fields)  # type: ignore[arg-type]
        for size in SIZES
    ]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_measurements(tmp_path / "run", [*sweep(in_place=False), *sweep()])


def test_a_healthy_run_passes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(run)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert {line[:4] for line in shown} <= {"PASS", "SKIP", "    "}
    assert next(line for line in shown if line[:4] == "SKIP").startswith("SKIP  bandwidth: cannot be told, because ")
    assert shown[-1].startswith("PASS: 0 failed, 0 noted, 1 not checked, ")
    assert max(map(len, shown)) <= 80


@pytest.mark.parametrize(("demand", "code"), [("9.9", 0), ("10.1", 3)])
def test_the_bandwidth_demanded_decides(run: Path, demand: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """2^30 bytes in 10 us + 2^30 / 1e10 s: 10 GB/s, and two ranks' busbw equals algbw."""
    assert main(["check", str(run), "--min-busbw", demand, "--at", "1G", "--json"]) == code
    (verdict,) = [v for v in json.loads(capsys.readouterr().out) if v["name"] == "min-busbw"]
    assert verdict["ok"] is (code == 0)
    assert (verdict["measured"], verdict["limit"]) == pytest.approx((1e10, float(demand) * 1e9), rel=1e-3)
    assert verdict["unit"] == "B/s"
    assert "at 1 GiB (all_reduce, isolated, in place, 2 ranks)" in verdict["message"]


def test_without_a_size_latency_means_the_smallest_message(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """1 KiB takes 10 us + 0.1 us."""
    assert main(["check", str(run), "--max-latency", "10.2"]) == 0
    assert main(["check", str(run), "--max-latency", "10.0"]) == 3
    assert "FAIL  max-latency: the median is 10.1 us at 1 KiB" in capsys.readouterr().out


def test_the_series_asked_for_is_the_one_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured = [*sweep(factor=2, mode="pipelined"), *sweep(factor=4, op="broadcast"), *sweep(factor=1, in_place=False)]
    run = str(write_measurements(tmp_path / "run", measured))
    assert main(["check", run, "--min-busbw", "9.9"]) == 0  # isolated before pipelined, though out of place
    assert main(["check", run, "--min-busbw", "4.9", "--mode", "pipelined"]) == 0
    assert main(["check", run, "--min-busbw", "5.1", "--placement", "in"]) == 3
    assert main(["check", run, "--min-busbw", "2.6", "--op", "broadcast"]) == 3
    capsys.readouterr()
    assert main(["check", run, "--min-busbw", "1", "--op", "gather"]) == 2
    assert "only: all_reduce, pipelined, in place; " in capsys.readouterr().err


def test_a_slower_run_fails_against_its_baseline(tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slower = write_measurements(tmp_path / "slow", sweep(factor=1.3))
    assert main(["check", str(run), "--baseline", str(run)]) == 0
    capsys.readouterr()
    assert main(["check", str(slower), "--baseline", str(run)]) == 3
    assert capsys.readouterr().out.startswith("FAIL  baseline all_reduce, isolated, in place: 30.0% slower over 11 sizes")
    assert main(["check", str(slower), "--baseline", str(run), "--tolerance", "50%"]) == 0


@pytest.mark.parametrize(
    ("words", "mend"),
    [
        (["--min-busbw", "1", "--at", "64"], "measured no size within 1.5x of 64 B, only 1 KiB, 4 KiB"),
        (["--min-busbw", "0"], "must be above 0"),
        (["--min-busbw", "nan"], "must be above 0"),
        (["--at", "1G"], "give one of them"),
        (["--baseline", "/nowhere"], "/nowhere is not a run folder"),
        (["--tolerance", "much"], "write for example 5%"),
    ],
)
def test_bad_input_is_2(run: Path, words: list[str], mend: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(run), *words]) == 2
    assert mend in capsys.readouterr().err


def test_a_training_run_and_an_impossible_time_are_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(write_training_run(tmp_path / "train", [step(1)]))]) == 2
    assert "no bench run among" in capsys.readouterr().err
    for index, seconds in enumerate(([], [0.0])):
        assert main(["check", str(write_measurements(tmp_path / f"{index}", [collective(8, seconds)]))]) == 2
        assert "collectives.jsonl:1 is not a valid CollectiveMeasurement" in capsys.readouterr().err


def test_hostile_names_reach_neither_terminal_nor_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_measurements(tmp_path / "run", sweep(), status="failed", failure="rank 0 on h\x1b[2J\nFAIL \u202egnp: lost")
    assert main(["check", str(run)]) == 3
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "\\x1b[2J\\x0aFAIL" in shown


def test_hosts_and_telemetry_beside_the_run_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_measurements(tmp_path / "run", sweep(), backend="nccl", num_nodes=2)
    name = "h\x1b[2J\nPASS"
    write_document(run / "environment.json", (host(name, gpus=(gpu(0, width=8),)),))
    with RecordWriter(run / "telemetry.node00001.jsonl") as writer:
        for sample in telemetry({}, ("software thermal slowdown",)):
            writer.append(sample)
    assert main(["check", str(run)]) == 3
    shown = capsys.readouterr().out
    assert "FAIL  pcie: narrow: h\\x1b[2J\\x0aPASS GPU 0 8 of 16 lanes" in shown
    assert "FAIL  throttling: clocks held down by software thermal slowdown in 1 of 3" in shown


def test_several_runs_name_theirs_and_a_malformed_environment_is_2(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_measurements(tmp_path / "other", [*sweep(), collective(SIZES[-1], STEADY, op="reduce", num_wrong=3)])
    assert main(["check", str(run), str(other)]) == 3
    assert "FAIL  other: results: wrong: 3 elements in the reduce of 1 GiB" in capsys.readouterr().out
    write_document(run / "environment.json", run_info())
    assert main(["check", str(run)]) == 2
    assert "environment.json is not a valid" in capsys.readouterr().err


def test_what_could_not_be_judged_for_one_reason_is_one_line() -> None:
    verdicts = [
        Verdict(name="pcie", ok=None, message="not checked: no file"),
        Verdict(name="nvlink", ok=None, message="not checked: no file"),
    ]
    assert (
        plain_text(check_sheet(verdicts))
        == "SKIP  pcie, nvlink: not checked: no file\nPASS: 0 failed, 0 noted, 2 not checked, 0 passed"
    )


def test_a_tolerance_is_a_percentage() -> None:
    assert (parse_tolerance("5%"), parse_tolerance("7.5")) == (0.05, 0.075)
    with pytest.raises(BadInput):
        parse_tolerance("-1%")
