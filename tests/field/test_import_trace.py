"""Real traces of DDP runs as profiles: what is known of how they were made, and what the same traces say themselves."""

from pathlib import Path
from statistics import median

import pytest

from commprof.analysis.advice.predict import predict_runs
from commprof.analysis.imports.profile import gpu_done_by
from commprof.analysis.imports.traced_training import read_traced_job, write_traced_job
from commprof.analysis.runs.load import load_runs
from commprof.analysis.traces.all_ranks.job import analyse_traces
from commprof.analysis.traces.one_rank.kineto import read_trace
from commprof.analysis.traces.one_rank.rank_trace import reduce_trace
from commprof.cli import main
from tests.factory import write_bench_run

TRACES = Path(__file__).parents[2].parent / "shared/data/traces"

pytestmark = [
    pytest.mark.field,
    pytest.mark.skipif(not TRACES.is_dir(), reason="the published traces are not in ../shared/data/traces"),
]


def test_a_gloo_run_predicts_its_own_step_from_its_computation_and_its_transfers(tmp_path: Path) -> None:
    """Rank 1 slept 5 ms a step before backward. On a free wire only the late rank's computation is left of a step; with the
    transfers of the traces for a wire, the step is what the ranks took, but for a machine whose transfers took 1 to 9 ms."""
    job = read_traced_job(sorted((TRACES / "gloo_ddp_2r_torch213").glob("*.gz")), None)
    assert (job.name, job.sent_bytes, job.num_left_out) == ("gloo_ddp_2r_torch213", (2_101_248,) * 4, 0)
    early, late = (job.steps[rank] for rank in (0, 1))
    assert 3e-3 < median(b.before_s - a.before_s for a, b in zip(early, late, strict=True)) < 8e-3
    write_traced_job(tmp_path / "run", job)
    (collective,) = analyse_traces(list(job.traces.values())).collectives
    assert collective.transfer_s is not None

    def step_s(transfer_s: float) -> float:
        bench = write_bench_run(tmp_path / f"bench-{transfer_s}", 1e-9, 2_101_248 / transfer_s, cores=2)
        return predict_runs(load_runs([tmp_path / "run", bench])).predictions[0].step_s

    assert step_s(1e-9) == pytest.approx(median(step.step_s for step in late), rel=0.01)
    assert step_s(collective.transfer_s) == pytest.approx(median(step.wall_s for step in job.all_steps), rel=0.25)


@pytest.mark.parametrize("name", ["nccl_data_A100_2gpu_r0", "v100_2gpu_allreduce_r1"])
def test_no_bucket_begins_before_the_gpu_is_held_to_have_it_ready(name: str) -> None:
    (path,) = (TRACES / name).glob("*.gz")
    trace = read_trace(path)
    own, done_by = reduce_trace(trace), gpu_done_by(trace.events)
    starts_ns = [min(own.collectives[position].start_ns for position in bucket.collectives) for bucket in own.buckets]
    late_us = [(start_ns - done_by(bucket.ready_ns)) / 1e3 for start_ns, bucket in zip(starts_ns, own.buckets, strict=True)]
    assert min(late_us) > 0
    assert median(late_us) < 150


def test_traces_that_cannot_be_a_profile_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reasons = {
        "v100_2gpu_allreduce_r1": "do not tell the sizes of DDP's buckets",
        "cs336_naive_ddp_legacy": "holds no collective",
        "flux_mi300_pystack_stress": "holds no collective",
    }
    for name, reason in reasons.items():
        (path,) = (TRACES / name).glob("*.json*")
        assert main(["import", str(path), "--out", str(tmp_path)]) == 1
        assert reason in " ".join(capsys.readouterr().out.split())
