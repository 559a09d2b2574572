"""Which steps the profiler meets, that each trace is whole however its window ends, and what tracing cost."""

import gzip
import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from commprof.analysis.traces.all_ranks.chance import ENOUGH_STEPS, MIN_STEPS, fewest_steps
from commprof.commbench.errors import BadInput, RunFailed
from commprof.commbench.ranks.launched import RankContext
from commprof.commbench.ranks.stopping import answering_later
from commprof.commbench.records.slowdown import Slowdown
from commprof.train import profiling
from commprof.train.config.schedule import TraceWindow, count_steps, trace_windows, traced_steps
from commprof.train.config.types import ProfilingConfig, TrainConfig
from commprof.train.profiling import StepTracer
from commprof.train.traces import opening_traces
from tests.factory import step

CPU = torch.device("cpu")


def window(first: int, first_traced: int, end: int) -> TraceWindow:
    return TraceWindow(touched=range(first, end), first_traced=first_traced)


def config_of(**profiling: object) -> TrainConfig:
    base = TrainConfig()
    return replace(base, profiling=replace(base.profiling, **{"trace_steps": 3} | profiling))  # type: ignore[arg-type]


# Which steps


@pytest.mark.parametrize(
    ("profiling", "first_step", "expected"),
    [
        ({}, 0, [window(46, 47, 50)]),
        ({"trace_steps": 0}, 0, []),
        ({"trace_repeat": 2}, 0, [window(42, 43, 46), window(46, 47, 50)]),
        ({"trace_wait": 10, "trace_warmup": 2, "trace_repeat": 2}, 0, [window(10, 12, 15), window(25, 27, 30)]),
        ({"trace_wait": 0}, 0, [window(0, 1, 4)]),
        ({}, 46, [window(46, 47, 50)]),
        ({}, 47, [window(47, 48, 50)]),  # what had begun starts its profiler again, with a step less to trace
        ({}, 49, []),
        ({"trace_wait": 10, "trace_warmup": 2, "trace_repeat": 2}, 14, [window(25, 27, 30)]),
    ],
)
def test_windows_lie_where_the_configuration_says(
    profiling: dict[str, Any], first_step: int, expected: list[TraceWindow]
) -> None:
    assert list(trace_windows(50, ProfilingConfig(**{"trace_steps": 3} | profiling), first_step)) == expected


@pytest.mark.parametrize(
    ("num_steps", "profiling", "traced"),
    [
        (1000, {}, 12),
        (41, {}, 12),
        (30, {}, 8),
        (10, {}, 3),
        (41, {"trace_repeat": 2}, 6),
        (41, {"trace_steps": 30}, 30),
        (41, {"trace_steps": 0}, 0),
    ],
)
def test_where_nothing_is_said_enough_steps_are_traced_to_judge_and_fewer_in_short_runs(
    num_steps: int, profiling: dict[str, int], traced: int
) -> None:
    own = ProfilingConfig(**profiling)
    assert traced_steps(own, num_steps) == traced
    windows = trace_windows(num_steps, own)
    assert [window.touched.stop - window.first_traced for window in windows] == [traced] * own.trace_repeat * bool(traced)


def test_the_default_is_enough_to_judge_and_to_compare() -> None:
    assert traced_steps(ProfilingConfig(), 41) == ENOUGH_STEPS >= max(MIN_STEPS, fewest_steps(2))


@pytest.mark.parametrize(
    ("profiling", "max_steps", "message"),
    [
        ({"trace_wait": 40, "trace_repeat": 2}, 80, r"40 \+ 1 \+ 3 steps, 2 times, need 88 steps and the run has 80"),
        ({"trace_wait": 0}, 5, "5 steps are too few: 5 warm up and 3 are traced; run at least 6 "),
        ({"trace_wait": 2, "trace_steps": 7}, 10, "10 steps are too few: 5 warm up and 7 are traced; run at least 11 "),
        ({"trace_repeat": 10**9}, 50, "50 steps are too few"),
        ({"trace_ranks": [0, 2]}, 50, "profiling.trace_ranks names rank 2, the last one is 1"),
    ],
)
def test_windows_that_no_run_could_have_are_refused(profiling: dict[str, Any], max_steps: int, message: str) -> None:
    config = config_of(**profiling)
    with pytest.raises(BadInput, match=message):
        count_steps(6600, replace(config, training=replace(config.training, max_steps=max_steps)), 2)


