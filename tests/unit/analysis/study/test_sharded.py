"""A study of a sharded training: predicted before its check, and the report and study.csv have both beside each other."""

import csv
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.report.study.pages import write_study_report
from commprof.analysis.strategies.choose import Asked
from commprof.analysis.strategies.results import StrategyAnswer
from commprof.analysis.study.sharded import STRATEGIES_FILE, kept_choices, prediction_of, write_sharded_predictions
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import create_run
from tests.factory import run_info
from tests.unit.analysis.health.machines import add_surroundings, samples
from tests.unit.analysis.strategies.sharded_steps import (
    BY_ITSELF_S,
    exchanged_s,
    on_shards_s,
    sharding,
    write_benches,
    write_sharded_run,
)

EXPECTED_S = on_shards_s(4) + exchanged_s((0, 1, 2, 2, 1))


def write_study(root: Path) -> None:
    """One sharded model on one wire, measured up to its predictions."""
    create_run(root, run_info("study", run_id=root.name))
    write_benches(root / "bench-n4", 4)
    write_sharded_run(root / "small-profile-n1", sharding(), BY_ITSELF_S, experiment="small")


def predict(root: Path) -> dict[str, str]:
    asked = Asked(strategies=("fsdp",))
    return write_sharded_predictions(root, "small", None, grid=False, asked=asked, world_sizes=[4])


def test_a_sharded_model_is_predicted_before_its_check_and_both_are_reported(tmp_path: Path) -> None:
    root = tmp_path / "study"
    write_study(root)
    assert predict(root) == {}
    kept = root / "analysis" / STRATEGIES_FILE
    before = kept.read_bytes()
    write_sharded_run(root / "small-train-n4", sharding(num_shards=4), EXPECTED_S / 1.1, world_size=4, experiment="small")
    assert predict(root) == {} and kept.read_bytes() == before, "a prediction is never written anew"
    sentences, page = write_study_report(root)
    (alone, checked) = csv.DictReader((root / "analysis" / "study.csv").read_text().splitlines())
    assert alone["predicted_step_s"] == ""
    assert float(checked["predicted_step_s"]) == pytest.approx(EXPECTED_S, rel=1e-3)
    assert float(checked["error_schedule"]) == pytest.approx(0.1, abs=1e-3)
    told = " ".join(sentences)
    assert "measured" in told and "4 ranks" in told
    assert "measured (+10.0%)" in page.read_text()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"step_s": 0.0}, "step_s"),
        ({"step_s": None}, "`step_s` and `exposed_s` are told"),
        ({"interval_s": {"low": 0.0, "high": 0.0}}, "`interval_s` is one of steps"),
        ({"cannot": "because"}, "`fastest` is fsdp, of which `answers` tell nothing"),
    ],
)
def test_kept_strategies_that_cannot_be_are_refused_where_they_are_read(
    tmp_path: Path, wrong: dict[str, object], said: str
) -> None:
    """The file is from outside: what it lacks would be divided by, or asked for, where a page is written."""
    root = tmp_path / "study"
    write_study(root)
    assert predict(root) == {}
    path = root / "analysis" / STRATEGIES_FILE
    kept = json.loads(path.read_text())
    kept["choices"][0]["answers"][0] |= wrong
    path.write_text(json.dumps(kept))
    with pytest.raises(BadInput, match=re.escape(said)):
        kept_choices([path.parent])


def test_a_shared_out_batch_is_the_work_of_one_rank() -> None:
    """Of strong scaling 0.4 s on one rank and 0.2 s on four are twice as fast, not eight times; nothing sent is no division."""
    answer = StrategyAnswer(strategy="ddp", world_size=4, step_s=0.2, exposed_s=0.0)
    shared_out = prediction_of(answer, 0.4, "strong")
    assert (shared_out.speedup, shared_out.efficiency, shared_out.ratio_compute_to_comm) == (2.0, 0.5, math.inf)
    assert prediction_of(answer, 0.4, "weak").speedup == 8.0


