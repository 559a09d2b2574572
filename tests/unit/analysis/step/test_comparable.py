"""What no training can do is told as a contradiction of the runs, never as a verdict; noise is not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.analysis.advice.predict import predict_runs
from commprof.analysis.report.numbers.data import gather as material_of
from commprof.analysis.report.numbers.verdict import outcomes
from commprof.analysis.runs.load import Run, load_run, load_runs
from commprof.analysis.step.comparable import contradictions
from commprof.analysis.step.results import Overhead
from commprof.cli import main
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.rundir import write_document
from tests.factory import step, timeline, workload, write_training_run
from tests.paper_study import GRADIENTS, STEPS, study, verdict
from tests.report_runs import AFTER, WORKLOAD, add_bench, add_train, predictions, report


def timed(folder: Path, step_s: float, world_size: int = 1, **info: object) -> Path:
    steps = [replace(step(i, forward_s=0.5 * step_s, backward_s=0.4 * step_s), step_s=step_s) for i in range(20)]
    return write_training_run(folder, steps, world_size=world_size, gradients=GRADIENTS, **info)  # type: ignore[arg-type]


def strong(samples: int, *, synchronised: bool = True) -> object:
    return workload(scaling="strong", samples_per_rank=samples, synchronised=synchronised)


def test_more_than_n_times_the_throughput_is_no_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One rank takes 422 ms, two take 220: 3.83x."""
    _, bench = study(tmp_path)
    folders = [timed(tmp_path / "n1", 0.422), bench, timed(tmp_path / "n2", 0.220, 2)]
    told = r"2 ranks cannot have more than 2 times .* 422 ms on one rank \(.*/n1\), 220 ms \(n2\) on 2; measure .*/n1 again"
    with pytest.raises(UnusableData, match=f"these runs are not comparable, because {told}"):
        predict_runs(load_runs(folders))
    for verb in ("predict", "advise"):
        assert main([verb, *map(str, folders)]) != 0
        assert "are not comparable, because" in capsys.readouterr().err


def test_ranks_that_update_a_shard_each_may_be_faster_than_what_updates_everything(tmp_path: Path) -> None:
    """Its units may be unknown, as of FSDP1 under a hook of its own; DDP's ranks that sent nothing updated everything."""
    single = timed(tmp_path / "n1", 0.422, workload=workload(kind="none"))
    flat = timed(tmp_path / "n2", 0.390, 2, workload=workload(kind="fsdp1"))
    quiet = timed(tmp_path / "c2", 0.430, 2, workload=workload(kind="ddp", synchronised=False))
    assert contradictions(load_runs([single, flat, quiet]), None) == {}
    assert 2 in contradictions(load_runs([single, timed(tmp_path / "d2", 0.350, 2, workload=workload(kind="ddp"))]), None)


def test_a_compute_only_run_faster_than_one_rank_is_no_result_either(tmp_path: Path) -> None:
    _, bench = study(tmp_path)
    quiet = timed(tmp_path / "c2", 0.199, 2, synchronised=False)
    with pytest.raises(UnusableData, match=r"422 ms on one rank .*, 199 ms \(c2\) on 2 with nothing sent; measure .*/n1"):
        predict_runs(load_runs([timed(tmp_path / "n1", 0.422), bench, quiet]))


def test_a_pace_that_drifts_lets_nothing_impossible_pass(tmp_path: Path) -> None:
    """One rank's medians of 482 ms against 397 on two lie within each other's spread: 2.4x would be said with an interval."""
    _, bench = study(tmp_path)
    paces = (0.7, 0.8, 1.0, 1.2, 1.35)  # in stretches, as others come and go
    folders = [bench]
    for name, step_s, n in (("n1", 0.482, 1), ("c2", 0.397, 2)):
        own = [step_s * pace for pace in paces for _ in range(4)]
        steps = [replace(step(i, forward_s=0.5 * s, backward_s=0.4 * s), step_s=s) for i, s in enumerate(own)]
        folders.append(write_training_run(tmp_path / name, steps, world_size=n, gradients=GRADIENTS, synchronised=n == 1))
    with pytest.raises(UnusableData, match=r"more than 2 times .*n1 again \(the machine's pace drifts by \d\d% within these"):
        predict_runs(load_runs(folders))


def test_a_step_shorter_than_its_computation_is_no_result(tmp_path: Path) -> None:
    """So that exposed communication would be below zero."""
    _, bench = study(tmp_path)
    quiet, real = timed(tmp_path / "c2", 0.3, 2, synchronised=False), timed(tmp_path / "n2", 0.22, 2)
    with pytest.raises(UnusableData, match=r"220 ms \(n2\) on 2 ranks, 300 ms \(c2\) with nothing sent; measure .*/c2 again"):
        predict_runs(load_runs([timed(tmp_path / "n1", 0.2), bench, quiet, real]))


def test_threads_that_differ_are_named(tmp_path: Path) -> None:
    _, bench = study(tmp_path)
    with pytest.raises(UnusableData, match=r"measure .*/n1 again with OMP_NUM_THREADS=1, the threads a rank has there"):
        predict_runs(load_runs([timed(tmp_path / "n1", 0.4, threads=4), bench, timed(tmp_path / "n2", 0.2, 2)]))


