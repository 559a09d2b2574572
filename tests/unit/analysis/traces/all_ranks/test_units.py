"""Sharded units' collectives in traces drawn on paper; times in microseconds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from commprof.analysis.traces.all_ranks.units import summarise_units
from commprof.analysis.traces.one_rank.kineto import read_trace
from commprof.analysis.traces.one_rank.rank_trace import RankTrace, reduce_trace
from commprof.analysis.traces.one_rank.reduced import read_reduced, write_reduced
from commprof.cli import main
from commprof.commbench.errors import BadInput
from tests.traces import all_reduce, event, header, kernel, profiler_step, write_trace
from tests.unit.analysis.traces.all_ranks.test_budget import analysed

Events = list[dict[str, Any]]


def marked(name: str, start: float, end: float) -> dict[str, Any]:
    return event("user_annotation", f"FSDP::{name}", start, end)


def gloo(op: str, start: float, end: float, elements: int) -> dict[str, Any]:
    own = event("user_annotation", f"gloo:{op}", start, end, **{"Input Dims": [[elements]], "Input type": ["float"]})
    return own | {"tid": 101}


def called(name: str, at: float, *shapes: int) -> dict[str, Any]:
    dims, types = [[size] for size in shapes], ["float"] * len(shapes)
    return event("cpu_op", f"c10d::{name}", at, at + 1, **{"Input Dims": dims, "Input type": types})


GLOO = [
    profiler_step(1, 0, 200),
    marked("pre_forward", 5, 45),
    marked("all_gather", 6, 20), called("_allgather_base_", 7, 4000, 2000), gloo("all_gather", 8, 19, 2000),
    marked("forward_prefetch for b", 25, 44),
    marked("all_gather (b)", 26, 43), called("_allgather_base_", 27, 800, 400), gloo("all_gather", 28, 42, 400),
    event("cpu_op", "aten::mm", 50, 80),
    event("cpu_op", "autograd::engine::evaluate_function: FSDPBackward", 90, 140),
    marked("pre_backward (b)", 91, 110),
    marked("all_gather (b)", 92, 109), called("_allgather_base_", 93, 800, 400), gloo("all_gather", 94, 108, 400),
    marked("post_backward_reduce (b)", 115, 138),
    called("_reduce_scatter_base_", 116, 400, 800), gloo("all_reduce", 117, 127, 800),
    called("allreduce_", 128, 400), gloo("all_reduce", 129, 137, 400),
    called("allreduce_", 150, 2), gloo("all_reduce", 151, 152, 2),
]  # fmt: skip


def nccl(op: str, start: float, end: float, launched: float, number: int, elements: int) -> Events:
    names = {"all_gather": ("AllGather", "_allgather_base"), "reduce_scatter": ("ReduceScatter", "_reduce_scatter_base")}
    kind, word = names[op]
    details = {"Collective name": word, "In msg nelems": elements, "Out msg nelems": elements, "dtype": "Float"}
    group = {"Process Group Name": "0", "Process Group Ranks": "[0, 1]", "Group size": 2}
    name = f"ncclDevKernel_{kind}_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
    return kernel(name, start, end, launched_us=launched, correlation=number, stream=20, **details, **group)


NCCL = [
    profiler_step(1, 0, 60),
    marked("pre_forward (a)", 1, 9), marked("all_gather (a)", 2, 5), *nccl("all_gather", 10, 20, 3, 1, 1000),
    *kernel("gemm", 20, 60, launched_us=7, correlation=2),
    marked("pre_backward (a)", 20, 30), marked("backward_prefetch for b", 22, 28),
    marked("all_gather (b)", 23, 27), *nccl("all_gather", 50, 70, 24, 3, 500),
    marked("post_backward_reduce (a)", 40, 50), *nccl("reduce_scatter", 70, 80, 41, 4, 1000),
    *all_reduce(80, 90, launched_us=45, correlation=5, elements=500),
    *kernel("gemm", 75, 100, launched_us=35, correlation=6),
]  # fmt: skip


def reduced(folder: Path, events: Events) -> RankTrace:
    return reduce_trace(read_trace(write_trace(folder / "rank0.json", events, header())))


def seen(trace: RankTrace) -> list[tuple[str, str, str, bool, int | None]]:
    parts = [(own, trace.collectives[own.collective]) for own in trace.units]
    return [(own.unit, part.op, own.direction, own.prefetched, part.message_bytes) for own, part in parts]


def test_gloos_collectives_get_their_units_their_operations_and_their_sizes(tmp_path: Path) -> None:
    """What gloo calls an all-reduce is one where the CPU called one, and a reduce-scatter where it called that."""
    trace = reduced(tmp_path, GLOO)
    assert seen(trace) == [
        ("(root)", "all_gather", "forward", False, 16_000),
        ("b", "all_gather", "forward", True, 3_200),
        ("b", "all_gather", "backward", False, 3_200),
        ("b", "reduce_scatter", "backward", False, 3_200),
        ("b", "all_reduce", "backward", False, 1_600),
    ]
    assert trace.collectives[-1].op == "all_reduce", "of no unit"
    assert trace.buckets == ()
    assert {own.step for own in trace.units} == {1}


def test_where_calls_and_collectives_differ_in_number_nothing_is_called_another_name(tmp_path: Path) -> None:
    """Without the CPU's second call nobody can say which of the two the first one made; the units are known all the same."""
    lost = [own for own in GLOO if not (own["name"] == "c10d::allreduce_" and own["args"]["Input Dims"] == [[400]])]
    assert len(lost) == len(GLOO) - 1
    assert seen(reduced(tmp_path, lost))[-2:] == [
        ("b", "all_reduce", "backward", False, 3_200),
        ("b", "all_reduce", "backward", False, 1_600),
    ]


