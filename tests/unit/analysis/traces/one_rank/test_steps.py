"""Steps that nothing marks are found and said to be; GPU work without a launch call is placed by time, and weighed."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.analysis.traces.all_ranks.doctor import Finding
from commprof.analysis.traces.all_ranks.job import TraceAnalysis, analyse_traces
from commprof.analysis.traces.one_rank.kineto import read_trace
from commprof.analysis.traces.one_rank.rank_trace import RankTrace, reduce_trace
from commprof.analysis.traces.one_rank.steps import NO_STEP, place_orphans
from tests.traces import Json, all_reduce, event, header, kernel, profiler_step, write_trace


def reduced(path: Path, events: list[Json], **fields: object) -> RankTrace:
    return reduce_trace(read_trace(write_trace(path / "rank0.json", events, header(0, 2, **fields))))


def finding(trace: RankTrace, name: str) -> str:
    found: TraceAnalysis = analyse_traces([trace])
    return " ".join(own.message for own in found.findings if own.name == name)


def step_kernels(number: int, *, category: str = "cuda_runtime") -> list[Json]:
    """A step of 100 us: a kernel of 50, launched at its beginning."""
    start, correlation = 100 * number, 10 * number + 1
    events = kernel("gemm", start + 10, start + 60, launched_us=start + 5, correlation=correlation)
    return [events[0] | {"cat": category}, events[1]]


def replayed(start_us: float, end_us: float, **args: object) -> Json:
    return event("kernel", "graph_kernel", start_us, end_us, stream=7, **args)


def test_replays_between_a_step_s_work_are_placed_in_it_and_weighed(tmp_path: Path) -> None:
    """Two steps; each replay follows its step's launched kernel. The one before all of it stays out."""
    events = [replayed(0, 5)]
    for number in (1, 2):
        events += [profiler_step(number, 100 * number, 100 * number + 100), *step_kernels(number)]
        events += [replayed(100 * number + 60, 100 * number + 80)]
    trace = reduced(tmp_path, events)
    assert [(own.number, own.start_ns, own.end_ns) for own in trace.windows] == [(1, 110_000, 180_000), (2, 180_000, 280_000)]
    assert (trace.num_orphans, trace.orphans.num_placed) == (3, 2)
    assert (trace.orphans.total_ns, trace.orphans.out_ns, trace.orphans.gpu_ns) == (45_000, 5_000, 145_000)
    assert finding(trace, "orphans") == (
        "rank 0: 3 of 5 GPU events have no launch call, 45 us or 31.0% of the GPU's time: 2 are placed in steps by time on "
        "their stream, 1 (5 us) stay out of all steps"
    )


def test_a_collective_without_a_launch_call_has_the_step_around_it(tmp_path: Path) -> None:
    events = []
    for number in (1, 2):
        events += [profiler_step(number, 100 * number, 100 * number + 100), *step_kernels(number)]
        events += all_reduce(100 * number + 40, 100 * number + 90, launched_us=0, correlation=500 + number)[1:]
    assert [own.step for own in reduced(tmp_path, events).collectives] == [1, 2]


@given(st.data())
def test_placed_work_lies_between_its_neighbours(data: st.DataObject) -> None:
    """Launched work in order on each stream, orphans anywhere: steps on a stream never go back, and no launched one moves."""
    known = np.array(data.draw(st.lists(st.booleans(), min_size=1, max_size=30)))
    stream = np.array(data.draw(st.lists(st.integers(1, 3), min_size=len(known), max_size=len(known))), dtype=np.int32)
    start_ns = np.cumsum(data.draw(st.lists(st.integers(1, 9), min_size=len(known), max_size=len(known))))
    steps = np.sort(data.draw(st.lists(st.integers(3, 6), min_size=len(known), max_size=len(known))))
    placed = place_orphans(np.where(known, steps, NO_STEP), known, stream, start_ns)
    assert (placed[known] == steps[known]).all()
    for own in np.unique(stream):
        inside = placed[(stream == own) & (placed != NO_STEP)]
        assert (np.diff(inside) >= 0).all()
    if known.any():
        first = int(np.flatnonzero(known)[0])
        assert (placed[:first] == NO_STEP).all()
        assert (placed[first:] != NO_STEP).all()


