"""Several runs of one thing: pooled where they agree, named where not, in whatever order they come."""

from dataclasses import replace
from itertools import permutations
from math import log
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commprof.analysis.advice.predict import predict_runs
from commprof.analysis.report.numbers.verdict import outcomes
from commprof.analysis.runs.load import Run, load_runs
from commprof.analysis.step.evidence.repeats import repeats_of
from commprof.analysis.step.results import Prediction, PredictionSet
from commprof.commbench.errors import UnusableData
from tests.factory import step, timeline, write_training_run
from tests.paper_study import GRADIENTS, study
from tests.report_runs import add_bench, add_train, report


def paced(folder: Path, pace: float, **info: object) -> Path:
    """A run whose every step takes `pace` times 103 ms."""
    own = step(0, forward_s=0.04 * pace, backward_s=0.06 * pace, step_s=0.103 * pace)
    gradients = timeline([(p.name, p.num_bytes, p.ready_s * pace) for p in GRADIENTS.parameters], 0.06 * pace)
    return write_training_run(folder, [replace(own, step=i) for i in range(20)], gradients=gradients, **info)  # type: ignore[arg-type]


def schedule(predicted: PredictionSet) -> Prediction:
    return next(p for p in predicted.predictions if p.model == "schedule")


def test_profiles_that_agree_are_pooled_and_the_interval_holds_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commprof.analysis.step.gather.BESIDE_ERROR", 0.0)  # which would hide what the profiles differ by
    profile, bench = study(tmp_path)
    runs = load_runs([profile, bench, paced(tmp_path / "again", 1.08)])
    alone, both = schedule(predict_runs(runs[:2])), predict_runs(runs)
    assert both.single_step_s == pytest.approx(0.103 * 1.08**0.5)
    assert alone.interval_s is not None and (wide := schedule(both).interval_s) is not None
    assert log(wide.high / wide.low) > 1.8 * log(alone.interval_s.high / alone.interval_s.low)
    assert any("2 profiles are pooled" in note and "again 111 ms" in note for note in schedule(both).assumptions)


def test_profiles_that_disagree_are_named_and_nothing_is_predicted(tmp_path: Path) -> None:
    folders = [*study(tmp_path), paced(tmp_path / "slow", 2.4)]
    for order in permutations(folders):
        with pytest.raises(UnusableData, match=r"profile 103 ms, slow 247 ms a step\); measure .*/slow again"):
            predict_runs(load_runs(order))


def test_compute_only_runs_are_pooled_or_named_too(tmp_path: Path) -> None:
    folders = study(tmp_path)
    pair = [paced(tmp_path / name, pace, world_size=2, synchronised=False) for name, pace in (("a", 1.2), ("b", 1.26))]
    both = predict_runs(load_runs([*folders, *pair]))
    assert both.overheads[0].single_step_s + both.overheads[0].compute_s == pytest.approx(0.103 * (1.2 * 1.26) ** 0.5)
    assert any("2 compute-only runs are pooled" in note for note in schedule(both).assumptions)
    disturbed = paced(tmp_path / "c", 2.0, world_size=2, synchronised=False)
    with pytest.raises(UnusableData, match="a 124 ms, b 130 ms, c 206 ms"):
        predict_runs(load_runs([*folders, *pair, disturbed]))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Everything twice: profiles, benches, compute-only runs and runs that check."""
    folder = tmp_path_factory.mktemp("runs")
    folders = [*study(folder), *study(folder / "again"), paced(folder / "slower", 1.05)]
    folders += [paced(folder / f"compute-{pace}", pace, world_size=2, synchronised=False) for pace in (1.1, 1.15)]
    folders += [paced(folder / f"real-{pace}", pace, world_size=2) for pace in (1.2, 1.25)]
    return load_runs(folders)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(data=st.data())
def test_the_order_of_the_arguments_does_not_matter(runs: list[Run], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(runs))
    known, again = predict_runs(runs), predict_runs(shuffled)
    assert replace(again, created_at=known.created_at) == known
    assert [o.run_id for o in outcomes(again, shuffled)] == [o.run_id for o in outcomes(known, runs)]


@given(medians_s=st.lists(st.floats(0.01, 10), min_size=1, max_size=5), drift=st.floats(0, 0.3))
def test_what_is_pooled_lies_among_its_runs(runs: list[Run], medians_s: list[float], drift: float) -> None:
    times = {run.path: seconds for run, seconds in zip(runs, medians_s, strict=False)}
    own = runs[: len(medians_s)]
    low, high = min(medians_s), max(medians_s)
    try:
        found = repeats_of(own, lambda run: times[run.path], drift)
    except UnusableData:
        assert high > 1.1 * low
        return
    assert low * (1 - 1e-9) <= found.step_s <= high * (1 + 1e-9)
    assert found.between >= (log(high / low) if len(own) > 1 else 0.0) / 3 - 1e-9
    assert repeats_of(own[::-1], lambda run: times[run.path], drift) == found


def test_a_report_names_runs_that_disagree(tmp_path: Path) -> None:
    folders = [add_train(tmp_path / name, 1, step_s) for name, step_s in (("slow", 0.422), ("fast", 0.199))]
    text = report(*folders, add_bench(tmp_path / "bench", 2)).text
    assert "these runs are not comparable, because one training takes different times in them" in text
    assert "fast 199 ms, slow 422 ms a step" in text
