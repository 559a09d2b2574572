"""`commprof trace AFTER --against BEFORE`: a known change is found in its part, noise is called noise, and refusals."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from commprof.analysis.runs.interval import Interval
from commprof.analysis.traces.all_ranks.job import analyse_traces
from commprof.analysis.traces.one_rank.files import find_traces
from commprof.analysis.traces.one_rank.kineto import read_trace
from commprof.analysis.traces.one_rank.rank_trace import reduce_trace
from commprof.analysis.traces.sets.comparison import TraceComparison, compare_traces
from commprof.cli import main
from commprof.commbench.errors import BadInput
from tests.traces import event, gloo_all_reduce, header, kernel, profiler_step, write_trace
from tests.unit.analysis.traces.all_ranks.test_budget import RANK_0, RANK_1

JITTER_US = (0, 6, 1, 5, 2, 4, 3)
STEP_US = 1000


def trained(computing_us: Sequence[float], late_us: float = 0, elements: int = 1000) -> list[dict[str, Any]]:
    """One rank's steps: this long an operator, then 100 us of all-reduce, then 50 us of nothing; a late rank pauses first."""
    events = []
    for step, compute_us in enumerate(computing_us):
        start = step * STEP_US
        begin, ready = start + late_us, start + late_us + compute_us
        events += [
            profiler_step(step + 4, start, start + 350 + compute_us),
            event("cpu_op", "aten::mm", begin, ready),
            gloo_all_reduce(ready, start + 300 + compute_us, elements),
        ]
    return events


def add_set(folder: Path, computing_us: Sequence[float], num_ranks: int = 2, **changes: Any) -> Path:  # noqa: ANN401
    for rank in range(num_ranks):
        fields = header(rank, 2, host_name="a")
        write_trace(folder / f"rank{rank}.json", trained([us + 2 * rank for us in computing_us], **changes), fields)
    return folder


def compared(after: Path, before: Path) -> TraceComparison:
    analyses = [
        analyse_traces([reduce_trace(read_trace(path)) for path in find_traces([folder])]) for folder in (before, after)
    ]
    return compare_traces(*analyses)


def judged(comparison: TraceComparison) -> dict[str, str]:
    return {own.part: own.judgement for own in comparison.differences}


def test_a_changed_part_is_found_and_noise_is_called_noise(tmp_path: Path) -> None:
    """Computation takes 100 to 106 us before, 130 to 136 after, rank 1's 2 us more: means 101 to 107 and 131 to 137."""
    before = add_set(tmp_path / "before", [100 + us for us in JITTER_US])
    after = add_set(tmp_path / "after", [130 + us for us in JITTER_US[::-1]], elements=2000)
    found = compared(after, before)
    step, compute, *others = found.differences
    assert (compute.part, compute.judgement) == ("compute", "longer")
    assert (compute.before_s, compute.after_s, compute.difference_s) == (104e-6, 134e-6, 30e-6)
    assert compute.interval_s == Interval(low=24e-6, high=36e-6)
    assert (step.part, step.difference_s, step.judgement) == ("step", 30e-6, "longer")
    assert {own.judgement for own in others} == {"noise"}
    assert (found.before.num_ranks, found.before.steps) == (2, (4, 5, 6, 7, 8, 9, 10))
    sizes = [(own.message_bytes, own.before is None, own.after is None) for own in found.collectives]
    assert sizes == [(4000, False, True), (8000, True, False)]
    back = judged(compared(before, after))
    assert back["compute"] == back["step"] == "shorter"


def test_noise_alone_is_no_change(tmp_path: Path) -> None:
    before = add_set(tmp_path / "before", [100 + us for us in JITTER_US])
    after = add_set(tmp_path / "after", [102 + us for us in JITTER_US])
    assert set(judged(compared(after, before)).values()) == {"noise"}


def test_the_table_says_which_is_which_in_80_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = add_set(tmp_path / "before", [100 + us for us in JITTER_US])
    after = add_set(tmp_path / "after\x1b[31m", [130 + us for us in JITTER_US])
    assert main(["trace", str(after), "--against", *map(str, sorted(before.iterdir()))]) == 0
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "\x1b" not in out
    assert "before:" in out.splitlines()[0]
    assert "and 1 more (2 of 2" in out
    assert "compute                 104 us   134 us    +30 us    +24 us    +36 us longer" in out
    assert "memory" not in out