def test_what_follows_work_outside_of_all_steps_stays_out(tmp_path: Path) -> None:
    events = [profiler_step(1, 100, 200), *step_kernels(1)]
    events += [*kernel("after", 300, 310, launched_us=290, correlation=90), replayed(310, 320)]
    trace = reduced(tmp_path, events)
    assert trace.windows[-1].end_ns == 160_000
    assert trace.orphans.num_placed == 0


@pytest.mark.parametrize("category", ["xpu_runtime", "hip_driver", "mtia_runtime", "privateuse1_runtime"])
def test_every_accelerator_s_runtime_launches(tmp_path: Path, category: str) -> None:
    events = [profiler_step(1, 100, 200), *step_kernels(1, category=category)]
    trace = reduced(tmp_path, events)
    assert trace.num_orphans == 0
    assert [own.number for own in trace.windows] == [1]


def test_where_no_work_has_a_launch_call_that_is_said_and_not_that_steps_are_missing(tmp_path: Path) -> None:
    trace = reduced(tmp_path, [profiler_step(1, 0, 100), replayed(10, 20)])
    assert "no GPU event has a launch call, so none is known to belong to a step" in finding(trace, "steps")
    assert "marks no steps" not in finding(trace, "steps")


def test_where_no_work_has_a_launch_call_its_steps_are_those_of_its_kernels(tmp_path: Path) -> None:
    layers = [(100 * number + at, name) for number in range(4) for at, name in ((10, "layer"), (40, "layer"), (70, "head"))]
    replays = [replayed(start, start + 20) | {"name": name} for start, name in layers]
    trace = reduced(tmp_path, [profiler_step(1, 0, 100), profiler_step(2, 100, 400), *replays])
    assert trace.steps_from == "kernels that repeat"
    assert [own.number for own in trace.windows] == [0, 1, 2, 3]
    assert finding(trace, "steps") == (
        "rank 0: no GPU event has a launch call that would lead to a step; its 4 are found from kernels that repeat, "
        "counted from 0; where one begins is not known"
    )


def test_steps_are_found_from_the_optimizer_and_said_to_be(tmp_path: Path) -> None:
    events = []
    for number in range(3):
        events += step_kernels(number)
        events += [event("user_annotation", "Optimizer.step#AdamW.step", 100 * number + 80, 100 * number + 95)]
        events += [event("user_annotation", "Optimizer.zero_grad#AdamW.zero_grad", 100 * number + 96, 100 * number + 97)]
    trace = reduced(tmp_path, events)
    assert trace.steps_from == "the optimizer's steps"
    assert [(own.number, own.start_ns, own.end_ns) for own in trace.windows] == [
        (0, 10_000, 60_000),
        (1, 60_000, 160_000),
        (2, 160_000, 260_000),
    ]
    assert "it marks no steps; its 3 are found from the optimizer's steps, counted from 0" in finding(trace, "steps")
    assert "schedule=" in finding(trace, "steps")


def test_steps_are_found_from_kernels_that_repeat(tmp_path: Path) -> None:
    """Two layers a step: the layers repeat too, but only with the head between them does all of it."""
    events = []
    for number in range(4):
        for index, name in enumerate(["layer", "layer", "head", "adam"]):
            start = 100 * number + 20 * index
            events += kernel(name, start, start + 15, launched_us=start, correlation=10 * number + index + 1)
    trace = reduced(tmp_path, events)
    assert trace.steps_from == "kernels that repeat"
    assert [own.number for own in trace.windows] == [0, 1, 2, 3]
    assert {own.wall_ns for own in trace.windows[:-1]} == {100_000}
    assert "where one begins is not known" in finding(trace, "steps")


