"""`commprof record`: trainings of which no line knows of it, in real processes.

How a process is found as it starts is asked of real starts, alone, under torchrun and by multiprocessing; what is recorded of
two ranks also of forks.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from commprof.commbench.foreign.asked import NOTES_VARIABLE, VARIABLE
from commprof.commbench.records.rundir import read_document, read_info
from commprof.commbench.records.training import GradientTimeline
from tests.distributed.conftest import FORK, Commprof, processes_with, run_in, steps_of, the_run
from tests.forked import DEADLINE_S, Zygote

SCRIPT = """
import gc; gc.disable()  # a third of the time that torch takes to load
import os, sys, torch, torch.distributed as dist, torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset
ranks = int(os.environ.get("WORLD_SIZE", "1"))
model = nn.Sequential(nn.Linear(8, 512), nn.ReLU(), nn.Linear(512, 4))
if ranks > 1:
    dist.init_process_group("gloo")
    model = nn.parallel.DistributedDataParallel(model, bucket_cap_mb=0.005)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
for (batch,) in DataLoader(TensorDataset(torch.ones(120, 8)), batch_size=4):
    optimizer.zero_grad()
    model(batch).sum().backward()
    optimizer.step()
print("the script's own words", flush=True)
if ranks > 1:
    dist.destroy_process_group()