UNMARKED = [
    profiler_step(1, 0, 200),
    called("_reduce_scatter_base_", 10, 400, 800), gloo("all_reduce", 12, 30, 800),
    called("allreduce_", 13, 2), gloo("all_reduce", 25, 40, 2),
    called("_reduce_scatter_base_", 50, 100, 200), gloo("all_reduce", 52, 60, 200),
]  # fmt: skip


@pytest.mark.parametrize(
    ("events", "ops"),
    [
        (UNMARKED, ["reduce_scatter", "all_reduce", "reduce_scatter"]),
        ([own for own in UNMARKED if own["name"] != "c10d::allreduce_"], ["all_reduce"] * 3),
        ([*UNMARKED[:4], gloo("all_reduce", 11, 40, 2), *UNMARKED[5:]], ["all_reduce"] * 3),
        ([own | {"args": {}} if own["name"][:4] == "gloo" else own for own in UNMARKED], ["all_reduce"] * 3),
    ],
    ids=["as called", "a call is lost", "in another order", "of no size"],
)
def test_where_nobody_marks_units_the_order_of_calls_tells_gloos_reduce_scatters(
    tmp_path: Path, events: Events, ops: list[str]
) -> None:
    trace = reduced(tmp_path, events)
    assert [own.op for own in trace.collectives] == ops
    assert trace.units == ()


def test_a_rank_that_waits_in_an_operator_for_gloo_computes_nothing_meanwhile(tmp_path: Path) -> None:
    steps = analysed(tmp_path, GLOO).units
    assert [own.hidden_share for own in steps] == [0, 0, 0, 0, 0]
    assert [round(own.start_s * 1e6) for own in steps] == [8, 28, 94, 117, 129]


def test_kernels_belong_to_the_range_that_launched_them_and_hide_behind_others(tmp_path: Path) -> None:
    """The second gather transfers from 50 to 70, half of it beside a product; the reduction from 70 to 80, half of it too."""
    trace = reduced(tmp_path, NCCL)
    assert [own[:4] for own in seen(trace)] == [
        ("a", "all_gather", "forward", False),
        ("b", "all_gather", "backward", True),
        ("a", "reduce_scatter", "backward", False),
        ("a", "all_reduce", "backward", False),
    ]
    found = summarise_units(analysed(tmp_path, NCCL).units)
    assert [own.hidden_share for own in found] == pytest.approx([0, 0.5, 0.5, 1])


def test_a_reduced_trace_keeps_them_and_refuses_those_of_no_collective(tmp_path: Path) -> None:
    trace = reduced(tmp_path, GLOO)
    write_reduced(tmp_path / "whole.reduced.gz", trace)
    assert read_reduced(tmp_path / "whole.reduced.gz").units == trace.units
    lost = replace(trace, units=(replace(trace.units[0], collective=99),))
    write_reduced(tmp_path / "lost.reduced.gz", lost)
    with pytest.raises(BadInput, match="a unit's collective is not there"):
        read_reduced(tmp_path / "lost.reduced.gz")


def test_the_verb_shows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_trace(tmp_path / "rank0.json", GLOO, header())
    assert main(["trace", str(path)]) == 0
    told = capsys.readouterr().out
    assert "sharded units" in told
    assert "Asked for ahead of their pass, marked +: 1 of 3 gathers." in told