def test_where_nothing_repeats_the_whole_trace_is_one_step(tmp_path: Path) -> None:
    events = [
        own for index in range(4) for own in kernel(f"k{index}", 10 * index, 10 * index + 5, launched_us=0, correlation=index)
    ]
    trace = reduced(tmp_path, events)
    assert [own.number for own in trace.windows] == [NO_STEP]
    assert "it marks no steps, and none could be found" in finding(trace, "steps")


def test_events_of_another_accelerator_are_said_not_to_be_understood(tmp_path: Path) -> None:
    events = [profiler_step(1, 0, 100), event("cpu_op", "aten::mm", 1, 2), event("mtia_ccp_events", "fc", 10, 90)]
    trace = reduced(tmp_path, events)
    assert trace.not_understood == (("mtia_ccp_events", 1),)
    assert "1 event of category mtia_ccp_events is not understood" in finding(trace, "not understood")
    assert "the budget is of the CPU only" in finding(trace, "not understood")


def test_an_accelerator_whose_events_name_no_category_is_said_not_to_be_understood(tmp_path: Path) -> None:
    """As torch_npu writes Ascend's: times are strings, and only the host's events have a category."""
    host = [profiler_step(1, 0, 100), event("cpu_op", "aten::mm", 1, 2)]
    device = {key: value for key, value in event("", "hcom_allReduce__503_0_1", 10, 90).items() if key != "cat"}
    trace = reduced(tmp_path, [own | {"ts": str(own["ts"])} for own in (*host, device)])
    assert trace.not_understood == (("(none)", 1),)
    assert "1 event of category (none) is not understood; if these are an accelerator's work" in finding(
        trace, "not understood"
    )


def test_a_rank_beyond_the_world_is_a_finding(tmp_path: Path) -> None:
    path = write_trace(tmp_path / "rank5.json", [profiler_step(1, 100, 200), *step_kernels(1)], header(5, 2))
    found = analyse_traces([reduce_trace(read_trace(path))]).findings
    assert Finding(name="world size", message="rank 5 cannot be of a job of 2 ranks, which are 0 to 1") in found


@pytest.mark.parametrize("duration", ['"long"', '"5"', "null", "[1]", "true", "{}"])
def test_a_duration_that_is_no_number_makes_an_event_unreadable(tmp_path: Path, duration: str) -> None:
    good = '{"ph":"X","cat":"cpu_op","name":"good","ts":1,"dur":1}'
    path = tmp_path / "0.json"
    bad = good.replace('"dur":1', f'"dur":{duration}')
    path.write_text('{"traceEvents":[' + ",".join([good, bad, good, bad]) + '],"traceName":"own"}')
    trace = read_trace(path)
    assert len(trace.events) == 2
    assert (trace.notes.num_unreadable, trace.notes.damage) == (2, "")


def test_a_job_that_seems_to_be_silent_names_what_most_likely_communicates(tmp_path: Path) -> None:
    events = [profiler_step(1, 0, 100), *kernel("gemm", 0, 50, launched_us=0, correlation=1)]
    events += kernel("void vendor::moe_dispatch<4>(x)", 50, 80, launched_us=1, correlation=2, stream=20)
    message = finding(reduced(tmp_path, events), "communication")
    assert message == (
        "the job has 2 ranks and no kernel is known to communicate, so all count as computation; most likely do: "
        "vendor::moe_dispatch (1 time, 30 us). --kernel PATTERN=OPERATION says which do"
    )


def test_an_event_of_another_age_is_a_finding(tmp_path: Path) -> None:
    events = [
        profiler_step(1, 0, 100),
        *kernel("k", 10, 20, launched_us=1, correlation=1),
        event("cpu_op", "aten::mm", -1e15, -1e15 + 1),
    ]
    assert "some event's time is damaged" in finding(reduced(tmp_path, events), "damaged")
    assert not finding(reduced(tmp_path, events[:-1]), "damaged")
