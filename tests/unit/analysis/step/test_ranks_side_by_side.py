"""How fast N ranks compute beside each other: by what one rank did, by their own measurement, by the cores they share."""

from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.advice.predict import predict_runs
from commprof.analysis.runs.load import Run, load_run, load_runs
from commprof.analysis.step.decided import decide_predicted
from commprof.analysis.step.evidence.cores import cores_slowdown
from commprof.analysis.step.evidence.pools import compute_only_s
from commprof.commbench.errors import UnusableData
from tests.factory import MIB, run_info, step, timeline, workload, write_bench_run, write_contention_run, write_training_run
from tests.paper_study import BANDWIDTH, LATENCY_S, STEPS, TAIL_S, by_model, study
from tests.unit.analysis.health.machines import add_surroundings, samples


def test_ranks_that_take_turns_on_a_core_end_together(tmp_path: Path) -> None:
    """Going on by itself, one of two ranks takes 100 ms and the other 200: begun together, both are done after 150."""
    steps = [step(i, step_s=0.1 + 0.1 * (i % 2)) for i in range(60)]
    write_training_run(
        tmp_path / "profile", [step(i, step_s=0.1) for i in range(20)], gradients=timeline([("w", 8, 0.06)], 0.06)
    )
    write_bench_run(tmp_path / "bench", 1e-6, 1e12)
    alone = write_training_run(tmp_path / "compute", steps, world_size=2, synchronised=False, cores=1)
    predicted = predict_runs(load_runs([tmp_path / name for name in ("profile", "bench", "compute")]))
    assert by_model(predicted)["schedule"].step_s == pytest.approx(0.15, rel=0.05)
    assert compute_only_s(load_run(alone)) == pytest.approx(0.15)


def test_ranks_that_begin_each_step_together_have_shown_the_slowest(tmp_path: Path) -> None:
    """Each of two ranks takes 100 ms in one step and 140 in the next, but never the same one: every step takes 140."""
    alone = workload(synchronised=False, starts_together=True)
    folder = write_training_run(
        tmp_path / "compute", [step(i, step_s=0.1 + 0.04 * (i % 2)) for i in range(20)], world_size=2, workload=alone
    )
    write_training_run(tmp_path / "other", [step(i, step_s=0.14 - 0.04 * (i % 2)) for i in range(20)])
    (folder / "steps.rank00001.jsonl").write_bytes((tmp_path / "other" / "steps.rank00000.jsonl").read_bytes())
    profile = write_training_run(tmp_path / "profile", STEPS, gradients=timeline([("w", 8, 0.06)], 0.06))
    bench = write_bench_run(tmp_path / "bench", 1e-9, 1e15)
    schedule = by_model(predict_runs(load_runs([profile, bench, folder])))["schedule"]
    assert schedule.step_s == pytest.approx(0.14, rel=1e-3)
    assert compute_only_s(load_run(folder)) == pytest.approx(0.14)


def test_ranks_that_vary_wait_for_the_slowest(tmp_path: Path) -> None:
    """One rank takes 100 or 140 ms at even odds: two ranks take 140 three times in four."""
    steps = [step(i, forward_s=0.0, backward_s=0.1 + 0.04 * (i % 2), step_s=0.1 + 0.04 * (i % 2)) for i in range(60)]
    write_training_run(tmp_path / "profile", steps, gradients=timeline([("w", 8, 0.1)], 0.1), backend="nccl")
    write_bench_run(tmp_path / "bench", 1e-6, 1e12, backend="nccl")
    predicted = predict_runs(load_runs([tmp_path / "profile", tmp_path / "bench"]))
    assert by_model(predicted)["schedule"].step_s == pytest.approx(0.14, rel=1e-3)
    assert predicted.overheads[0].waiting_s > 0


def test_a_compute_only_run_at_n_replaces_the_assumption(tmp_path: Path) -> None:
    folders = study(tmp_path)
    assumed = by_model(predict_runs(load_runs(folders)))["schedule"]
    assert any("compute as fast as one alone" in note for note in assumed.assumptions)
    slower = [step(i, forward_s=0.09, backward_s=0.06) for i in range(20)]
    folders.append(write_training_run(tmp_path / "compute", slower, world_size=2, synchronised=False))
    measured = predict_runs(load_runs(folders))
    schedule = by_model(measured)["schedule"]
    assert schedule.step_s == pytest.approx(0.153 + TAIL_S, rel=1e-4)
    assert not any("compute as fast as one alone" in note for note in schedule.assumptions)
    assert measured.overheads[0].compute_s == pytest.approx(0.05)
    assert measured.overheads[0].exposed_s == pytest.approx(TAIL_S, rel=1e-2)


def test_short_cores_slow_a_gloo_prediction(tmp_path: Path) -> None:
    folders = study(tmp_path)
    (_, fast) = (None, by_model(predict_runs(load_runs(folders)))["schedule"])
    runs = [replace(run, info=replace(run.info, cores_per_node=2)) for run in load_runs(folders)]
    busy = [replace(m, cpu_s=m.fastest_rank_s[0]) for m in runs[1].collectives]
    short = by_model(predict_runs([runs[0], replace(runs[1], collectives=tuple(busy))]))["schedule"]
    assert short.step_s > fast.step_s
    assert any("gloo's threads need cores" in note for note in short.assumptions)