def test_caches_may_help_where_one_batch_is_shared_and_a_run_shows_it(tmp_path: Path) -> None:
    """100 ms alone, 40 on each of two: 2.5x. A compute-only run of 38 ms explains it; without one nothing does."""
    single, real = timed(tmp_path / "n1", 0.1, workload=strong(32)), timed(tmp_path / "n2", 0.040, 2, workload=strong(16))
    quiet = timed(tmp_path / "c2", 0.038, 2, workload=strong(16, synchronised=False))
    assert contradictions(load_runs([single, real, quiet]), None) == {}
    assert "no compute-only run on 2 ranks tells whether caches do that" in contradictions(load_runs([single, real]), None)[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, float, int], Run]:
    """Runs of equal steps, made of two that lie on disk."""
    folder = tmp_path_factory.mktemp("runs")
    known = {n: load_run(timed(folder / f"n{n}", 0.1, n)) for n in (1, 2)}

    def paced(name: str, step_s: float, n: int) -> Run:
        steps = {rank: tuple(replace(one, step_s=step_s) for one in own) for rank, own in known[n].steps.items()}
        return replace(known[n], path=known[n].path.with_name(name), steps=steps)

    return paced


@given(single_s=st.floats(1e-3, 10), ratio=st.floats(0.2, 5))
def test_a_speedup_above_n_within_noise_is_told_as_it_is(
    run: Callable[[str, float, int], Run], single_s: float, ratio: float
) -> None:
    """Steps that never vary have medians without width: left is the pace, e^(1.96 x 0.025) = 1.0502."""
    found = contradictions([run("one", single_s, 1), run("two", single_s / ratio, 2)], None)
    assert (2 in found) == (ratio > 1.0502)


def test_a_report_gives_no_verdict_on_runs_that_contradict_each_other(tmp_path: Path) -> None:
    add_train(tmp_path / "profile-n1", 1, 0.422)
    add_bench(tmp_path / "bench-n2", 2)
    add_train(tmp_path / "train-n2", 2, 0.22, started_at=AFTER)
    folders = [tmp_path / name for name in ("profile-n1", "bench-n2", "train-n2")]
    anew = report(*folders).text
    kept = replace(predictions(2), single_step_s=0.422)
    write_document(folders[0] / "analysis" / "predictions.json", kept)
    for text in (anew, report(*folders).text):
        assert "these runs are not comparable, because 2 ranks cannot have more than 2 times the throughput of one" in text
        assert (
            "the samples per second of one rank" not in text and "of each step is one rank" not in text and "3.84x" not in text
        )


def test_what_does_not_rest_on_the_contradiction_stays(tmp_path: Path) -> None:
    """On 4 ranks the step is shorter than its computation; on 2 all is well."""
    add_train(tmp_path / "profile-n1", 1, 0.1)
    write_document(tmp_path / "profile-n1" / "analysis" / "predictions.json", predictions(2, 4))
    for n, step_s in ((2, 0.12), (4, 0.125)):
        add_bench(tmp_path / f"bench-n{n}", n)
        add_train(tmp_path / f"train-n{n}", n, step_s, started_at=AFTER)
    add_train(tmp_path / "compute-n4", 4, 0.2, workload=replace(WORKLOAD, synchronised=False))
    material = material_of(sorted(tmp_path.iterdir(), key=lambda path: path.name != "profile-n1"))
    assert set(material.contradicted) == {4}
    assert material.predicted is not None
    assert {p.world_size for p in material.predicted.predictions} == {2}


def test_a_kept_prediction_with_parts_below_zero_is_not_believed(tmp_path: Path) -> None:
    single = timed(tmp_path / "profile", 0.2)
    lost = Overhead(world_size=2, single_step_s=0.2, compute_s=-0.1, waiting_s=0.0, exposed_s=0.02)
    kept = replace(predictions(2), single_step_s=0.2, profile_run_id="profile", overheads=(lost,))
    assert "of 2 ranks less was predicted than the computation of one" in contradictions(load_runs([single]), kept)[2]
    late = replace(lost, compute_s=0.0, exposed_s=-0.05)
    assert 2 in contradictions(load_runs([single]), replace(kept, overheads=(late,)))


def test_a_share_never_passes_the_whole_step(tmp_path: Path) -> None:
    """Two ranks take 3 % less than one, which is noise: all of the step is one rank's computation, not 103 % of it."""
    _, bench = study(tmp_path, latency_s=1e-9)
    profile = write_training_run(tmp_path / "n1", STEPS, gradients=timeline([("w", 8, 0.06)], 0.06))
    runs = load_runs([profile, bench, timed(tmp_path / "n2", 0.1, 2)])
    predicted = predict_runs(runs)
    assert verdict(predicted, outcomes(predicted, runs), runs)[1].startswith("Little holds 2 ranks back: 100% of each step")


def test_a_step_much_shorter_than_predicted_is_not_explained_by_what_was_predicted(tmp_path: Path) -> None:
    profile, bench = study(tmp_path, latency_s=0.2)
    runs = load_runs([profile, bench, timed(tmp_path / "n2", 0.15, 2)])
    predicted = predict_runs(runs)
    assert "What holds 2 ranks back cannot be told" in verdict(predicted, outcomes(predicted, runs), runs)[1]
