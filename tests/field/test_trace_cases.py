"""Small traces of what went wrong in public ones: each says what is true of it, and nothing that is not."""

from pathlib import Path

import pytest

from commprof.analysis.traces.all_ranks.job import TraceAnalysis, analyse_traces
from commprof.analysis.traces.all_ranks.matched.groups import summarise_groups
from commprof.analysis.traces.sets.belonging import read_one_run, read_runs
from commprof.analysis.traces.sets.comparison import compare_traces
from commprof.commbench.errors import BadInput

CASES = Path(__file__).parents[2].parent / "shared/cases/traces"

pytestmark = [
    pytest.mark.field,
    pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not in ../shared/cases/traces"),
]


def analysed(name: str) -> TraceAnalysis:
    run = read_one_run([CASES / name])
    return analyse_traces(run.traces, known=run.findings)


@pytest.mark.parametrize(
    ("name", "op"),
    [
        ("expert_dispatch_vendor_namespace", "all_to_all"),
        ("name_dpskep", "all_to_all"),
        ("name_flashvllm", "all_reduce"),
        ("name_nvshmem", "all_to_all"),
        ("name_oldnccl", "all_reduce"),
        ("name_onecclxpu", "all_reduce"),
        ("name_pplx", "all_to_all"),
        ("name_sym227", "all_reduce"),
        ("name_sym228", "all_reduce"),
        ("name_tebulk", "all_gather"),
        ("name_trtll", "all_reduce"),
        ("symmetric_kernel", "all_reduce"),
    ],
)
def test_kernels_of_every_library_communicate(name: str, op: str) -> None:
    found = analysed(name)
    assert {own.op for own in found.collectives} == {op}
    assert sum(own.transfer_exposed_ns + own.waiting_exposed_ns for own in found.budgets) > 0


def test_two_groups_of_one_size_are_two_rows() -> None:
    found = analysed("two_groups_one_size")
    assert {own.group: round(own.time_s * 1e6) for own in found.collectives} == {"mesh_tp": 450, "mesh_dp": 4800}
    assert {own.group for own in summarise_groups(found.groups)} == {"mesh_tp", "mesh_dp"}


def test_stages_of_a_pipeline_are_not_late() -> None:
    found = analysed("pipeline_2_stages")
    assert found.stragglers.rank is None
    assert [own.stage for own in found.stages] == [0, 1]


@pytest.mark.parametrize("name", ["late_by_turns_2r3s", "late_by_turns_2r6s"])
def test_nobody_is_late_by_chance(name: str) -> None:
    assert analysed(name).stragglers.kind != "constant"


def test_every_runtime_launches() -> None:
    found = analysed("launch_category_other")
    assert all(own.num_orphans == 0 for own in found.by_rank.values())
    assert not {own.name for own in found.findings} & {"orphans", "steps"}


def test_traces_eleven_days_apart_are_two_runs() -> None:
    runs = read_runs([CASES / "two_runs_one_folder"])
    assert [len(own.traces) for own in runs] == [1, 1]
    assert not any(own.corrected for run in runs for own in analyse_traces(run.traces).clocks.values())


def test_an_accelerator_that_is_not_understood_is_a_finding() -> None:
    (finding,) = [own for own in analysed("accelerator_unknown").findings if own.name == "not understood"]
    assert "3 events of category mtia_ccp_events" in finding.message


def test_another_tool_s_timeline_is_refused() -> None:
    with pytest.raises(BadInput, match=r"not of torch\.profiler"):
        read_runs([CASES / "foreign_timeline.json"])


def test_what_differs_in_set_up_is_noted() -> None:
    notes = "\n".join(compare_traces(analysed("against_before"), analysed("against_after")).notes)
    assert "the jobs have 8 and 2 ranks" in notes
    assert "GPU A before, GPU B after" in notes
