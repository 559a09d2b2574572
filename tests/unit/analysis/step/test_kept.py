"""Predictions are evidence: the first is never touched, later ones stand beside it, and a report uses what foretold the run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.runs.load import load_runs
from commprof.analysis.step.kept import Kept, foretold, keep_predictions, kept_predictions
from commprof.cli import main
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import read_info, write_document
from tests.report_runs import AFTER, BEFORE, DURING, add_bench, add_study, add_train, predictions, report

pytestmark = pytest.mark.usefixtures("undrawn")


def test_the_first_is_never_replaced_and_the_same_is_kept_once(tmp_path: Path) -> None:
    first = predictions(2, 4, created_at=DURING)
    path = keep_predictions(tmp_path, first)
    written = path.read_bytes()
    assert path.name == "predictions.json"
    assert keep_predictions(tmp_path, replace(first, created_at=AFTER)) == path
    other = [keep_predictions(tmp_path, replace(first, single_step_s=length_s, created_at=AFTER)) for length_s in (0.2, 0.3)]
    assert len({path, *other}) == 3
    assert path.read_bytes() == written
    assert sorted(own.predictions.single_step_s for own in kept_predictions([tmp_path])) == [0.1, 0.2, 0.3]


def test_what_foretold_a_run_was_there_before_it_and_is_the_last_of_such(tmp_path: Path) -> None:
    run = add_study(tmp_path / "demo") / "train-n4"
    runs = load_runs([tmp_path / "demo"])
    started = read_info(run).started_at

    def kept(name: str, created_at: str) -> Kept:
        return Kept(path=tmp_path / name, predictions=predictions(2, 4, created_at=created_at))

    long_before, before = kept("a", "2000-01-01T00:00:00+00:00"), kept("b", started)
    after = kept("c", "2999-01-01T00:00:00+00:00")
    of_others = tuple(replace(own, world_size=3) for own in after.predictions.predictions)
    elsewhere = Kept(path=tmp_path / "d", predictions=replace(after.predictions, predictions=of_others))
    assert foretold([long_before, before, after, elsewhere], runs) is before
    assert foretold([after, elsewhere], runs) is after
    assert foretold([elsewhere], runs) is elsewhere
    assert foretold([], runs) is None


def test_a_prediction_of_other_numbers_of_ranks_hides_no_measured_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked for 4 and 8 in between, the report of a run on 2 still begins with what that run has shown."""
    alone, bench = add_train(tmp_path / "one", 1, 0.1), add_bench(tmp_path / "bench", 2)
    paths = [str(alone), str(bench), str(add_train(tmp_path / "two", 2, 0.11))]
    before = verdict_of(paths, capsys)
    assert "2: yes, 1.82x" in before
    assert main(["predict", *paths[:2], "-n", "4", "8"]) == 0
    capsys.readouterr()
    assert verdict_of(paths, capsys) == before


def verdict_of(paths: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["report", *paths, "--verdict"]) == 0
    return capsys.readouterr().out.partition("\nWhy")[0]


def test_predicting_again_takes_nothing_from_the_report(tmp_path: Path) -> None:
    study = add_study(tmp_path / "demo")
    before = (study / "analysis" / "predictions.json").read_bytes()
    headline = report(study).source.split("</h2>")[0]
    for count, asked in enumerate(((), ("-n", "3"), ("-n", "2", "4", "8")), 2):
        assert main(["predict", str(study), *asked]) == 0
        assert main(["predict", str(study), *asked]) == 0
        assert (study / "analysis" / "predictions.json").read_bytes() == before
        assert len(list((study / "analysis").glob("predictions*.json"))) == count
    again = report(study).source
    assert "omputed afterwards" not in again
    assert again.split("</h2>")[0].split("written")[0] == headline.split("written")[0]


def test_predictions_are_found_in_whichever_folder_they_were_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = add_study(tmp_path / "demo")
    folders = [study / name for name in ("bench-n2", "profile-n1", "compute-n2", "train-n2")]
    write_document(study / "profile-n1" / "analysis" / "predictions.json", predictions(2, created_at=BEFORE))
    for order in (folders, folders[::-1]):
        assert main(["report", *map(str, order), "--json"]) == 0
        (results,) = json.loads(capsys.readouterr().out)["results"]
        assert results["predictions"]["created_at"] == BEFORE


def test_a_damaged_file_among_them_is_named(tmp_path: Path) -> None:
    keep_predictions(tmp_path, predictions(2))
    (tmp_path / "predictions-x.json").write_text("{")
    with pytest.raises(BadInput, match=r"predictions-x\.json"):
        kept_predictions([tmp_path])


def test_a_disk_that_takes_nothing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("commprof.commbench.records.rundir.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        keep_predictions(tmp_path, predictions(2))
    assert list(tmp_path.iterdir()) == []
