"""Other processes on the host: told before any cause is, from the run's telemetry, and only where they can have mattered."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import commprof as cp
from commprof.analysis.advice.predict import predict_runs
from commprof.analysis.health.check import Demands, check_run
from commprof.analysis.health.disturbance import disturbance
from commprof.analysis.health.evidence import Evidence
from commprof.analysis.report.numbers.verdict import outcomes
from commprof.analysis.runs.load import load_runs
from commprof.cli import main
from commprof.commbench.machine.facts import TelemetrySample
from tests.factory import step, write_measurements, write_training_run
from tests.paper_study import study, verdict
from tests.report_runs import WORKLOAD, add_bench, add_train, report
from tests.unit.analysis.health.benches import evidence
from tests.unit.analysis.health.machines import HOST, add_surroundings, samples
from tests.unit.analysis.health.test_check import sweep
from tests.unit.analysis.health.test_run_health import bent


def seen(telemetry: Sequence[TelemetrySample], found: Evidence | None = None, **changes: object) -> Evidence:
    own = replace(found or evidence(), hosts=(HOST,), telemetry=tuple(telemetry))
    return replace(own, run=replace(own.run, info=replace(own.run.info, **changes)))  # type: ignore[arg-type]


def test_a_core_that_others_took_is_said_in_one_line() -> None:
    (verdict,) = disturbance(seen(samples((0.5, 0.5), (0.6, 0.4), (0.5, 0.5))))
    assert verdict.ok is False
    assert verdict.message == (
        f"other processes kept 1.0 of {HOST.hostname}'s 2 cores busy and left 0.0 idle (median of 3 samples): whatever these "
        "times show may come of that; end them and measure again"
    )


@pytest.mark.parametrize(
    ("telemetry", "changes"),
    [
        (samples(*[(0.9, 0.05)] * 5), {}),  # next to nothing
        (samples(*[(0.1, 0.3)] * 5), {}),  # a core was idle
        (samples((0.5, 0.5), (0.5, 0.5), (1.0, 0.0), (1.0, 0.0), (1.0, 0.0)), {}),  # for a moment
        (samples(*[(0.5, 0.5)] * 2), {}),  # too few
        (samples(*[(0.5, None)] * 5), {}),  # an older run's
        (samples(*[(0.5, 0.5)] * 5), {"num_nodes": 2, "num_machines": 1}),  # the other node's ranks
    ],
)
def test_nobody_is_accused_without_evidence(telemetry: tuple[TelemetrySample, ...], changes: dict[str, int]) -> None:
    assert not list(disturbance(seen(telemetry, **changes)))


def test_a_job_that_may_not_use_every_core_cannot_tell() -> None:
    found = seen(samples(*[(0.5, 0.5)] * 5))
    assert not list(disturbance(replace(found, hosts=(replace(HOST, cores_total=4),))))


def test_it_comes_first_and_no_cause_is_named_behind_it() -> None:
    curve = evidence(bent(2**17, 2**20, 8.0), num_nodes=2)
    calm, busy = seen(samples(*[(0.5, 0.0)] * 5), curve), seen(samples(*[(0.5, 0.5)] * 5), curve)
    assert "slow range" in {own.name for own in check_run(calm, Demands(), None, 0.05)}
    first, *others = check_run(busy, Demands(), None, 0.05)
    assert first.name == "disturbance"
    assert not {"slow range", "switch"} & {own.name for own in others}
    (spikes,) = [own for own in others if own.name == "spikes"]
    assert spikes.message.endswith("other processes took cores meanwhile, measure again")


def test_check_and_the_report_say_so_before_anything_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    busy = samples(*[(0.5, 0.5)] * 5)
    bench = add_surroundings(write_measurements(tmp_path / "bench", [*sweep(in_place=False), *sweep()]), busy)
    train = add_surroundings(add_train(tmp_path / "train", 2, 0.1), busy)
    assert main(["check", str(bench)]) == 3
    assert capsys.readouterr().out.startswith("FAIL  disturbance: other processes kept 1.0 of ")
    said = "This machine was disturbed: during train other processes kept up to 1.0 of its 2 cores busy."
    assert said in report(train).text
    assert "This machine was disturbed" not in report(add_train(tmp_path / "calm", 2, 0.1)).text


def test_sides_and_what_was_used_say_so_in_80_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    busy = samples(*[(0.5, 0.5)] * 5)
    long = [f"{name}-with-a-name-as-long-as-those-of-real-runs" for name in ("one", "two", "other")]
    first, second = (str(add_surroundings(add_train(tmp_path / name, 2, 0.1), busy)) for name in long[:2])
    other = str(add_train(tmp_path / long[2], 2, 0.1, workload=replace(WORKLOAD, num_parameters=7)))
    assert main(["report", first, other]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"How sure: This machine was disturbed: during {long[0]} other processes kept" in told
    bench = add_bench(tmp_path / "bench-with-a-name-as-long-as-those-of-real-runs", 2)
    assert main(["report", "one-with-a-name-as-long-as-those-of-real-runs", Path(second).name, bench.name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("Used: ") for line in lines)
    assert max(map(len, lines)) <= 80


def test_no_cause_is_named_of_a_study_that_others_disturbed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its run took 36 % longer than predicted, and a cause would be named."""
    folders = [
        *study(tmp_path),
        write_training_run(tmp_path / "real", [step(i, forward_s=0.1) for i in range(20)], world_size=2),
    ]
    runs = load_runs(folders)
    predicted = predict_runs(runs)
    blamed = verdict(predicted, outcomes(predicted, runs), runs)
    assert "No single assumption explains it" in blamed[0] and "not in the prediction" in blamed[1]
    add_surroundings(tmp_path / "real", samples(*[(0.5, 0.5)] * 5))
    told = verdict(predicted, outcomes(predicted, runs), runs)
    assert told[0].startswith("This machine was disturbed: during real other processes kept up to 1.0 of its 2 cores busy.")
    assert "too short" in told[1] and "assumption" not in told[1]
    assert told[2:] == [
        "What holds ranks back cannot be told from disturbed runs.",
        "Try first: end what else runs there, and measure again.",
    ]
    undecided = "How many ranks to use cannot be told"
    for verb in ("predict", "advise"):
        assert main([verb, *map(str, folders)]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert shown.startswith(f"{undecided}. 2: cannot be told") and "failed:" not in shown
        assert "This machine was disturbed: during real" in shown.partition("one rank: ")[0]
        assert ("saves" in shown, "Of disturbed runs nothing is advised or priced" in shown) == (False, verb == "advise")
    for answer in (cp.predict(folders), cp.advise(folders)):
        assert f": {undecided}: other processes disturbed these runs" in repr(answer)
        assert " ".join(str(answer).split()).startswith(f"{undecided}. 2: cannot be told")