def test_one_json_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = (add_set(tmp_path / name, [100] * 6, num_ranks=1) for name in ("before", "after"))
    assert main(["trace", str(after), "--against", str(before), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["before"]["paths"], document["after"]["num_ranks"]) == ([str(before)], 1)
    interval = {"low": 0.0, "high": 0.0}
    assert (
        document["differences"][1] | {"part": "compute", "before_s": 1e-4, "interval_s": interval} == document["differences"][1]
    )


def test_what_cannot_be_told_is_not_judged(tmp_path: Path) -> None:
    """One rank of two cannot tell waiting; five steps have no 95 % interval; two ranks are no one rank."""
    before = add_set(tmp_path / "before", [100] * 5, num_ranks=1)
    found = compared(add_set(tmp_path / "after", [100] * 5, late_us=20), before)
    parts = ["step", "compute", "communication_hidden", "communication_exposed", "memory", "launch_idle", "other"]
    assert judged(found) == dict.fromkeys(parts, "unknown")
    said = "\n".join(found.notes)
    assert all(
        words in said
        for words in (
            "5 steps before and 5 after",
            "traced are rank 0 before and 2 ranks: 0, 1 after",
            "cannot tell",
            "findings: 1",
        )
    )


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ((RANK_0, RANK_1), "one set has GPU work and the other has none"),
        ((trained([100] * 2)[1:3],) * 2, "marks no steps"),
        ((trained([100]), trained([100] * 2)[3:]), "has no step that all its ranks have"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(tmp_path: Path, events: Sequence[list[dict[str, Any]]], message: str) -> None:
    for rank, own in enumerate(events):
        write_trace(tmp_path / "before" / f"rank{rank}.json", own, header(rank, 2))
    after = add_set(tmp_path / "after", [100] * 2)
    with pytest.raises(BadInput, match=message):
        compared(after, tmp_path / "before")


def test_tables_are_of_one_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(add_set(tmp_path / "one", [100]))
    assert main(["trace", folder, "--against", folder, "--csv", str(tmp_path / "tables")]) == 2
    assert "drop them, or --against" in capsys.readouterr().err


def test_every_difference_of_set_up_is_noted_before_anything_is_judged(tmp_path: Path) -> None:
    """Jobs of 8 ranks on one accelerator and of 2 on another, rank 1 of each traced."""
    paths = []
    for when, world_size, device in (("before", 8, "GPU A"), ("after", 2, "GPU B")):
        fields = header(1, world_size, deviceProperties=[{"name": device}])
        events = [profiler_step(step, 100 * step, 100 * step + 100) for step in range(8)]
        events += [
            own
            for step in range(8)
            for own in kernel("gemm", 100 * step, 100 * step + 90, launched_us=100 * step, correlation=step)
        ]
        paths.append(write_trace(tmp_path / when / "rank1.json", events, fields))
    before, after = (analyse_traces([reduce_trace(read_trace(path))]) for path in paths)
    notes = "\n".join(compare_traces(before, after).notes)
    assert "the jobs have 8 and 2 ranks, before and after" in notes
    assert "the accelerators differ: GPU A before, GPU B after" in notes
    assert "traced are" not in notes


def test_kinds_of_kernels_are_compared_and_not_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """GEMMs of 200 us become ones of 150, sums of 40 us go, and copies of 10 us come."""
    sets = {"before": (("sgemm", 200), ("reduce_kernel", 40)), "after": (("sgemm", 150), ("CatArrayBatchedCopy", 10))}
    for name, work in sets.items():
        events = []
        for step in range(7):
            at = step * STEP_US
            events += [profiler_step(step, at, at + 900)]
            for number, (kind, length) in enumerate(work):
                begin = at + 300 * number + 10
                events += kernel(kind, begin, begin + length, launched_us=at + number, correlation=10 * step + number)
        write_trace(tmp_path / name / "0.json", events, header(0, 1))
    found = compared(tmp_path / "after", tmp_path / "before")
    assert {own.kind: (own.before_s, own.after_s, own.difference_s) for own in found.kernels} == {
        "gemm": pytest.approx((200e-6, 150e-6, -50e-6)),
        "reduction": pytest.approx((40e-6, 0, -40e-6)),
        "memory": pytest.approx((0, 10e-6, 10e-6)),
    }
    assert main(["trace", str(tmp_path / "after"), "--against", str(tmp_path / "before")]) == 0
    out = capsys.readouterr().out
    assert "kernels by kind: durations added up, not judged" in out and "-50 us" in out