@pytest.mark.parametrize(("wait", "max_steps"), [(2, 7), (6, 10)])
def test_a_window_in_the_middle_leaves_one_step_to_measure(wait: int, max_steps: int) -> None:
    config = config_of(trace_wait=wait)
    assert count_steps(6600, replace(config, training=replace(config.training, max_steps=max_steps)), 1) == max_steps


# The files


def tracer_of(run: Path, steps: range, rank: int = 0, **profiling: object) -> StepTracer:
    run.mkdir(exist_ok=True)
    context = RankContext(rank=rank, local_rank=rank, world_size=2, local_world_size=2, launcher="test")
    return StepTracer(run, context, steps, config_of(**profiling).profiling, CPU)


def take(tracer: StepTracer, steps: range, *, fail_at: int | None = None) -> list[int]:
    """Take steps under a tracer and return those that it touches."""
    with tracer:
        for index in steps:
            with tracer.step(index):
                torch.ones(3).add(1)
                if index == fail_at:
                    raise KeyError("a bug in the training")
    return [index for index in steps if tracer.touches(index)]


def read_traces(run: Path) -> dict[str, dict[str, Any]]:
    return {path.name: json.loads(gzip.decompress(path.read_bytes())) for path in (run / "traces").iterdir()}


def steps_in(trace: dict[str, Any]) -> list[int]:
    names = sorted(str(event.get("name")) for event in trace["traceEvents"] if event.get("ph") == "X")
    return [int(name.removeprefix("ProfilerStep#")) for name in names if name.startswith("ProfilerStep#")]


def test_each_window_is_a_file_that_says_whose_it_is(tmp_path: Path) -> None:
    run = tmp_path / "r"
    touched = take(tracer_of(run, range(20), 1, trace_wait=4, trace_steps=2, trace_repeat=2), range(20))
    assert touched == [4, 5, 6, 11, 12, 13]
    traces = read_traces(run)
    assert {name: steps_in(trace) for name, trace in traces.items()} == {
        "rank00001.trace.json.gz": [5, 6],
        "rank00001-step00000012.trace.json.gz": [12, 13],
    }
    assert traces["rank00001-step00000012.trace.json.gz"]["commprof"] == {
        "run_id": "r",
        "rank": 1,
        "world_size": 2,
        "first_step": 12,
        "last_step": 13,
    }


@pytest.mark.parametrize("ranks", [[0], [1]])
def test_all_ranks_meet_after_a_window_once_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: list[int]
) -> None:
    written: list[int] = []
    monkeypatch.setattr(profiling, "barrier", lambda: written.append(len(list(tmp_path.glob("traces/*.gz")))))
    take(tracer_of(tmp_path, range(20), 1, trace_wait=4, trace_repeat=2, trace_ranks=ranks), range(20))
    assert written == ([1, 2] if ranks == [1] else [0, 0])


def test_a_rank_that_is_not_listed_marks_the_steps_and_traces_none(tmp_path: Path) -> None:
    assert take(tracer_of(tmp_path / "r", range(20), 1, trace_ranks=[0]), range(20)) == [16, 17, 18, 19]
    assert not (tmp_path / "r" / "traces").exists()


@pytest.mark.parametrize(("options", "found"), [({"trace_shapes": False}, False), ({"trace_memory": True}, True)])
def test_shapes_and_memory_are_traced_where_asked_for(tmp_path: Path, options: dict[str, bool], found: bool) -> None:
    take(tracer_of(tmp_path, range(20), **options), range(20))
    text = json.dumps(read_traces(tmp_path))
    assert ("Input Dims" in text, "[memory]" in text) == (found, found)