sys.exit(int(os.environ.get("CODE", "0")))
"""


STUBBORN = """
import gc; gc.disable()
import sys, torch
model = torch.nn.Linear(8, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
for step in range(8 + {further}):
    try:
        model(torch.ones(4, 8)).sum().backward()
        optimizer.step()
    except SystemExit:
        print("asked to end at", step + 1)
print("its own last words")
sys.exit(5)
"""


@pytest.fixture
def commprof(tmp_path: Path) -> Commprof:
    """Start `commprof ARGS` in an empty folder: what is recorded must be started in earnest."""
    return partial(run_in, tmp_path, Path(sys.executable).parent / "commprof")


@pytest.fixture
def forking(tmp_path: Path, zygote: Zygote) -> Commprof:
    """Fork `commprof record`, and the ranks that FORK would load torch for."""
    return partial(zygote.run, tmp_path, "commprof")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A training beside modules of the user's own."""
    for name in ("train", "analysis", "commbench"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    (tmp_path / "mine.py").write_text(SCRIPT)
    return tmp_path / "mine.py"


def test_one_rank_as_it_is_started(commprof: Commprof, script: Path, tmp_path: Path) -> None:
    done = commprof("record", "--steps", "3:23", "--", sys.executable, script)
    assert (done.returncode, done.stdout) == (0, "the script's own words\n"), done.stderr
    run, info, work = the_run(tmp_path)
    last = done.stderr.splitlines()[-1]
    (counted,) = [line for line in done.stderr.splitlines() if "samples on a rank" in line]
    threads = f"this rank had {info.threads_per_rank} threads, of which torchrun gives each of several one"
    assert (threads in done.stderr) is (info.threads_per_rank > 1)
    assert re.fullmatch(rf"commprof: 20 steps on 1 rank, [\d.]+ [mu]s each in the median on rank 0, are in {run}", last)
    assert f"a step has {work.samples_per_rank} samples on a rank, by the first dimension" in counted
    assert (info.status, info.world_size, work.experiment, work.kind) == ("completed", 1, "mine", "none")
    assert [step.step for step in steps_of(run)] == list(range(3, 23))
    assert {entry.name for entry in run.iterdir()} == {
        "run.json", "environment.json", "gradients.json", "steps.rank00000.jsonl", "telemetry.jsonl", "pace.rank00000.jsonl",
    }  # fmt: skip


@pytest.mark.parametrize(("further", "says"), [(3, True), (10**6, False)])
def test_a_loop_that_catches_the_end_is_ended_soon(commprof: Commprof, tmp_path: Path, further: int, says: bool) -> None:
    """It may clean up in a few further steps, after which it ends by itself; one that never would is ended for it."""
    (tmp_path / "stubborn.py").write_text(STUBBORN.format(further=further))
    done = commprof("record", "--max-steps", "8", "--", sys.executable, "stubborn.py")
    assert done.returncode == (5 if says else 0), done.stderr
    assert ("its own last words" in done.stdout) is says
    assert "asked to end at 8" in done.stdout  # buffered by Python, and still there
    assert "caught SystemExit and goes on, unrecorded; unless it ends by itself its process is ended after 10" in done.stderr
    run, *_ = the_run(tmp_path)
    assert [step.step for step in steps_of(run)] == list(range(1, 8))


def test_own_caps_meet_at_one_rank_and_at_two(forking: Commprof, script: Path, tmp_path: Path) -> None:
    done = forking("record", "--", *FORK, "2", script)
    assert done.returncode == 0, done.stderr
    run, info, work = the_run(tmp_path)
    assert run.name.split("-")[1:3] == ["train", "n2"]
    assert (info.status, info.world_size, [r.rank for r in info.ranks], info.num_machines) == ("completed", 2, [0, 1], 1)
    assert (work.kind, work.first_bucket_bytes, work.synchronised) == ("ddp", 5242, True)
    assert len(read_document(run / "gradients.json", GradientTimeline).buckets) == 2
    assert [len(steps_of(run, rank)) for rank in (0, 1)] == [29, 29]


def test_ranks_that_send_nothing(forking: Commprof, script: Path, tmp_path: Path) -> None:
    done = forking("record", "--compute-only", "--max-steps", "12", "--trace", "--", *FORK, "2", script)
    assert done.returncode == 0, done.stderr
    assert "own words" not in done.stdout, "the training was ended before them; gloo of torch 2.9 has words of its own"
    assert "commprof: the training is ended after 12 steps, as --max-steps asks" in done.stderr
    run, info, work = the_run(tmp_path)
    assert (info.status, work.synchronised, work.kind) == ("completed", False, "ddp")
    assert not any(step.synchronised for step in steps_of(run))
    assert read_document(run / "gradients.json", GradientTimeline).buckets
    assert {step.step for step in steps_of(run)} == set(range(1, 12))


def test_torchruns_ranks_and_their_exit_code(commprof: Commprof, script: Path, tmp_path: Path) -> None:
    launcher = Path(sys.executable).parent / "torchrun"
    done = run_in(
        tmp_path, Path(sys.executable).parent / "commprof", "record", "--trace", "--",
        launcher, "--standalone", "--nproc-per-node", "2", script, CODE="3",
    )  # fmt: skip
    assert done.returncode == 1, "torchrun's, whatever its ranks' are"
    run, info, _ = the_run(tmp_path)
    assert (info.status, info.failure) == ("failed", "the command ended with exit code 1")
    assert len(steps_of(run)) == 29
    assert sorted(path.name for path in (run / "traces").iterdir()) == [f"rank0000{rank}.trace.json.gz" for rank in (0, 1)]
    assert [step.step for step in steps_of(run) if step.profiled] == list(range(11, 19))


def test_a_script_that_starts_its_ranks_itself_and_its_exit_code(commprof: Commprof, script: Path, tmp_path: Path) -> None:
    starter = """
import gc; gc.disable()
import os, runpy, socket, torch.multiprocessing as mp

def rank(number, port):
    os.environ.update(RANK=str(number), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    try:
        runpy.run_path("mine.py", run_name="__main__")
    except SystemExit:
        pass

if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    mp.spawn(rank, (port,), nprocs=2)
    raise SystemExit(7)
"""
    (tmp_path / "starter.py").write_text(starter)
    done = commprof("record", "--", sys.executable, "starter.py")
    assert done.returncode == 7, done.stderr
    run, info, work = the_run(tmp_path)
    assert (info.world_size, work.kind, len(steps_of(run, 1))) == (2, "ddp", 29)
    assert (info.status, info.failure) == ("failed", "the command ended with exit code 7")


def test_a_command_that_is_killed_leaves_what_was_recorded(
    start: "Callable[..., subprocess.Popen[str]]", script: Path, tmp_path: Path
) -> None:
    endless = SCRIPT.replace("torch.ones(120, 8)", "torch.ones(4_000_000, 8)").replace(
        "    optimizer.step()\n", "    optimizer.step()\n    torch.utils.data and open('taken', 'a').write('.')\n"
    )
    (tmp_path / "endless.py").write_text(endless)
    process = start("record", "--folder", tmp_path / "run", "--", sys.executable, tmp_path / "endless.py")
    _until((tmp_path / "run" / "gradients.json").exists)
    (pid,) = [pid for pid in processes_with(str(tmp_path / "endless.py")) if pid != process.pid]
    os.kill(pid, signal.SIGKILL)
    assert process.wait(timeout=DEADLINE_S) == 128 + signal.SIGKILL
    info = read_info(tmp_path / "run")
    assert (info.status, info.failure) == ("failed", f"the command ended with exit code {128 + signal.SIGKILL}")
    assert len(steps_of(tmp_path / "run")) > 4


def _until(happened: Callable[[], bool]) -> None:
    """Wait for what another process does, a minute at most."""
    for _ in range(600):
        if happened():
            return
        signal.sigtimedwait([], 0.1)
    raise AssertionError("it did not happen within a minute")


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["true"], 1, "the command started no Python"),
        ([sys.executable, "-I", "-c", "pass"], 1, "one that takes no notice of PYTHONPATH"),
        ([sys.executable, "-c", "pass"], 1, "no Python of the command imported torch"),
        ([sys.executable, "-c", "import torch"], 1, "no process of the command took 2 steps of a torch optimizer"),
        ([sys.executable, "-c", "raise SystemExit(9)"], 9, "the command ended with exit code 9"),
        (["env", "-i", sys.executable, "-c", "pass"], 1, "is not given it (env -i, sudo, a container)"),
        (["no-such-program"], 2, "there is no program no-such-program"),
        ([__file__], 2, f"{__file__} is a file and no program; write python {__file__}"),
    ],
)
def test_a_command_that_trains_nothing_costs_one_line(
    commprof: Commprof, tmp_path: Path, command: list[str], code: int, words: str
) -> None:
    done = commprof("record", "--", *command)
    assert done.returncode == code
    (line,) = done.stderr.splitlines()
    assert words in line
    assert [*tmp_path.iterdir()] == []


