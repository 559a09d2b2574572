"""Logs of programs that died, hung or were cut: no such log passes `check`, and `fit` says what is missing."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from commprof.analysis.readers.dialect import read_log
from commprof.cli import main
from commprof.commbench.records.rundir import read_info
from tests.unit.analysis.readers.test_foreign_logs import SIZES, Table, lines

FAILURE = "node1: Test NCCL failure common.cu:958 'unhandled system error / '"
WARNING = "node1:505:605 [1] misc/socket.cc:50 NCCL WARN Timeout waiting for connection"


def whole(ranks: int = 8) -> list[str]:
    """Return a log whose header announces just the sizes that it holds."""
    return [line.replace("maxBytes 99", f"maxBytes {SIZES[-1]}") for line in lines(Table(ranks=ranks))]


def died(keep: int) -> list[str]:
    """Return the log up to its row number `keep`."""
    text = whole()
    rows = [index for index, line in enumerate(text) if " float " in line]
    return text[: rows[keep - 1] + 1]


def broken_row() -> list[str]:
    text = [line for line in died(6) if "minBytes" not in line]
    return [*text[:-1], " ".join(text[-1].split()[:9])]


def without_header(text: list[str]) -> list[str]:
    return [line for line in text if "minBytes" not in line]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (lambda: [*died(5), WARNING, FAILURE], "sizes to 1 GiB, the last is 256 KiB"),
        (lambda: [*died(5), WARNING, FAILURE], "Timeout waiting for connection"),
        (lambda: [*died(5), WARNING, FAILURE], "Test NCCL failure common.cu:958"),
        (lambda: died(5), "sizes to 1 GiB, the last is 256 KiB"),
        (lambda: died(len(SIZES)), "there is no footer"),
        (broken_row, "a row breaks off"),
        (lambda: [*without_header(died(5)), WARNING], "Timeout waiting for connection"),
        (lambda: [*without_header(died(5)), "srun: error: node1: task 3: Killed"], "task 3: Killed"),
    ],
)
def test_a_dead_log_fails_check_and_fit_calls_it_so(
    text: Callable[[], list[str]], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log.txt").write_text("\n".join(text()))
    run = tmp_path / "run"
    assert main(["import", str(tmp_path / "log.txt"), "--folder", str(run), "--json"]) == 0
    (imported,) = json.loads(capsys.readouterr().out)
    assert any("NOT WHOLE" in note and said in note for note in imported["notes"])
    assert (read_info(run).status, said in str(read_info(run).failure)) == ("failed", True)
    assert main(["check", str(run)]) == 3
    assert "FAIL  ending" in capsys.readouterr().out
    assert main(["fit", str(run), "--json"]) == 0
    (cost,) = json.loads(capsys.readouterr().out)
    assert cost["verdict"].startswith("not whole: ")


@pytest.mark.parametrize(
    "text",
    [
        whole,
        lambda: without_header(died(5)),  # an excerpt: nothing tells of more
        lambda: [*whole()[:-2], WARNING, *whole()[-2:]],  # a warning, and yet it came to its end
        lambda: [*died(5), *whole()[-2:]],  # rows that a person cut out: the footer stands
        lambda: [line.replace(f"{SIZES[-1]} ", f"{2 * SIZES[-1]} ", 1) if "minBytes" in line else line for line in whole()],
    ],
)
def test_a_log_that_came_to_its_end_is_none(text: Callable[[], list[str]]) -> None:
    (sweep,) = read_log("\n".join(text()))
    assert sweep.ended_early is None


def test_a_size_beyond_the_last_step_is_no_promise() -> None:
    """10 MiB by a factor of 4 from 1 KiB ends at 4 MiB; and memory may have made it go less far than asked."""
    text = [*died(7), "# Out of bounds values : 0 OK"]
    text = [line.replace(f"maxBytes {SIZES[-1]}", "maxBytes 10485760") for line in text]
    assert read_log("\n".join(text))[0].ended_early is None
    cut = [*died(7)]
    cut.insert(1, "# Reducing maxBytes to 9000000 due to memory limitation")
    (sweep,) = read_log("\n".join(cut))
    assert "sizes to" not in str(sweep.ended_early)


def test_the_second_test_of_a_file_may_die_before_its_first_row() -> None:
    first, second = read_log("\n".join([*whole(), *lines(Table())[:6], FAILURE]))
    assert first.ended_early is None
    assert "no row came out" in str(second.refused)
    assert "Test NCCL failure" in str(second.refused)


def test_a_test_that_died_leaves_its_devices_and_its_header_to_itself() -> None:
    dead = [line for line in whole(16) if " float " not in line][:18]
    refused, sweep = read_log("\n".join([*dead, FAILURE, "# Using devices", *whole()]))
    assert refused.refused is not None
    assert len(sweep.devices) == 8
    silent = [*dead, "# Using devices", *whole()]
    (sweep,) = read_log("\n".join(silent))
    assert len(sweep.devices) == 8


def test_a_device_list_without_its_headline_belongs_to_the_table_below() -> None:
    big = [line for line in whole(16) if "minBytes" not in line and "size " not in line]
    header = next(line for line in whole() if " size " in line)
    at = next(index for index, line in enumerate(big) if " float " in line)
    first, second = read_log("\n".join([*whole(), *big[:at], header, *big[at:]]))
    assert (len(first.devices), len(second.devices)) == (8, 16)


def test_another_programs_log_that_tells_of_a_crash_is_not_whole() -> None:
    table = [
        "op,n,size_bytes,time_us",
        "all_reduce,4,1048576,100",
        "all_reduce,4,4194304,300",
        "Segmentation fault (core dumped)",
    ]
    (sweep,) = read_log("\n".join(table))
    assert "Segmentation fault" in str(sweep.ended_early)


def test_json_that_announces_more_or_reports_an_error_is_not_whole() -> None:
    half = {"time": 100.0, "alg_bw": 10.49, "bus_bw": 15.73, "nwrong": 0}
    document = {
        "version": 3,
        "config": {"maximum_bytes": 2**30, "step_factor": 2},
        "results": [{"size": 2**20, "count": 2**18, "type": "float", "redop": "sum", "out_of_place": half, "in_place": half}],
    }
    assert "sizes to 1 GiB, the last is 1 MiB" in str(read_log(json.dumps(document))[0].ended_early)
    (sweep,) = read_log(json.dumps(document | {"out_of_bounds": {"count": 0}, "errors": ["unhandled cuda error"]}))
    assert "unhandled cuda error" in str(sweep.ended_early)
    assert read_log(json.dumps(document | {"out_of_bounds": {"count": 0}}))[0].ended_early is None