def test_an_exception_in_a_window_leaves_what_was_traced_until_then(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        take(tracer_of(tmp_path, range(50), trace_steps=10), range(35, 50), fail_at=42)
    assert {name: steps_in(trace) for name, trace in read_traces(tmp_path).items()} == {"rank00000.trace.json.gz": [40, 41, 42]}


def test_an_exception_while_the_profiler_starts_leaves_no_trace(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        take(tracer_of(tmp_path, range(50)), range(40, 50), fail_at=46)
    assert not (tmp_path / "traces").exists()
    take(tracer_of(tmp_path, range(50)), range(40, 50))  # the profiler can be started again
    assert len(read_traces(tmp_path)) == 1


def test_a_run_that_goes_on_inside_a_window_traces_the_rest_beside_the_beginning(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        take(tracer_of(tmp_path, range(50), trace_steps=8), range(40, 50), fail_at=44)
    take(tracer_of(tmp_path, range(44, 50), trace_steps=8), range(44, 50))
    assert {name: steps_in(trace) for name, trace in read_traces(tmp_path).items()} == {
        "rank00000.trace.json.gz": [42, 43, 44],
        "rank00000-step00000045.trace.json.gz": [45, 46, 47, 48, 49],
    }


def test_ctrl_c_while_a_trace_is_written_waits_for_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = profiling._check_whole

    def press(path: Path, final: Path) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        check(path, final)

    monkeypatch.setattr(profiling, "_check_whole", press)
    with pytest.raises(KeyboardInterrupt):
        take(tracer_of(tmp_path, range(20)), range(20))
    assert {name: steps_in(trace) for name, trace in read_traces(tmp_path).items()} == {"rank00000.trace.json.gz": [17, 18, 19]}


def test_signals_held_back_reach_their_own_handlers_once() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        with answering_later():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            assert came == []
        assert came == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_trace_that_cannot_be_written_is_one_line_but_hides_no_other_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "traces").write_text("in the way")
    with pytest.raises(RunFailed, match=r"cannot write .*rank00000\.trace\.json\.gz: File exists; make room, or trace fewer"):
        take(tracer_of(tmp_path, range(20)), range(20))
    with pytest.raises(KeyError):
        take(tracer_of(tmp_path, range(20)), range(20), fail_at=18)
    assert re.fullmatch(r"commprof: cannot write .*File exists; .*\n", capsys.readouterr().err)


# What it cost, and how to open it


def test_the_slowdown_is_the_ratio_of_two_medians() -> None:
    counted = [step(index, step_s=0.1) for index in range(9)] + [step(9, step_s=5.0, warmup=True)]
    window = [step(10, step_s=9.0, profiled=True)] + [step(11 + index, step_s=0.12, profiled=True) for index in range(3)]
    slowdown = Slowdown.of([[*counted, *window, step(14, step_s=0.1)]])
    assert slowdown is not None
    assert (slowdown.num_traced, slowdown.num_counted) == (3, 10)
    assert str(slowdown) == (
        "under the profiler a step took 120 ms (median of 3), 20.0% longer than 100 ms (median of the 10 that count)"
    )
    assert Slowdown.of([[*counted, *window[:3]]]) is None
    assert Slowdown.of([[*counted[5:], *window]]) is None


def test_the_hint_names_files_that_can_be_fetched(tmp_path: Path) -> None:
    run = tmp_path / "my run"
    assert "traces: none in this run" in opening_traces(run)
    (run / "traces").mkdir(parents=True)
    for name, line in (
        ("rank00000", rf"traces: 1 file; .*ui\.perfetto\.dev.*\n.*scp '\S+:{run}/traces/rank00000\.trace\.json\.gz' \."),
        ("rank00001", r"traces: 2 files, one per rank; .*\n.*/\*\.trace\.json\.gz' \."),
        ("rank00000-step00000009", "traces: 3 files, one per rank and window; "),
    ):
        (run / "traces" / f"{name}.trace.json.gz").write_bytes(b"")
        assert re.match(line, opening_traces(run))
