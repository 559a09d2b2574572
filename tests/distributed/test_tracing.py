"""Traces of real ranks: where the configuration wants them, and whole also when a signal ends the run inside a window."""

import gzip
import json
import os
import signal
from pathlib import Path

import pytest

from commprof.commbench.records.rundir import read_info
from tests.distributed.conftest import DEADLINE_S, Commprof, ranks_of, steps_of
from tests.distributed.test_faults import Fork, lines, wait_until

ENDLESS = ("training.epochs=100000", "training.max_steps=100000")


def traced_steps(path: Path) -> list[int]:
    with gzip.open(path) as file:
        events = json.load(file)["traceEvents"]
    found = [e["name"] for e in events if e.get("ph") == "X" and e["name"].startswith("ProfilerStep#")]
    return sorted(int(name.removeprefix("ProfilerStep#")) for name in found)


def test_windows_of_a_listed_rank_are_marked_on_every_rank(forked: Commprof, tmp_path: Path, tiny: Path) -> None:
    options = (
        "profiling.trace_wait=4",
        "profiling.trace_repeat=2",
        "profiling.trace_ranks=[1]",
        "profiling.perfetto_hint=true",
    )
    done = forked(2, "train", tiny, "--folder", "r", "profiling.trace_steps=3", *options)
    assert done.returncode == 0, done.stderr
    assert "USDT" not in done.stderr
    run = tmp_path / "r"
    assert {path.name: traced_steps(path) for path in (run / "traces").iterdir()} == {
        "rank00001.trace.json.gz": [5, 6, 7],
        "rank00001-step00000013.trace.json.gz": [13, 14, 15],
    }
    for rank in range(2):
        assert [s.step for s in steps_of(run, rank) if s.profiled] == [4, 5, 6, 7, 12, 13, 14, 15]
    assert "under the profiler a step took" in done.stdout
    assert "(median of 6)" in done.stdout
    assert f"{run}/traces/*.trace.json.gz" in done.stdout
    assert "ui.perfetto.dev" in done.stdout


@pytest.mark.parametrize(
    ("num_ranks", "signum", "checkpoints"),
    [(2, signal.SIGINT, ()), (1, signal.SIGTERM, ("training.checkpoint_every=1000000",))],
)
def test_a_signal_inside_a_window_leaves_whole_traces(
    fork: Fork, tmp_path: Path, tiny: Path, num_ranks: int, signum: signal.Signals, checkpoints: tuple[str, ...]
) -> None:
    run = tmp_path / "r"
    window = ("profiling.trace_wait=5", "profiling.trace_steps=1000", "profiling.trace_shapes=false")
    process = fork("train", tiny, *ENDLESS, *window, *checkpoints, "--nproc", num_ranks, "--folder", run)
    wait_until("the twentieth step", lambda: lines(run / f"steps.rank0000{num_ranks - 1}.jsonl") >= 20)
    if signum == signal.SIGINT:
        os.killpg(process.pid, signum)  # what a terminal sends to its foreground process group
    else:
        (rank,) = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
        os.kill(rank, signum)
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, read_info(run).status) == (130, "interrupted"), output
    assert "Traceback" not in output
    assert ranks_of(run) == []
    if signum == signal.SIGINT:
        assert output.splitlines()[-1] == "commprof: interrupted"
    traces = sorted((run / "traces").iterdir())
    assert [path.name for path in traces] == [f"rank0000{rank}.trace.json.gz" for rank in range(num_ranks)]
    for rank, path in enumerate(traces):
        steps = traced_steps(path)
        assert steps == list(range(6, steps[-1] + 1))
        assert steps[-1] + 1 - lines(run / f"steps.rank0000{rank}.jsonl") in (0, 1), "the step in hand is traced too"
