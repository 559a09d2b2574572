import math
from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.advice.predict import predict_runs
from commprof.analysis.runs.load import load_run, load_runs
from commprof.analysis.step.estimate import EXPOSED_ERROR, PACE_ERROR
from commprof.analysis.step.gather import BESIDE_ERROR, gather
from commprof.commbench.errors import BadInput, UnusableData
from tests.factory import (
    MIB,
    collective,
    step,
    timeline,
    workload,
    write_bench_run,
    write_training_run,
)
from tests.paper_study import BANDWIDTH, GRADIENTS, LATENCY_S, STEPS, TAIL_S, by_model, study, verdict


def test_a_step_worked_out_on_paper(tmp_path: Path) -> None:
    """103 ms of computation; the first bucket (1.15 ms) hides in it, the last (8.49 ms) cannot."""
    predicted = by_model(predict_runs(load_runs(study(tmp_path))))
    assert predicted["schedule"].step_s == pytest.approx(0.103 + TAIL_S, rel=1e-4)
    assert predicted["schedule"].exposed_s == pytest.approx(TAIL_S, rel=1e-3)
    span = predicted["schedule"].exposed_interval_s
    assert span is not None
    assert span.high - span.low == pytest.approx(2 * 1.645 * EXPOSED_ERROR * TAIL_S, rel=0.25)
    assert predicted["schedule"].speedup == pytest.approx(2 * 0.103 / (0.103 + TAIL_S), rel=1e-4)
    both_s = 2 * LATENCY_S + 9 * MIB / BANDWIDTH
    assert predicted["ring"].step_s == pytest.approx(0.103 + both_s, rel=1e-4)
    assert predicted["amdahl"].step_s == pytest.approx(0.103 + both_s, rel=1e-4)
    assert predicted["linear"].step_s == pytest.approx(0.103)
    assert predicted["schedule"].ratio_compute_to_comm == pytest.approx(2 * 0.103 / both_s, rel=1e-4)  # R = W/T_comm


def test_under_accumulation_gradients_leave_in_the_last_of_the_backward_passes(tmp_path: Path) -> None:
    """Four passes of 60 ms before the wire: the first bucket still hides in half of the last one, not of all four."""
    steps = [replace(step(i, backward_s=0.24), last_backward_s=0.06) for i in range(20)]
    write_training_run(tmp_path / "profile", steps, gradients=timeline([("a", 40 * MIB, 0.03), ("b", MIB, 0.06)], 0.06))
    write_bench_run(tmp_path / "bench", LATENCY_S, BANDWIDTH)
    predicted = by_model(predict_runs(load_runs([tmp_path / "profile", tmp_path / "bench"])))["schedule"]
    first_s, last_s = (LATENCY_S + size * MIB / BANDWIDTH for size in (40, 1))
    # Two gloo workers: the small bucket overtakes, and shares the wire with what is left of the large one.
    assert predicted.exposed_s == pytest.approx(first_s - 0.03 + last_s, rel=0.02)


@pytest.mark.parametrize(("backend", "world_size", "sent"), [("gloo", 2, 1), ("gloo", 4, 2), ("nccl", 4, 1)])
def test_buffers_are_broadcast_before_the_step(tmp_path: Path, backend: str, world_size: int, sent: int) -> None:
    """10 MiB by links of `busbw`: gloo passes them on in 2 rounds to 4 ranks, a ring in one flow; alpha is 1 of 2(p-1)."""
    folders = study(tmp_path, world_size=world_size, backend=backend)
    buffered = workload(buffer_bytes=10 * MIB)
    folders.append(write_training_run(tmp_path / "buffered", STEPS, gradients=GRADIENTS, backend=backend, workload=buffered))
    plain, with_buffers = (predict_runs(load_runs([folder, folders[1]])).predictions[0] for folder in (folders[0], folders[2]))
    busbw = BANDWIDTH * 2 * (world_size - 1) / world_size
    messages = sent if backend == "gloo" else world_size - 1
    added_s = messages * LATENCY_S / (2 * (world_size - 1)) + sent * 10 * MIB / busbw
    assert with_buffers.step_s - plain.step_s == pytest.approx(added_s, rel=1e-3)
    assert with_buffers.exposed_s - plain.exposed_s == pytest.approx(added_s, rel=1e-3)


def test_communication_after_backward_hides_nothing(tmp_path: Path) -> None:
    late = workload(synchronisation="delayed")
    folders = [
        write_training_run(tmp_path / "profile", STEPS, gradients=GRADIENTS, workload=late),
        write_bench_run(tmp_path / "bench", LATENCY_S, BANDWIDTH),
    ]
    predicted = predict_runs(load_runs(folders))
    assert by_model(predicted)["schedule"].exposed_s == pytest.approx(2 * LATENCY_S + 9 * MIB / BANDWIDTH, rel=0.02)
    folders += [
        write_training_run(tmp_path / f"n2-{mode}", STEPS, world_size=2, workload=workload(synchronisation=mode))
        for mode in ("delayed", "normal")
    ]
    with pytest.raises(BadInput, match=r"only one of .* sent its gradients after backward"):
        predict_runs(load_runs(folders))