def test_one_rank_that_used_every_core_cannot_keep_its_pace_beside_another(tmp_path: Path) -> None:
    """Two threads on two cores alone; two such ranks have half the cores each, so 206 ms instead of 103 ms."""
    gradients = timeline([("w", 8, 0.06)], 0.06)
    write_training_run(tmp_path / "profile", STEPS, gradients=gradients, cores=2, threads=2)
    write_bench_run(tmp_path / "bench", 1e-9, 1e12)
    schedule = by_model(predict_runs(load_runs([tmp_path / "profile", tmp_path / "bench"])))["schedule"]
    assert schedule.step_s == pytest.approx(0.206, rel=1e-3)
    assert any("2 times as long to compute, for want of cores" in note for note in schedule.assumptions)
    assert schedule.shares_cores
    runs = load_runs([tmp_path / "profile", tmp_path / "bench"])
    decision = str(decide_predicted(predict_runs(runs), runs))
    assert decision.startswith("How many ranks to use cannot be told. 2: cannot be told: its ranks share too few cores")


@pytest.mark.parametrize(
    ("others", "compute_s"),
    [
        ([0.5, 0.0] * 4, 0.12875),  # of 2 cores half of one: 2.5 threads want what 2 have, so 1.25 times 103 ms
        ([0.1, 0.0] * 4, 0.103),  # a tenth of a core is nothing
        ([0.5] * 2, 0.103),  # two samples tell nothing
    ],
)
def test_what_others_kept_of_the_cores_is_missed_by_more_ranks(tmp_path: Path, others: list[float], compute_s: float) -> None:
    gradients = timeline([("w", 8, 0.06)], 0.06)
    profile = write_training_run(tmp_path / "profile", STEPS, gradients=gradients, cores=2)
    add_surroundings(profile, samples(*[(0.5, own) for own in others]))
    write_bench_run(tmp_path / "bench", 1e-9, 1e12)
    schedule = by_model(predict_runs(load_runs([profile, tmp_path / "bench"])))["schedule"]
    assert schedule.step_s == pytest.approx(compute_s, rel=1e-3)
    told = "1.25 times as long to compute, for want of cores, of which other processes kept 0.5 busy beside the profile"
    assert any(told in note for note in schedule.assumptions) == (compute_s > 0.11)


def test_others_slow_the_profile_itself_where_it_fills_the_cores() -> None:
    """Alone it had 2/3 of its threads' wish, two such ranks have 2/5 of theirs: 5/3 times as long."""
    info = run_info("train", world_size=1, cores=2, threads=2)
    run = Run(path=Path("x"), info=info, collectives=(), steps={}, gradients=None)
    assert cores_slowdown(run, 2, 1.0) == pytest.approx(5 / 3)
    assert cores_slowdown(run, 0, 1.0) == cores_slowdown(run, 1, 1.0) == 1


@pytest.mark.parametrize("backend", ["gloo", "nccl"])
def test_measured_contention_replaces_what_cores_would_say(tmp_path: Path, backend: str) -> None:
    """The head's 1.15 ms take 2.30 ms beside computation, of which 2.30/1.5 is computed: 0.77 ms are lost.

    Both sizes have their say, 1.5 being the geometric mean of 1.2 and 1.875; other world sizes must not be looked at.
    """
    folders = study(tmp_path, backend=backend)
    folders.append(write_contention_run(tmp_path / "c2", [(MIB, 1.2, 2.0), (4 * MIB, 1.875, 2.0)], backend=backend))
    folders.append(write_contention_run(tmp_path / "c4", [(4 * MIB, 8.0, 8.0)], world_size=4, backend=backend))
    schedule = by_model(predict_runs(load_runs(folders)))["schedule"]
    head_s = LATENCY_S + MIB / BANDWIDTH
    assert schedule.step_s == pytest.approx(0.103 + TAIL_S + 2 * head_s * (1 - 1 / 1.5), rel=1e-5)
    assert [note for note in schedule.assumptions if "active" in note] == [
        "while both are active, computation runs at 67% and communication at 50% of its speed alone, "
        "as measured with messages of 1 MiB to 4 MiB"
    ]


def test_contention_of_other_threads_is_refused_and_a_speedup_is_noise(tmp_path: Path) -> None:
    folders = study(tmp_path)
    other = write_contention_run(tmp_path / "other", [(MIB, 1.5, 2.0)], threads=4)
    with pytest.raises(UnusableData, match="OMP_NUM_THREADS=1, or leave that run out"):
        predict_runs(load_runs([*folders, other]))
    noise = write_contention_run(tmp_path / "noise", [(MIB, 0.9, 0.8)])
    assert by_model(predict_runs(load_runs([*folders, noise])))["schedule"].step_s == pytest.approx(0.103 + TAIL_S, rel=1e-5)
