import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import (
    RUN_FILE,
    RecordWriter,
    create_run,
    finish_run,
    new_run_path,
    read_document,
    read_info,
    read_records,
    write_document,
    write_text,
)
from commprof.commbench.records.training import StepMeasurement
from commprof.commbench.records.types import SCHEMA_VERSION
from tests.factory import run_info, step


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    info = run_info(world_size=4)
    create_run(tmp_path / "r", info)
    assert read_info(tmp_path / "r") == info


def test_no_credential_of_a_command_or_a_variable_is_written_or_read(tmp_path: Path) -> None:
    told = replace(
        run_info(status="running"),
        command=("train.py", "--token", "SECRET", "data.url=https://u:SECRET@host"),
        environ={"NCCL_NET": "https://SECRET@host"},
    )
    create_run(tmp_path / "r", told)
    finish_run(tmp_path / "r", "failed", "cannot download https://u:SECRET@host")
    assert "SECRET" not in (tmp_path / "r" / RUN_FILE).read_text()
    assert read_info(tmp_path / "r").failure == "cannot download https://***@host"
    write_document(tmp_path / "r" / RUN_FILE, told)  # as an earlier commprof did
    assert "SECRET" not in str(read_info(tmp_path / "r"))


def test_two_runs_never_share_a_name(tmp_path: Path) -> None:
    names = {new_run_path(tmp_path, "bench", 2).name for _ in range(50)}
    assert len(names) == 50
    assert all("-bench-n2-" in name for name in names)


def test_a_folder_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    with pytest.raises(BadInput, match="never overwrites"):
        create_run(tmp_path / "r", run_info())


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="choose one you may write to"):
        create_run(tmp_path / "file" / "r", run_info())


def test_the_first_verdict_on_a_run_stands(tmp_path: Path) -> None:
    create_run(tmp_path / "r", run_info(status="running"))
    finish_run(tmp_path / "r", "failed", "rank 1 died")
    finish_run(tmp_path / "r", "completed")
    assert (read_info(tmp_path / "r").status, read_info(tmp_path / "r").failure) == ("failed", "rank 1 died")


def test_the_launcher_knows_better_than_a_rank_but_not_than_success(tmp_path: Path) -> None:
    create_run(tmp_path / "r", run_info(status="running"))
    finish_run(tmp_path / "r", "interrupted", "SIGTERM")
    finish_run(tmp_path / "r", "failed", "rank 1 was killed", override=True)
    assert read_info(tmp_path / "r").failure == "rank 1 was killed"
    create_run(tmp_path / "done", run_info(status="completed"))
    finish_run(tmp_path / "done", "failed", "late", override=True)
    assert read_info(tmp_path / "done").status == "completed"


def test_a_record_is_there_as_soon_as_it_is_appended(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    with RecordWriter(path) as writer:
        for index in range(3):
            writer.append(step(index))
            assert [s.step for s in read_records(path, StepMeasurement)] == list(range(index + 1))


def test_a_line_still_being_written_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    with RecordWriter(path) as writer:
        writer.append(step(0))
        writer.append(step(1))
    whole = path.read_bytes()
    for cut in range(whole.index(b"\n") + 1, len(whole)):
        path.write_bytes(whole[:cut])
        assert [s.step for s in read_records(path, StepMeasurement)] == [0]


def test_a_malformed_record_is_named_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    with RecordWriter(path) as writer:
        writer.append(step(0))
    path.write_bytes(path.read_bytes() + b'{"step": "two"}\n')
    with pytest.raises(BadInput, match=r"steps\.jsonl:2 is not a valid StepMeasurement"):
        list(read_records(path, StepMeasurement))


def test_an_endless_line_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    with path.open("wb") as file:
        file.truncate(2**30)  # sparse: a gigabyte of zeros without a newline
    with pytest.raises(BadInput, match=":1 is longer than"):
        list(read_records(path, StepMeasurement))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema_version": 1}', "\x00\xff"])
def test_a_malformed_run_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / RUN_FILE).write_text(content)
    with pytest.raises(BadInput, match=r"run\.json is not a valid RunInfo"):
        read_info(tmp_path)


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not a run folder"):
        read_info(tmp_path)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    create_run(tmp_path / "r", replace(run_info(), schema_version=SCHEMA_VERSION + 1))
    with pytest.raises(BadInput, match="upgrade"):
        read_info(tmp_path / "r")


def test_an_unknown_field_of_a_later_version_is_ignored(tmp_path: Path) -> None:
    create_run(tmp_path / "r", run_info())
    path = tmp_path / "r" / RUN_FILE
    path.write_text(path.read_text().replace("{", '{"colour": "blue",', 1))
    assert read_info(tmp_path / "r").run_id == run_info().run_id


def test_a_reader_never_sees_half_a_document(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    write_document(path, list(range(20_000)))
    stop = threading.Event()

    def rewrite() -> None:
        while not stop.is_set():
            write_document(path, list(range(20_000)))

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        for _ in range(50):
            assert len(read_document(path, list[int])) == 20_000
    finally:
        stop.set()
        writer.join()


def test_a_failed_write_leaves_the_old_file_and_no_scraps(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_an_interruption_right_after_a_file_took_its_place_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_file = os.replace

    def interrupted(source: str, target: Path) -> None:
        replace_file(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "jobs.json", "{}")
    assert (tmp_path / "jobs.json").read_text() == "{}"
    assert [path.name for path in tmp_path.iterdir()] == ["jobs.json"]