def test_half_precision_hooks_send_half_the_bytes(tmp_path: Path) -> None:
    half = workload(communication_hook="bf16")
    write_training_run(tmp_path / "profile", STEPS, gradients=GRADIENTS, workload=half)
    write_bench_run(tmp_path / "bench", LATENCY_S, BANDWIDTH)
    predicted = by_model(predict_runs(load_runs([tmp_path / "profile", tmp_path / "bench"])))["schedule"]
    assert predicted.exposed_s == pytest.approx(LATENCY_S + 4 * MIB / BANDWIDTH, rel=1e-3)
    assert any("the wire was benched in float32" in note for note in predicted.assumptions)


def test_low_rank_gradients_are_not_priced_as_if_they_were_whole(tmp_path: Path) -> None:
    folders = study(tmp_path)
    factors = workload(communication_hook="powersgd")
    folders[0] = write_training_run(tmp_path / "p", STEPS, gradients=GRADIENTS, workload=factors)
    with pytest.raises(UnusableData, match="communication hook 'powersgd'"):
        predict_runs(load_runs(folders))


def test_steps_that_never_vary_leave_the_doubt_about_the_model(tmp_path: Path) -> None:
    """Only its own error is left: of the pace and of 8.5 ms exposed beside 103; 90 % of a normal lie within 1.645 of it."""
    interval = by_model(predict_runs(load_runs(study(tmp_path))))["schedule"].interval_s
    assert interval is not None
    spread_s = math.hypot(PACE_ERROR * 0.103, BESIDE_ERROR * 0.103, EXPOSED_ERROR * TAIL_S)
    assert interval.high - interval.low == pytest.approx(2 * 1.645 * spread_s, rel=0.2)


def test_a_machine_that_drifts_widens_the_interval_by_what_its_runs_show(tmp_path: Path) -> None:
    """Half of the stretches take 6 % longer: a drift of ln 1.06 / sqrt(3), and two runs differ by sqrt(2) of it."""
    folders = study(tmp_path)
    paces = (1.0, 1.0, 1.0, 1.0, 1.0, 1.06, 1.06, 1.06, 1.06, 1.06) * 2
    drifting = [
        replace(step(i), step_s=pace * step(i).step_s, forward_s=pace * step(i).forward_s) for i, pace in enumerate(paces)
    ]
    folders[0] = write_training_run(tmp_path / "drifting", drifting, gradients=GRADIENTS)
    predicted = by_model(predict_runs(load_runs(folders)))["schedule"]
    assert predicted.interval_s is not None
    low, high = predicted.interval_s.low / predicted.step_s, predicted.interval_s.high / predicted.step_s
    own = math.hypot(PACE_ERROR, BESIDE_ERROR, math.sqrt(2 / 3) * math.log(1.06))
    assert math.log(high / low) > 2 * 1.645 * own * 0.9 * 0.103 / predicted.step_s  # the wire does not drift
    assert any("the machine's pace drifts by" in note for note in predicted.assumptions)
    steady = predict_runs(load_runs(study(tmp_path / "steady")), beside=load_runs(folders[:1]))
    told = by_model(steady)["schedule"]
    assert told.interval_s is not None
    pooled = math.hypot(PACE_ERROR, BESIDE_ERROR, math.log(1.06) / math.sqrt(3))  # half the variance: one of two runs drifts
    assert math.log(told.interval_s.high / told.interval_s.low) == pytest.approx(
        2 * 1.645 * pooled * 0.103 / told.step_s, rel=0.2
    )


def test_a_run_of_ranks_side_by_side_narrows_the_interval(tmp_path: Path) -> None:
    """Without one nothing shows what ranks on one machine cost each other; the same steps on two ranks do."""
    folders = study(tmp_path)
    alone = by_model(predict_runs(load_runs(folders)))["schedule"].interval_s
    beside = write_training_run(tmp_path / "beside", STEPS, gradients=GRADIENTS, world_size=2, synchronised=False)
    both = by_model(predict_runs(load_runs([*folders, beside])))["schedule"].interval_s
    assert alone is not None and both is not None
    assert math.log(alone.high / alone.low) > 3 * math.log(both.high / both.low)