def test_a_grid_of_strategies_names_the_slowest_and_how_far_off_it_was(tmp_path: Path) -> None:
    root = tmp_path / "study"
    write_study(root)
    write_sharded_run(root / "other-profile-n1", sharding(), BY_ITSELF_S, experiment="other")
    for name in ("small", "other"):
        asked = Asked(strategies=("fsdp",))
        assert write_sharded_predictions(root, name, None, grid=True, asked=asked, world_sizes=[4]) == {}
        write_sharded_run(root / f"{name}-train-n4", sharding(num_shards=4), EXPECTED_S / 1.1, world_size=4, experiment=name)
    sentences, page = write_study_report(root)
    told = " ".join(sentences)
    assert "10.0% off in the median" in told and "communication that nothing hides" in told
    assert "No prediction could be made" not in page.read_text()
    assert f"analysis/small/{STRATEGIES_FILE}" in page.read_text()


def test_strategies_beside_each_other_are_told_apart_or_not(tmp_path: Path) -> None:
    """FSDP was predicted to take longer than ZeRO-2: it did in one study; in the other ZeRO-2 did, by far."""
    kept = replace(sharding(num_shards=4), units=tuple(replace(unit, resharded=False) for unit in sharding().units))
    for name, whole_s, said in (("first", 0.9 * EXPECTED_S, "in 1 of 1"), ("second", 2 * EXPECTED_S, "in 0 of 1")):
        root = tmp_path / name
        write_study(root)
        write_sharded_run(root / "zero-profile-n1", sharding(), BY_ITSELF_S, experiment="zero")
        for model, own in (("small", "fsdp"), ("zero", "zero2")):
            asked = Asked(strategies=(own,))
            assert write_sharded_predictions(root, model, None, grid=True, asked=asked, world_sizes=[4]) == {}
        write_sharded_run(root / "small-train-n4", sharding(num_shards=4), EXPECTED_S, world_size=4, experiment="small")
        write_sharded_run(root / "zero-train-n4", kept, whole_s, world_size=4, experiment="zero")
        _, page = write_study_report(root)
        assert f"was it, or within noise of it, {said}." in page.read_text()


def test_of_a_disturbed_grid_nothing_is_counted_and_all_is_measured_elsewhere(tmp_path: Path) -> None:
    root = tmp_path / "study"
    write_study(root)
    write_sharded_run(root / "zero-profile-n1", sharding(), BY_ITSELF_S, experiment="zero")
    kept = replace(sharding(num_shards=4), units=tuple(replace(unit, resharded=False) for unit in sharding().units))
    for model, timeline in (("small", sharding(num_shards=4)), ("zero", kept)):
        write_sharded_run(root / f"{model}-train-n4", timeline, EXPECTED_S, world_size=4, experiment=model)
    _, page = write_study_report(root)
    assert "runs on several ranks were faster" in page.read_text()
    assert "Of no trainings all strategies were predicted" in page.read_text(), "nor was a prediction missed"
    add_surroundings(root / "small-train-n4", samples(*[(0.5, 0.5)] * 5))
    sentences, page = write_study_report(root)
    assert "runs on several ranks were faster" not in page.read_text()
    assert "Which strategy was the fastest cannot be told: other processes disturbed these runs." in page.read_text()
    assert sentences[-1] == f"Next: commprof study --out {tmp_path / 'again'}: the same on a quiet machine"


def test_what_a_sharded_prediction_lacks_is_a_failure_of_the_study(tmp_path: Path) -> None:
    root = tmp_path / "study"
    create_run(root, run_info("study", run_id=root.name))
    write_sharded_run(root / "small-profile-n1", sharding(), BY_ITSELF_S, experiment="small")
    write_benches(root / "bench-n4", 4, ["all_gather"])
    assert list(predict(root)) == ["prediction of small on 4 ranks"]
    assert kept_choices([root / "analysis"]) is not None


def test_shards_that_update_faster_than_one_rank_contradict_nothing(tmp_path: Path) -> None:
    """Half the update on each of many ranks, hardly anything to send: a step below one rank's, which DDP's cannot be."""
    root = tmp_path / "study"
    write_study(root)
    predict(root)
    write_sharded_run(root / "small-train-n4", sharding(num_shards=4), 0.8 * BY_ITSELF_S, world_size=4, experiment="small")
    sentences, _ = write_study_report(root)
    assert "not comparable" not in " ".join(sentences)
