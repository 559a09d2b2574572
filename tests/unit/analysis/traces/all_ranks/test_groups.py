"""Collectives by group: one row a kind of group, what each takes of a step adds up, stages of a pipeline are no stragglers."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.analysis.traces.all_ranks.job import TraceAnalysis, analyse_traces
from commprof.analysis.traces.all_ranks.matched.groups import SEVERAL, group_kind, rank_groups, summarise_groups
from commprof.analysis.traces.one_rank.collectives import Collective
from commprof.analysis.traces.one_rank.kineto import read_trace
from commprof.analysis.traces.one_rank.rank_trace import RankTrace, reduce_trace
from commprof.analysis.traces.one_rank.spans import Intervals, common, length_ns, union, without
from tests.traces import Json, all_reduce, header, kernel, profiler_step, write_trace
from tests.unit.analysis.traces.all_ranks.test_ranks import ONE
from tests.unit.analysis.traces.shown.test_timeline import rank_trace

STEPS = 8
TP = {"Process Group Name": "1", "Process Group Description": "mesh_tp"}
DP = {"Process Group Name": "2", "Process Group Description": "mesh_dp"}


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"group_description": "mesh_tp"}, "mesh_tp"),
        ({"group_ranks": tuple(range(8)), "group_size": 8}, "all ranks"),
        ({"group_ranks": (4, 5), "group_size": 2}, "2 ranks 1 apart"),
        ({"group_ranks": (1, 3, 5, 7), "group_size": 4}, "4 ranks 2 apart"),
        ({"group_ranks": (0, 1, 4, 5, 6), "group_size": 5}, "ranks 0, 1, 4, 5, ..."),
        ({"group_ranks": None, "group_size": 8}, "all ranks"),
        ({"group_ranks": None, "group_size": 4}, "4 ranks"),
        ({"group_ranks": None, "group_size": None}, ""),
    ],
)
def test_a_group_is_its_description_or_what_its_ranks_tell(fields: dict[str, object], kind: str) -> None:
    assert group_kind(replace(ONE, **fields), 8) == kind  # type: ignore[arg-type]


def analysed(folder: Path, ranks: list[list[Json]], world_size: int) -> TraceAnalysis:
    paths = [write_trace(folder / f"{rank}.json", events, header(rank, world_size)) for rank, events in enumerate(ranks)]
    return analyse_traces([reduce_trace(read_trace(path)) for path in paths])


def two_groups(rank: int) -> list[Json]:
    """A step of 100 us: tensor-parallel 20 to 30, behind computation; data-parallel 60 to 90, computation until 80."""
    tp, dp = [rank // 2 * 2, rank // 2 * 2 + 1], [rank % 2, rank % 2 + 2]
    events: list[Json] = []
    for step in range(STEPS):
        at, number = 100 * step, 10 * step
        events += [profiler_step(step, at, at + 100), *kernel("gemm", at, at + 20, launched_us=at, correlation=number + 1)]
        events += all_reduce(
            at + 20, at + 30, launched_us=at + 1, correlation=number + 2, **TP, **{"Process Group Ranks": str(tp)}
        )
        events += kernel("gemm", at + 30, at + 80, launched_us=at + 2, correlation=number + 3)
        events += all_reduce(
            at + 60, at + 90, launched_us=at + 3, correlation=number + 4, **DP, **{"Process Group Ranks": str(dp)}
        )
    return events


def test_groups_of_one_size_are_rows_of_their_own(tmp_path: Path) -> None:
    found = analysed(tmp_path, [two_groups(rank) for rank in range(4)], 4)
    rows = {own.group: own for own in found.collectives}
    assert {name: (own.op, own.message_bytes, own.num_ranks, own.count) for name, own in rows.items()} == {
        "mesh_tp": ("all_reduce", 4_000_000, 2, 2 * STEPS),
        "mesh_dp": ("all_reduce", 4_000_000, 2, 2 * STEPS),
    }
    assert rows["mesh_tp"].time_s == pytest.approx(10e-6)
    assert rows["mesh_dp"].time_s == pytest.approx(30e-6)
    groups = {own.group: own for own in summarise_groups(found.groups)}
    assert groups["mesh_tp"].hidden_share == 0
    assert groups["mesh_dp"].hidden_share == pytest.approx(2 / 3)
    assert groups["mesh_dp"].exposed_s == pytest.approx(10e-6)
    assert found.stages == ()


@given(
    st.lists(
        st.tuples(st.integers(0, 99), st.integers(1, 40), st.sampled_from(["tp", "dp", "ep"]), st.integers(0, 1)), max_size=12
    ),
    st.lists(st.tuples(st.integers(0, 99), st.integers(1, 40)), max_size=6),
)
def test_what_groups_take_adds_up_to_the_step_s_communication(
    spans: list[tuple[int, int, str, int]], computing: list[tuple[int, int]]
) -> None:
    collectives = tuple(
        replace(ONE, start_ns=start, end_ns=start + length, step=step, group_description=group)
        for start, length, group, step in spans
    )
    compute = union([start for start, _ in computing], [start + length for start, length in computing])
    trace = made_trace(collectives, compute)
    found = rank_groups(0, trace, 2)
    ran = union([own.start_ns for own in collectives], [own.end_ns for own in collectives])
    for window in trace.windows:
        inside = common(ran, union([window.start_ns], [window.end_ns]))
        mine = [own for own in found if own.step == window.number]
        assert sum(own.hidden_ns for own in mine) == length_ns(common(inside, compute))
        assert sum(own.exposed_ns for own in mine) == length_ns(without(inside, compute))
        assert all(own.total_hidden_ns <= own.total_ns for own in mine)
    assert SEVERAL not in {own.group for own in found} or len({own.group_description for own in collectives}) > 1


def made_trace(collectives: tuple[Collective, ...], compute: Intervals) -> RankTrace:
    return replace(rank_trace(0, [], "a", 0, [], [(0, 60), (60, 150)]), collectives=collectives, compute=compute)


def sends(at: float, end: float, number: int, kind: str = "send", group: str = "pp", ranks: str = "[0, 1]") -> list[Json]:
    said = {
        "Collective name": kind,
        "Process Group Name": "7",
        "Process Group Description": group,
        "Process Group Ranks": ranks,
    }
    said |= {"In msg nelems": 1000, "Out msg nelems": 1000, "dtype": "Float", "Group size": 2}
    return kernel("ncclDevKernel_SendRecv(x)", at, end, launched_us=0, correlation=number, stream=20, **said)


def stage(rank: int, *, group: str = "pp") -> list[Json]:
    """Steps of 100 us: stage 0 computes 0 to 40 and sends; stage 1 receives, computes 45 to 85 and sends back until 90."""
    events: list[Json] = []
    for step in range(STEPS):
        at, number = 100 * step, 10 * step
        events += [profiler_step(step, at, at + 100)]
        if rank == 0:
            events += kernel("gemm", at, at + 40, launched_us=0, correlation=number + 1)
            events += sends(at + 40, at + 45, number + 2, group=group)
            events += sends(at + 45, at + 90, number + 3, "recv", group=group)
            events += kernel("adam", at + 90, at + 100, launched_us=0, correlation=number + 4)
        else:
            events += sends(at + 0, at + 45, number + 2, "recv", group=group)
            events += kernel("gemm", at + 45, at + 85, launched_us=0, correlation=number + 1)
            events += sends(at + 85, at + 90, number + 3, group=group)
            events += kernel("adam", at + 90, at + 100, launched_us=0, correlation=number + 4)
    return events


def test_a_stage_that_waits_is_a_bubble_and_nobody_is_late(tmp_path: Path) -> None:
    events = [relaunched(stage(rank)) for rank in range(2)]
    found = analysed(tmp_path, events, 2)
    assert found.stragglers.kind == "unknown"
    assert found.stragglers.rank is None
    assert "stages of a pipeline" in found.stragglers.message
    first, second = found.stages
    assert (first.stage, first.ranks, second.stage, second.ranks) == (0, (0,), 1, (1,))
    assert first.bubble_share == pytest.approx(0.5)
    assert second.bubble_share == pytest.approx(0.5)
    assert (first.warm_up_s, first.steady_s, first.drain_s) == pytest.approx((5e-6, 45e-6, 0))
    assert (second.warm_up_s, second.steady_s, second.drain_s) == pytest.approx((45e-6, 5e-6, 0))


def relaunched(events: list[Json]) -> list[Json]:
    """Launch each kernel at the beginning of the step in which it runs."""
    starts = {own["args"]["correlation"]: own["ts"] for own in events if own["cat"] == "kernel"}
    return [
        own | {"ts": starts[own["args"]["correlation"]] // 100 * 100} if own["cat"] == "cuda_runtime" else own for own in events
    ]


def test_a_ring_of_ranks_that_pass_blocks_is_no_pipeline(tmp_path: Path) -> None:
    found = analysed(tmp_path, [relaunched(stage(rank, group="mesh_cp")) for rank in range(2)], 2)
    assert found.stages == ()
    assert found.stragglers.rank is None


def test_replicas_of_one_stage_are_compared_with_each_other(tmp_path: Path) -> None:
    """Ranks 0, 1 are stage 0 and 2, 3 stage 1; rank 3 comes 20 us late to stage 1's gradients in every step."""
    ranks = []
    for rank in range(4):
        pair = [rank % 2, rank % 2 + 2]
        same = [rank // 2 * 2, rank // 2 * 2 + 1]
        events: list[Json] = []
        for step in range(STEPS):
            at, number = 100 * step, 10 * step
            late = 20 if rank == 3 else 0
            events += [profiler_step(step, at, at + 100)]
            events += sends(at + 5, at + 10, number + 2, ranks=str(pair))
            events += kernel("gemm", at + 10, at + 50 + late, launched_us=at, correlation=number + 1)
            dp = DP | {"Process Group Ranks": str(same)}
            events += all_reduce(at + 50 + late, at + 90, launched_us=at, correlation=number + 3, **dp)
        ranks.append(relaunched(events))
    found = analysed(tmp_path, ranks, 4)
    assert [own.ranks for own in found.stages] == [(0, 1), (2, 3)]
    assert (found.stragglers.kind, found.stragglers.rank) == ("constant", 3)


def test_replicas_that_also_send_something_are_no_pipeline(tmp_path: Path) -> None:
    ranks = []
    for _ in range(2):
        events: list[Json] = []
        for step in range(STEPS):
            at, number = 100 * step, 10 * step
            events += [profiler_step(step, at, at + 100), *sends(at + 5, at + 10, number + 2, group="undefined")]
            events += all_reduce(at + 50, at + 90, launched_us=at, correlation=number + 3)
        ranks.append(relaunched(events))
    assert analysed(tmp_path, ranks, 2).stages == ()


def test_an_unknown_operation_says_what_it_holds(tmp_path: Path) -> None:
    sized = {"Collective name": "coalesced", "In msg nelems": 8, "dtype": "Float", "Process Group Name": "0", "Group size": 4}
    events = [profiler_step(1, 0, 100)]
    for number, taken in enumerate((32, 2, 8), 1):
        own = sized | {"Out msg nelems": taken}
        at = 10 * number
        events += kernel("ncclDevKernel_Generic_4(x)", at, at + 10, launched_us=number, correlation=number, **own)
    found = reduce_trace(read_trace(write_trace(tmp_path / "0.json", events, header(0, 4)))).collectives
    assert [(own.op, own.message_bytes, own.words) for own in found] == [
        ("all_gather", 128, ""),
        ("reduce_scatter", 32, ""),
        ("unknown", 32, "ncclDevKernel_Generic_4 in coalesced"),
    ]
