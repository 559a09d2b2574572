"""For which module the GPU worked, in forward and backward: from traces worked out on paper."""

from pathlib import Path

import pytest

from commprof.analysis.traces.all_ranks.job import analyse_traces
from commprof.analysis.traces.all_ranks.kernel_kinds import summarise_modules
from commprof.analysis.traces.one_rank.kineto import read_trace
from commprof.analysis.traces.one_rank.rank_trace import RankTrace, reduce_trace
from commprof.analysis.traces.one_rank.reduced import read_reduced, write_reduced
from commprof.analysis.traces.shown.text import analysis_sheet
from commprof.commbench.display.sheet import plain_text
from tests.traces import Json, event, kernel, profiler_step, write_trace

BACKWARD = 2  # autograd's thread
AUTOGRAD = "autograd::engine::evaluate_function"


def one_step(step: int = 0) -> list[Json]:
    """A block with a layer within: 10 us of its own, 20 of the layer's; its backward 40, an optimizer 5, beside all 3."""
    at, number, sequence = 1000 * step, 100 * step, 10 * step + 1
    work = (("own", 15, 10), ("layer", 25, 20), ("adam", 80, 5), ("beside", 95, 3))
    backward = kernel("gradient", at + 300, at + 340, launched_us=at + 55, correlation=number + 50)
    backward[0]["tid"] = BACKWARD
    return [
        profiler_step(step, at, at + 999),
        event("python_function", "nn.Module: Block_0", at + 10, at + 40),
        event("python_function", "nn.Module: Linear_7", at + 20, at + 30),
        event("python_function", "model.py(3): forward", at + 10, at + 40),
        event("cpu_op", "aten::empty", at + 12, at + 13, **{"Sequence number": sequence}),
        event("cpu_op", "aten::addmm", at + 24, at + 29, **{"Sequence number": sequence}),
        event("user_annotation", "Optimizer.step#AdamW.step", at + 78, at + 90),
        event("cpu_op", f"{AUTOGRAD}: AddmmBackward0", at + 50, at + 60, **{"Sequence number": sequence}) | {"tid": BACKWARD},
        *backward,
        *(
            own
            for place, (name, launched, length) in enumerate(work)
            for own in kernel(
                name,
                at + 100 + 50 * place,
                at + 100 + 50 * place + length,
                launched_us=at + launched,
                correlation=number + place,
            )
        ),
    ]


def reduced(folder: Path, events: list[Json]) -> RankTrace:
    return reduce_trace(read_trace(write_trace(folder / "0.json", events)))


def test_a_kernel_is_of_the_innermost_module_and_its_backward_of_the_same(tmp_path: Path) -> None:
    trace = reduced(tmp_path, [own for step in range(3) for own in one_step(step)])
    found = {own.module: own for own in summarise_modules({0: trace})}
    assert {name: (own.forward_s, own.backward_s) for name, own in found.items()} == {
        "Block_0": (pytest.approx(10e-6), 0),
        "Linear_7": (pytest.approx(20e-6), pytest.approx(40e-6)),
        "Optimizer.step#AdamW.step": (pytest.approx(5e-6), 0),
        "": (pytest.approx(3e-6), 0),
    }
    assert found["Linear_7"].count == 2 and sum(own.share for own in found.values()) == pytest.approx(1)
    write_reduced(tmp_path / "0.reduced.gz", trace)
    assert read_reduced(tmp_path / "0.reduced.gz").modules == trace.modules
    text = plain_text(analysis_sheet(analyse_traces([trace])))
    assert "computation and copies by module" in text and "(outside of all)" in text


def test_a_trace_without_modules_says_nothing_of_them(tmp_path: Path) -> None:
    events = [own for own in one_step() if "nn.Module" not in str(own["name"])]
    assert reduced(tmp_path, events).modules == ()


def test_ranges_that_cross_and_numbers_that_are_none_are_borne(tmp_path: Path) -> None:
    events = one_step()
    events += [
        event("user_annotation", "crossing", 15, 500),
        event("cpu_op", "aten::mm", 1, 2, **{"Sequence number": 2**64 - 1}),
    ]
    events += [event("cpu_op", "aten::mm", 1, 2, **{"Sequence number": value}) for value in ("x", None, [1], -1)]
    assert sum(own.count for own in reduced(tmp_path, events).modules) == 5
