"""A study goes on wherever it and its checkout have been moved to; what differs is named."""

import shutil
from pathlib import Path

import pytest
import yaml

from commprof.analysis.study.failed import failed_stages
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import create_owned_run, create_run
from commprof.study.cli import _open_study
from commprof.study.config import load_study
from commprof.study.files import set_aside
from commprof.study.identity import STUDY_FILE, check_identity, write_identity
from tests.factory import run_info

TRAINING = "{model: {vocabulary: 1500}, data: {synthetic_articles: 2000}, training: {batch_size: 8, max_steps: 20}}"
STUDY = "{name: s, models: [{config: tiny.yaml}], world_sizes: [1, 2]}"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "first" / "configs"
    folder.mkdir(parents=True)
    (folder / "tiny.yaml").write_text(TRAINING)
    (folder / "study.yaml").write_text(STUDY)
    return folder


def held(checkout: Path, *overrides: str) -> Path:
    """Write down which study a folder holds."""
    source = checkout / "study.yaml"
    folder = checkout.parent / "runs"
    folder.mkdir()
    write_identity(folder, load_study(source, overrides), source)
    return folder


def test_a_study_names_no_place_of_this_machine(checkout: Path) -> None:
    text = (held(checkout) / STUDY_FILE).read_text()
    assert str(checkout.parents[1]) not in text
    assert yaml.safe_load(text)["models"][0]["config"] == "tiny.yaml"


def test_a_study_with_a_password_shows_none_and_goes_on(checkout: Path) -> None:
    override = "overrides=[data.url=https://user:SECRET@host/x]"
    folder = held(checkout, override)
    assert "SECRET" not in (folder / STUDY_FILE).read_text()
    source = checkout / "study.yaml"
    check_identity(folder, load_study(source, [override]), source)


def test_a_moved_checkout_goes_on(checkout: Path, tmp_path: Path) -> None:
    held(checkout)
    shutil.move(checkout.parent, tmp_path / "second")
    source = tmp_path / "second" / "configs" / "study.yaml"
    check_identity(tmp_path / "second" / "runs", load_study(source), source)


def test_a_study_written_with_absolute_paths_goes_on(checkout: Path) -> None:
    folder, source = held(checkout), checkout / "study.yaml"
    before = yaml.safe_load((folder / STUDY_FILE).read_text())
    before["models"][0]["config"] = "/somewhere/else/configs/tiny.yaml"
    before["slurm"]["scripts"] = "/somewhere/else/slurm"
    (folder / STUDY_FILE).write_text(yaml.safe_dump(before))
    check_identity(folder, load_study(source), source)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("world_sizes=[1,4]", r"world_sizes\[1\] was 2 and is 4"),
        ("repeats=2", "repeats was 1 and is 2"),
        ("bench.seconds=5", r"bench.seconds was 30.0 and is 5.0"),
        ("world_sizes=[1,2,4]", r"world_sizes\[2\] was None and is 4"),
        ("overrides=[training.max_steps=30]", r"overrides\[0\] was None"),
    ],
)
def test_the_key_that_differs_is_named(checkout: Path, override: str, words: str) -> None:
    folder, source = held(checkout), checkout / "study.yaml"
    with pytest.raises(BadInput, match=words):
        check_identity(folder, load_study(source, [override]), source)


@pytest.mark.parametrize("text", ["- a list", "{a: *b}", "x" * 2**21, "\xff"])
def test_a_damaged_study_file_is_named(checkout: Path, text: str) -> None:
    folder, source = held(checkout), checkout / "study.yaml"
    (folder / STUDY_FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInput, match=STUDY_FILE):
        check_identity(folder, load_study(source), source)


@pytest.mark.processes  # git tells the commit
def test_a_study_is_one_commands_and_free_once_that_lets_go(checkout: Path, tmp_path: Path) -> None:
    source = checkout / "study.yaml"
    study, folder = load_study(source), tmp_path / "runs" / "s"
    first = _open_study(folder, study, source)
    with pytest.raises(BadInput, match="s is being written by process"):
        _open_study(folder, study, source)
    stage = folder / "bench-n2"
    create_owned_run(stage, run_info("bench", status="running"), "still alive")
    with pytest.raises(BadInput, match="bench-n2 is being written by process"):
        set_aside(folder, stage)
    first.release()
    _open_study(folder, study, source).release()


def test_a_folder_older_than_a_key_holds_the_keys_default(checkout: Path) -> None:
    folder, source = held(checkout), checkout / "study.yaml"
    written = folder / STUDY_FILE
    written.write_text("".join(line for line in written.read_text().splitlines(True) if not line.startswith("backend")))
    check_identity(folder, load_study(source), source)
    with pytest.raises(BadInput, match="backend was None and is 'gloo' now"):
        check_identity(folder, load_study(source, ["backend=gloo"]), source)


def test_a_stage_that_failed_before_it_had_a_run_leaves_its_reason_and_each_try_its_own(tmp_path: Path) -> None:
    for reason in ("no port is free", "rank 1 was killed\n(SIGKILL)"):
        set_aside(tmp_path, tmp_path / "small-profile-n1", reason)
    assert list(failed_stages(tmp_path)) == [("small-profile-n1", "rank 1 was killed (SIGKILL)")]
    create_run(tmp_path / "small-profile-n1", run_info("train"))
    assert list(failed_stages(tmp_path)) == []
    assert not list((tmp_path / "small-profile-n1").glob("why*")), "what was measured since is no failure"


def test_a_script_older_than_a_key_of_its_own_has_that_keys_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").touch()
    source, folder = tmp_path / "study.yaml", tmp_path / "s"
    source.write_text("scripts: [{command: python train.py, strategy: hsdp}]\n")
    folder.mkdir()
    write_identity(folder, load_study(source), source)
    written = folder / STUDY_FILE
    written.write_text("".join(line for line in written.read_text().splitlines(True) if "replicas" not in line))
    check_identity(folder, load_study(source), source)
    with pytest.raises(BadInput, match=r"scripts\[0\].max_steps was 60 and is 70"):
        check_identity(folder, load_study(source, ["scripts=[{command: python train.py, max_steps: 70}]"]), source)
