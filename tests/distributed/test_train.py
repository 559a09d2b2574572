import gzip
import json
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest

from commprof.analysis.step.ddp import assign_buckets
from commprof.commbench.records.rundir import read_document, read_info, read_records
from commprof.commbench.records.training import EvaluationMeasurement, GradientTimeline
from tests.distributed.conftest import SCRIPT, Commprof, run_in, steps_of
from tests.distributed.test_trace import document
from tests.factory import write_tiny_config
from tests.forked import Zygote

Trained = tuple[Path, "subprocess.CompletedProcess[str]"]
USERS_OWN = ("train", "analysis", "commbench", "torch")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """One batch shared by two ranks in small buckets, started beside files with the names of our rooms and of torch."""
    folder = tmp_path_factory.mktemp("trained")
    for name in USERS_OWN:
        (folder / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    options = ("distributed.bucket_cap_mb=0.002", "training.scaling=strong")
    return folder / "r", run_in(folder, SCRIPT, "train", write_tiny_config(folder), "--nproc", "2", "--folder", "r", *options)


def test_a_users_own_modules_are_not_imported_instead(trained: Trained) -> None:
    run, done = trained
    assert all((run.parent / f"{name}.py").exists() for name in USERS_OWN)
    assert done.returncode == 0, done.stderr + done.stdout


def test_the_model_is_gone_before_its_process_group(tmp_path: Path, zygote: Zygote) -> None:
    """Where DDP's reducer is the last that holds the group, torch joins gloo's threads, which may wait for Python's lock."""
    script = tmp_path / "watched.py"
    script.write_text(
        "import gc, sys, torch.distributed as dist\n"
        "from torch.nn.parallel import DistributedDataParallel\n"
        "from commprof.cli import enter\n"
        "made, destroy, init = [], dist.destroy_process_group, DistributedDataParallel.__init__\n"
        "def noted(model, *words, **named): made.append(init(model, *words, **named))\n"
        "def watched():\n"
        "    left = [each for each in gc.get_objects() if type(each) is DistributedDataParallel]\n"
        "    print(f'of {len(made)} models {len(left)} are left')\n"
        "    destroy()\n"
        "DistributedDataParallel.__init__, dist.destroy_process_group = noted, watched\n"
        "sys.argv[0] = 'commprof'\n"
        "enter()\n"
    )
    done = zygote.run(tmp_path, script, "train", write_tiny_config(tmp_path), ranks=1)
    assert done.returncode == 0, done.stderr
    assert "of 1 models 0 are left" in done.stdout


def test_a_two_rank_run_leaves_all_it_should(trained: Trained) -> None:
    run, _ = trained
    info = read_info(run)
    assert (info.status, info.kind, info.threads_per_rank) == ("completed", "train", 1)
    assert info.workload is not None
    assert info.workload.bucket_cap_bytes == int(0.002 * 2**20)
    for rank in range(2):
        steps = steps_of(run, rank)
        assert [s.step for s in steps] == list(range(20))
        assert [s.step for s in steps if s.counts] == list(range(3, 17))
        for s in steps:
            assert s.data_s + s.forward_s + s.backward_s + s.optimizer_s <= s.step_s
    check_trace(run, world_size=2)
    check_buckets(run)
    (evaluation,) = read_records(run / "evaluations.jsonl", EvaluationMeasurement)
    assert evaluation.num_samples == 100  # a tenth of 600 articles would be 60; synthetic evaluation has at least 100


def check_trace(run: Path, world_size: int) -> None:
    for rank in range(world_size):
        with gzip.open(run / "traces" / f"rank{rank:05d}.trace.json.gz") as file:
            trace = json.load(file)
        names = [event.get("name") for event in trace["traceEvents"] if event.get("ph") == "X"]
        for span in ("step", "data", "forward", "backward", "optimizer", "bucket 0"):
            assert names.count(span) == 2, span
        assert trace["distributedInfo"]["rank"] == rank
        assert "gloo:all_reduce" in names


def check_buckets(run: Path) -> None:
    """DDP's own buckets, as its hook saw them, are those our rules give from the ready order."""
    timeline = read_document(run / "gradients.json", GradientTimeline)
    info = read_info(run)
    assert info.workload is not None
    assert timeline.num_steps == 14
    expected = assign_buckets(timeline.parameters, info.workload.first_bucket_bytes, info.workload.bucket_cap_bytes)
    assert len(timeline.buckets) > 1
    assert [bucket.num_bytes for bucket in timeline.buckets] == [bucket.num_bytes for bucket in expected]
    assert sum(p.num_bytes for p in timeline.parameters) == info.workload.gradient_bytes
    for bucket in timeline.buckets:
        assert 0 <= bucket.ready_s <= bucket.launched_s <= bucket.done_s


def test_our_own_training_is_understood_without_a_finding(trained: Trained, zygote: Zygote) -> None:
    run, _ = trained
    commprof = partial(zygote.run, run.parent, "commprof")
    found = document(commprof, run)
    assert found["findings"] == []
    assert found["unmatched"] == []
    assert [(own["rank"], own["step"]) for own in found["budgets"]] == [(0, 18), (0, 19), (1, 18), (1, 19)]  # type: ignore[attr-defined]
    assert {own["num_ranks"] for own in found["collectives"]} == {2}  # type: ignore[attr-defined]
    done = commprof("report", "r", "--out", "page.html")
    assert done.returncode == 0, done.stderr
    page = (run.parent / "page.html").read_text()
    share = f"{found['waiting_share']:.1%}"
    assert f"of the time in matched collectives {share} is waiting for the last rank" in page
    assert "2 traced steps of 2 of 2 ranks" in page
    assert page.count("<code>r/traces/rank00001.trace.json.gz</code>") == 2  # the budget's source and the collectives'
    recorded = json.loads((run / "gradients.json").read_text())["buckets"]
    expected = [(own["index"], own["num_bytes"]) for own in recorded]
    assert [(own["bucket"], own["message_bytes"]) for own in found["buckets"]] == expected  # type: ignore[attr-defined]
    assert len(expected) > 2
    for own in found["bucket_steps"]:  # type: ignore[attr-defined]
        assert own["named"]
        assert 0 < own["ready_s"] < own["launch_s"] <= own["start_s"] < own["end_s"]
    done = commprof("trace", "--reduce", run, "--out", "r/reduced")
    assert done.returncode == 0, done.stderr
    assert document(commprof, run / "reduced") == found


def test_compute_only_ranks_send_nothing_and_wait_in_the_exchanges_stead(forked: Commprof, tmp_path: Path, tiny: Path) -> None:
    """Their first four passes exchange, to tell how long that takes, and do not count."""
    done = forked(2, "train", tiny, "--folder", "r", "distributed.synchronisation=compute_only")
    assert done.returncode == 0, done.stderr
    timeline = read_document(tmp_path / "r" / "gradients.json", GradientTimeline)
    assert sum(bucket.num_bytes for bucket in timeline.buckets) == sum(p.num_bytes for p in timeline.parameters)
    steps = steps_of(tmp_path / "r")
    assert not any(s.synchronised for s in steps)
    assert [s.warmup for s in steps[:6]] == [True] * 5 + [False]
    work = read_info(tmp_path / "r").workload
    assert work is not None
    assert (work.synchronised, work.starts_together) == (False, True)
    assert work.waited_s is not None and work.waited_s > 0


def test_strong_scaling_shares_one_batch(trained: Trained) -> None:
    run, done = trained
    assert "samples/s on 2 ranks, 4 samples on each (strong scaling)" in done.stdout
    workload = read_info(run).workload
    assert workload is not None
    assert (workload.scaling, workload.samples_per_rank) == ("strong", 4)
    assert {s.num_samples for s in steps_of(run, 1)} == {4}


def test_one_process_trains_without_ddp_and_the_same_way_twice(commprof: Commprof, tmp_path: Path, tiny: Path) -> None:
    losses = []
    for name in ("a", "b"):
        done = commprof("train", tiny, "--folder", name)
        assert done.returncode == 0, done.stderr
        losses.append([s.loss for s in steps_of(tmp_path / name)])
    assert losses[0] == losses[1]
    assert read_info(tmp_path / "a").launcher == "single"
    assert (tmp_path / "a" / "traces" / "rank00000.trace.json.gz").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.dmodel=3"], "unknown key model.dmodel; did you mean model.d_model?"),
        (["model.vocabulary=500000"], "model.vocabulary=500000 is larger than the data give"),
        (["training.max_steps=4"], "4 steps are too few"),
        (["training.batch_size=9999"], "do not fill a batch of 9999"),
        (["training.scaling=strong", "training.batch_size=7"], "and 2 ranks cannot share it evenly; use a multiple of 2"),
        (["data.source=csv", "data.train_csv=none.csv"], "none.csv"),
        (["--nproc", "0"], "--nproc 0 starts nothing"),
    ],
)
def test_bad_input_costs_one_line_and_leaves_nothing(
    commprof: Commprof, tmp_path: Path, tiny: Path, arguments: list[str], message: str
) -> None:
    nproc = [] if "--nproc" in arguments else ["--nproc", "2"]
    done = commprof("train", tiny, *nproc, *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("commprof: error: ")
    assert message in line
    assert not (tmp_path / "runs").exists()


def test_a_malformed_article_is_named_before_any_process_starts(commprof: Commprof, tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "bad.csv").write_text('"1","fine","text"\n"7","wrong","class"\n')
    done = commprof("train", tiny, "data.source=csv", "data.train_csv=bad.csv", "data.eval_csv=bad.csv", "--nproc", "2")
    assert done.returncode == 2
    assert "bad.csv:2" in done.stderr
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
