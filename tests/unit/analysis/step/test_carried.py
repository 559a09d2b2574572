"""A wire carried to a number of ranks that nobody benched: how sure is what becomes of it?"""

from pathlib import Path

import pytest

from commprof.analysis.advice.predict import predict_runs
from commprof.analysis.runs.load import load_runs
from commprof.analysis.step.estimate import carried_error
from commprof.analysis.step.gather import gather
from commprof.analysis.step.results import Prediction
from commprof.analysis.wire.cost import cost_s
from tests.factory import MIB, timeline, write_bench_run, write_training_run
from tests.paper_study import BANDWIDTH, LATENCY_S, STEPS, study


@pytest.mark.parametrize(
    ("message_bytes", "error"),
    [(25 * MIB, 0.07), (8 * MIB, 0.07), (MIB, 0.25), (2**16, 0.5), (8, 0.5), (2**19, 0.3125)],  # 512 KiB: a quarter of the way
)
def test_small_messages_are_carried_badly_and_large_ones_well(message_bytes: int, error: float) -> None:
    assert carried_error(message_bytes, "gloo") == pytest.approx(error)
    assert carried_error(message_bytes, "nccl") == 0.25  # nobody tried


def predicted_at_four(folder: Path, num_bytes: int) -> Prediction:
    """One bucket, all of it exposed: 60 ms of latency and transfer beside 103 ms of computation."""
    write_training_run(folder / "profile", STEPS, gradients=timeline([("w", num_bytes, 0.06)], 0.06))
    write_bench_run(folder / "bench", LATENCY_S, num_bytes / 0.04)
    return predict_runs(load_runs([folder / "profile", folder / "bench"]), [4]).predictions[0]


def test_an_interval_at_four_ranks_is_as_wide_as_such_messages_were_off(tmp_path: Path) -> None:
    large, small = predicted_at_four(tmp_path / "large", 25 * MIB), predicted_at_four(tmp_path / "small", 2**17)
    for predicted, error in ((large, (0.07**2 + 0.07**2) ** 0.5), (small, (0.07**2 + 0.4375**2) ** 0.5)):
        span = predicted.exposed_interval_s
        assert span is not None
        assert (span.high - span.low) / predicted.exposed_s == pytest.approx(2 * 1.645 * error, rel=0.25)
    named = [note for note in small.assumptions if "below 1 MiB" in note]
    assert named == ["1 of 1 buckets are below 1 MiB, where carried times are off by 44%; add commprof bench --nproc 4"]
    assert not any("below 1 MiB" in note for note in large.assumptions)


def test_a_wire_that_was_benched_is_not_doubted(tmp_path: Path) -> None:
    predicted = predict_runs(load_runs(study(tmp_path, latency_s=8 * MIB / BANDWIDTH)))
    span, exposed_s = predicted.predictions[0].exposed_interval_s, predicted.predictions[0].exposed_s
    assert span is not None and (span.high - span.low) / exposed_s == pytest.approx(2 * 1.645 * 0.07, rel=0.25)


def test_over_nodes_ranks_share_the_cores_of_their_own_node_and_the_ring_grows_by_a_sixth(tmp_path: Path) -> None:
    """2 ranks on each of 4 nodes of 2 cores: no rank lacks a core, and 1.75 of the gradients cross where 1.5 did on 2 nodes."""
    write_training_run(tmp_path / "profile", STEPS, cores=2, gradients=timeline([("w", 25 * MIB, 0.06)], 0.06))
    write_bench_run(tmp_path / "inside", 1e-4, 25 * MIB / 0.001, cores=2)
    write_bench_run(tmp_path / "two", 1e-4, 25 * MIB / 0.04, world_size=4, num_nodes=2, cores=2)
    runs = load_runs([tmp_path / name for name in ("profile", "inside", "two")])
    gathered = gather(runs, [8], beyond=[5])
    (known,) = gathered.at
    assert known.cost.num_nodes == 4
    assert known.slowdown == 1.0
    assert cost_s(known.cost, 25 * MIB) == pytest.approx(0.04 * 1.75 / 1.5, rel=0.02)
    assert "5 ranks do not fill nodes of 2" in gathered.out_of_reach[5]
