"""A loop that shares nothing with ours: the script of docs/own-loop.md, as its reader would run it."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from commprof.commbench.records.rundir import read_document, read_info, read_records
from commprof.commbench.records.training import GradientTimeline, StepMeasurement
from tests.distributed.conftest import Commprof, run_in
from tests.factory import write_bench_run
from tests.forked import Zygote

GUIDE = Path(__file__).parents[2] / "docs" / "own-loop.md"

Script = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Run the guide's script as train.py, beside a user's own analysis.py."""
    return lambda: run_in(tmp_path, sys.executable, write_script(tmp_path).name)


@pytest.fixture
def forked_script(tmp_path: Path, zygote: Zygote) -> Script:
    """Run it with `old` replaced by `new`, on ranks that are forked."""

    def run(old: str = "", new: str = "", num_ranks: int = 1) -> "subprocess.CompletedProcess[str]":
        return zygote.run(tmp_path, write_script(tmp_path, old, new), ranks=num_ranks)

    return run


def write_script(folder: Path, old: str = "", new: str = "") -> Path:
    text = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)[1]
    assert old in text
    (folder / "train.py").write_text(text.replace(old, new))
    (folder / "analysis.py").write_text("raise SystemExit('the wrong module')")
    return folder / "train.py"


def one_run(folder: Path) -> Path:
    (run,) = (folder / "runs").iterdir()
    return run


def test_predicting_needs_the_own_loop_on_one_rank_and_a_bench(script: Script, commprof: Commprof, tmp_path: Path) -> None:
    done = script()
    assert done.returncode == 0, done.stderr
    run = one_run(tmp_path)
    assert f"commprof: the steps are in {Path('runs') / run.name}" in done.stderr.replace(str(tmp_path) + "/", "")
    steps = list(read_records(run / "steps.rank00000.jsonl", StepMeasurement))
    assert len(steps) == 40
    assert all(0 < s.last_backward_s < s.backward_s < s.step_s for s in steps if s.last_backward_s is not None)
    assert {(s.num_samples, s.data_s > 0, s.synchronised) for s in steps} == {(16, True, True)}
    work = read_info(run).workload
    assert work is not None
    assert (work.experiment, work.sequence_length, work.samples_per_rank) == ("train", 64, 16)
    assert work.gradient_bytes == 4 * work.num_parameters == sum(p.num_bytes for p in timeline(run).parameters)
    write_bench_run(tmp_path / "bench", 1e-4, 1e9)  # made up: a busy machine's few samples would fit no line
    predicted = commprof("predict", run, "bench", "--json")
    assert predicted.returncode == 0, predicted.stderr
    (schedule,) = (p for p in json.loads(predicted.stdout)["predictions"] if p["model"] == "schedule")
    assert schedule["world_size"] == 2
    assert schedule["step_s"] > min(s.step_s for s in steps)


def timeline(run: Path) -> GradientTimeline:
    return read_document(run / "gradients.json", GradientTimeline)


def test_two_ranks_leave_one_run(forked_script: Script, tmp_path: Path) -> None:
    done = forked_script(num_ranks=2)
    assert done.returncode == 0, done.stderr
    run = one_run(tmp_path)
    info = read_info(run)
    assert (info.status, info.world_size, info.num_nodes, info.backend) == ("completed", 2, 1, "gloo")
    assert [(r.rank, r.local_rank) for r in info.ranks] == [(0, 0), (1, 1)]
    assert all(len(list(read_records(run / f"steps.rank0000{r}.jsonl", StepMeasurement))) == 40 for r in range(2))
    (bucket,) = timeline(run).buckets
    assert info.workload is not None
    assert bucket.num_bytes == info.workload.gradient_bytes
    assert 0 < bucket.ready_s <= bucket.launched_s < bucket.done_s < timeline(run).backward_s
    beside = read_document(run / "gradients.rank00001.json", GradientTimeline)
    assert (beside.rank, len(beside.parameters)) == (1, len(timeline(run).parameters))
    assert all((run / f"pace.rank0000{r}.jsonl").exists() for r in range(2))


def test_what_ended_the_loop_is_written_down(forked_script: Script, tmp_path: Path) -> None:
    done = forked_script(old='recorder.begin("optimizer")', new="it == 20 and 1 / 0")
    assert "ZeroDivisionError" in done.stderr
    info = read_info(one_run(tmp_path))
    assert (info.status, info.failure) == ("failed", "rank 0: ZeroDivisionError: division by zero")
    assert len(list(read_records(one_run(tmp_path) / "steps.rank00000.jsonl", StepMeasurement))) == 20


def test_a_wrong_number_costs_one_line_and_no_folder(forked_script: Script, tmp_path: Path) -> None:
    done = forked_script(old="samples_per_rank=batch_size * grad_accum", new="samples_per_rank=0")
    assert "BadInput: samples_per_rank=0, warmup_steps=5: use at least 1 and at least 0" in done.stderr
    assert not (tmp_path / "runs").exists()