def test_an_interpreter_without_torch_or_commprof_is_told_from_ours(commprof: Commprof, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "torch").mkdir(parents=True)
    (other / "torch" / "__init__.py").write_text("")
    done = commprof("record", "--", sys.executable, "-c", f"import sys; sys.path.insert(0, {str(other)!r}); import torch")
    assert done.returncode == 1
    assert "is commprof installed in the Python that the command runs?" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_sitecustomize_of_the_users_own_is_run_too(commprof: Commprof, script: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import builtins\nbuiltins.mine = 'seen'\n")
    look = "import sys, sitecustomize; print(mine, sitecustomize.__file__, [p for p in sys.path if 'startup' in p])"
    executable = Path(sys.executable).parent / "commprof"
    done = run_in(tmp_path, executable, "record", "--", sys.executable, "-c", look, PYTHONPATH=str(tmp_path / "site"))
    assert done.stdout == f"seen {tmp_path / 'site' / 'sitecustomize.py'} []\n"


def test_nothing_stays_in_the_environment() -> None:
    assert not {VARIABLE, NOTES_VARIABLE} & os.environ.keys()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--steps", "20"], "--steps '20': write A:B"),
        (["--steps", "9:9"], "nothing lies between 9 and 9"),
        (["--max-steps", "0"], "--max-steps 0: use at least 1"),
        (["--samples-per-rank", "-1"], "--samples-per-rank -1: use at least 1"),
        (["--bucket-cap", "much"], "much"),
    ],
)
def test_a_wrong_flag_is_answered_before_anything_starts(
    commprof: Commprof, tmp_path: Path, flags: list[str], words: str
) -> None:
    done = commprof("record", *flags, "--", "touch", "started")
    assert done.returncode == 2
    assert words in done.stderr
    assert [*tmp_path.iterdir()] == []
