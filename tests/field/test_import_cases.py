"""`commprof import` over logs of many programs that others kept: read as what they are, dead ones failed, pairs refused."""

import json
import re
from pathlib import Path

import pytest

from commprof.cli import main

LOGS = Path(__file__).parents[2].parent / "shared/cases/logs"

pytestmark = [
    pytest.mark.field,
    pytest.mark.skipif(not LOGS.is_dir(), reason="the logs are not in ../shared/cases/logs"),
]


def imported(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, object]:
    (path,) = LOGS.glob(f"{name}_*")
    main(["import", str(path), "--folder", str(tmp_path / "run"), "--json", *more])
    (answer,) = json.loads(capsys.readouterr().out)
    assert isinstance(answer, dict)
    return answer


@pytest.mark.parametrize(
    ("name", "more", "dialect", "op", "ranks", "times"),
    [
        ("04", ["--world-size", "8"], "OSU", "all_reduce", 8, 5),
        ("05", ["--world-size", "8"], "OSU", "all_reduce", 8, 4),
        ("06", [], "CSV", "all_reduce", 4, 4),
        ("07", [], "CSV", "all_reduce", 4, 4),
        ("08", [], "nccl-tests, shortened", "all_reduce", 8, 8),
        ("09", [], "nccl-tests", "all_reduce", 1024, 2),
        ("10", [], "rccl-tests -Z", "all_reduce", 4, 4),
        ("11", [], "ds_bench", "all_reduce", 8, 3),
        ("12", [], "nccom-test", "all_reduce", 8, 3),
        ("13", [], "nccl-tests", "all_to_all", 8, 22),
    ],
)
def test_each_is_read_as_what_it_is(
    name: str,
    more: list[str],
    dialect: str,
    op: str,
    ranks: int,
    times: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = imported(name, tmp_path, capsys, *more)
    assert (found["ok"], found["dialect"], found["op"], found["world_size"]) == (True, dialect, op, ranks)
    assert found["num_times"] == times


@pytest.mark.parametrize(("name", "reason"), [("04", "say --world-size N"), ("17", "perftest .*commprof links")])
def test_what_cannot_be_used_says_what_to_do(
    name: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = imported(name, tmp_path, capsys)
    assert found["ok"] is False
    assert re.search(reason, str(found["reason"]))


def test_a_log_that_died_fails_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = " ".join(map(str, imported("03", tmp_path, capsys)["notes"]))  # type: ignore[call-overload]
    assert "sizes to 256 MiB, the last is 64 KiB" in notes
    assert main(["check", str(tmp_path / "run")]) == 3


def test_tcp_and_shared_memory_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    imported("14", tmp_path, capsys)
    assert main(["check", str(tmp_path / "run")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert all(words in said for words in ("Socket (TCP), for NET/IB found no device", "(SHM)", "NCCL_P2P_DISABLE=1 is set"))


def test_a_redop_that_is_not_fitted_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    imported("16", tmp_path, capsys)
    assert main(["fit", str(tmp_path / "run")]) == 2
    assert "with redop max" in capsys.readouterr().err