def test_steps_and_wires_that_vary_widen_the_interval(tmp_path: Path) -> None:
    def width(folders: list[Path]) -> float:
        span = by_model(predict_runs(load_runs(folders)))["schedule"].interval_s
        assert span is not None
        return span.high - span.low

    steady = width(study(tmp_path / "steady"))
    steps = [step(i, forward_s=0.04 + 0.02 * (i // 4 % 2)) for i in range(20)]
    profile = write_training_run(tmp_path / "uneven", steps, gradients=GRADIENTS)
    assert width([profile, tmp_path / "steady" / "bench"]) > 1.3 * steady


def test_the_overheads_parts_sum_to_the_step(tmp_path: Path) -> None:
    predicted = predict_runs(load_runs(study(tmp_path)))
    part = predicted.overheads[0]
    total = part.single_step_s + part.compute_s + part.waiting_s + part.exposed_s
    assert total == pytest.approx(by_model(predicted)["schedule"].step_s)


def test_the_run_that_checks_a_prediction_cannot_move_it(tmp_path: Path) -> None:
    folders = study(tmp_path)
    before = predict_runs(load_runs(folders))
    slow = [step(i, forward_s=1.0) for i in range(20)]
    folders.append(write_training_run(tmp_path / "real", slow, world_size=2))
    after = predict_runs(load_runs(folders))
    assert replace(after, created_at=before.created_at) == before


def test_a_world_size_without_a_bench_is_carried_over_by_the_ring_and_flagged(tmp_path: Path) -> None:
    predicted = predict_runs(load_runs(study(tmp_path, backend="nccl")), [4]).predictions[0]
    assert predicted.extrapolated
    tail_s = 3 * LATENCY_S + 1.5 * 8 * MIB / BANDWIDTH
    assert predicted.step_s == pytest.approx(0.103 + tail_s, rel=1e-3)


def test_buckets_below_a_sweep_follow_the_line_and_are_named(tmp_path: Path) -> None:
    """The bench kept 64 MiB and more; the wire is a line, so the step is what it was with all sizes."""
    (profile, bench) = load_runs(study(tmp_path))
    sizes = (64 * MIB, 128 * MIB, 256 * MIB)
    large = tuple(collective(size, [LATENCY_S + size / BANDWIDTH] * 3) for size in sizes)
    schedule = by_model(predict_runs([profile, replace(bench, collectives=large)]))["schedule"]
    assert schedule.step_s == pytest.approx(0.103 + TAIL_S, rel=1e-4)
    assert "2 of 2 buckets are below the smallest message benched (64 MiB); the fitted line goes on" in schedule.assumptions


def test_only_changes_that_help_are_proposed_best_first(tmp_path: Path) -> None:
    predicted = predict_runs(load_runs(study(tmp_path)))
    order = [(own.within_noise, own.alters_learning, -own.seconds_saved) for own in predicted.changes]
    assert order == sorted(order) and len({alters for _, alters, _ in order}) == 2
    best = max(predicted.changes, key=lambda change: change.seconds_saved)
    assert best.what == "accumulate gradients over 8 batches"
    assert best.seconds_saved == pytest.approx(0.875 * (TAIL_S + 0.002), rel=1e-2)  # and of the 2 ms update
    assert all(c.interval_s is not None and c.interval_s.low <= c.seconds_saved <= c.interval_s.high for c in predicted.changes)
    assert predict_runs(load_runs(study(tmp_path / "fast", latency_s=1e-9))).changes != ()


def test_free_communication_leaves_nothing_to_try(tmp_path: Path) -> None:
    steps = [replace(each, forward_s=each.forward_s + each.optimizer_s, optimizer_s=0.0) for each in STEPS]
    write_training_run(tmp_path / "profile", steps, gradients=timeline([("w", 8, 0.06)], 0.06))
    write_bench_run(tmp_path / "bench", 1e-11, 1e15)
    predicted = predict_runs(load_runs([tmp_path / "profile", tmp_path / "bench"]))
    assert predicted.changes == ()
    assert "Little holds 2 ranks back" in verdict(predicted, [], [])[1]


def test_marked_steps_stay_out_of_every_statistic(tmp_path: Path) -> None:
    slow = [step(90 + i, forward_s=9.0, warmup=i < 3, profiled=i >= 3) for i in range(6)]
    write_training_run(
        tmp_path / "profile",
        [replace(each, step=i) for i, each in enumerate([*slow[:3], *STEPS, *slow[3:]])],
        gradients=GRADIENTS,
    )
    write_bench_run(tmp_path / "bench", LATENCY_S, BANDWIDTH)
    predicted = predict_runs(load_runs([tmp_path / "profile", tmp_path / "bench"]))
    assert predicted.single_step_s == pytest.approx(0.103)
    assert by_model(predicted)["schedule"].step_s == pytest.approx(0.103 + TAIL_S, rel=1e-4)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    profile, bench = study(tmp_path)
    with pytest.raises(UnusableData, match="no bench run"):
        predict_runs(load_runs([profile]))
    with pytest.raises(UnusableData, match="no finished single-rank training run"):
        predict_runs(load_runs([bench]))
    with pytest.raises(BadInput, match="no run given"):
        gather([], [2])
    warm = write_training_run(tmp_path / "warm", [step(0, warmup=True)])
    with pytest.raises(UnusableData, match="has no step beyond warm-up"):
        load_run(warm).counted_steps()
