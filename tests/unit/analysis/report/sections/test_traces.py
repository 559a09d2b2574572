"""The report's section on traces: hand-written ones whose budgets are known, ones that say nothing, and hostile names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape

from commprof.analysis.report.figures.traces import budget_figure, collective_figure
from commprof.analysis.report.numbers.wire_curves import WireCurve
from commprof.analysis.report.sections.build import write_report
from commprof.analysis.traces.all_ranks.budget import StepBudget
from commprof.analysis.traces.one_rank.files import reduce_all
from commprof.analysis.traces.sets import traced_runs
from tests.drawn import bars, legend, only, points
from tests.report_runs import EVERY_PAGE, HOSTILE, OWN_SCRIPTS, SHOWN, Page, add_bench, add_train, report
from tests.traces import all_reduce, event, gloo_all_reduce, header, profiler_step, write_trace
from tests.unit.analysis.traces.all_ranks.test_budget import RANK_0, RANK_1


def add_traced(path: Path, *ranks: Sequence[dict[str, Any]], suffix: str = "") -> Path:
    run = path if path.exists() else add_train(path, len(ranks), 0.1)
    for rank, events in enumerate(ranks):
        write_trace(run / "traces" / f"rank{rank:05d}{suffix}.trace.json.gz", events, header(rank, len(ranks), host_name="a"))
    return run


def test_the_section_holds_what_the_trace_says_with_its_files(tmp_path: Path) -> None:
    run = add_traced(tmp_path / "train", RANK_0, RANK_1)
    page = report(run, add_bench(tmp_path / "bench", 2), add_bench(tmp_path / "bench4", 4))
    assert page.sections == ["wire", "step", "traces", "training", "health", "environment", "files"]
    assert "train: of the time in matched collectives 23.1% is waiting for the last rank, 76.9% transfer." in page.text
    assert "train: rank 1 arrived last in 1 of 1 steps" in page.text
    assert page.row("train 0 60 us 33.3% 8.3% 12.5% 8.3% 4.2% 4.2% 25.0% 4.2% rank00000.trace.json.gz")
    assert page.row("train all_reduce 3.815 MiB 2 1 32.5 us 25 us 23% 160 GB/s")
    assert "Bench: the all-reduce alone, medians and 10th to 90th percentile, 20 samples on 2 ranks." in page.text
    captions = [part.split("</figcaption>")[0] for part in page.source.split("<figcaption>")]
    budget, collectives = (own for own in captions if "train/traces/rank00001.trace.json.gz" in own)
    assert "2 traced steps of 2 of 2 ranks" in budget
    assert "bench/collectives.jsonl" in collectives
    assert "bench4" not in collectives


@pytest.mark.parametrize("untraced_s", [100e-6, 175e-6])
def test_nobody_is_late_in_steps_that_the_profiler_stretched(tmp_path: Path, untraced_s: float) -> None:
    """Rank 1 is 30 us late in each of twelve traced steps of 180 us; untraced ones take 100 or 175 us."""
    run = add_train(tmp_path / "train", 2, untraced_s)
    for rank in range(2):
        events = [
            own
            for base in range(0, 12_000, 1000)
            for own in (
                profiler_step(base // 1000, base, base + 180),
                event("cpu_op", "aten::mm", base, base + 100),
                gloo_all_reduce(base + 100 + 30 * rank, base + 180),
            )
        ]
        write_trace(run / "traces" / f"rank{rank:05d}.trace.json.gz", events, header(rank, 2, host_name="a"))
    page = report(run)
    stretched = untraced_s < 150e-6
    assert ("rank 1 is late" in page.text) != stretched
    assert ("train: its traced steps take 180 us, 80% longer than the 100 us of its steps without" in page.text) == stretched
    assert ("who is late cannot be told: 12 of 12 traced steps are stretched by over 20%" in page.text) == stretched


def test_reduced_traces_stand_in_for_raw_ones_that_are_gone(tmp_path: Path) -> None:
    run = add_traced(tmp_path / "train", RANK_0, RANK_1)
    raw = sorted((run / "traces").iterdir())
    reduce_all({path: run / "reduced" / f"rank{rank:05d}.reduced.gz" for rank, path in enumerate(raw)})
    for path in raw:
        path.unlink()
    page = report(run)
    assert "2 traced steps of 2 of 2 ranks" in page.text
    assert page.row("train 0 60 us 33.3% 8.3% 12.5% 8.3% 4.2% 4.2% 25.0% 4.2% rank00000.reduced.gz")
    assert "train/reduced/rank00001.reduced.gz" in page.text
    assert page.files.count("../reduced/rank00000.reduced.gz") == 2  # beside the budget and among the files


def budget(rank: int, step: int, **parts_ns: int) -> StepBudget:
    known = {f"{part}_ns": 0 for part in ("memory", "launch_idle", "waiting_hidden", "transfer_hidden")} | parts_ns
    return StepBudget(rank=rank, step=step, wall_ns=sum(known.values()), **known)


def test_bars_end_at_the_steps_wall_time() -> None:
    parts = {"compute_ns": 3_000_000, "transfer_exposed_ns": 2_000_000, "waiting_exposed_ns": 0, "other_ns": 1_000_000}
    late = parts | {"waiting_exposed_ns": 4_000_000}
    figure = budget_figure([budget(0, 7, **parts), budget(1, 7, **late), budget(0, -1, **parts)])
    axes = only(figure)
    assert bars(axes, "compute") == [(0, 3), (0, 3), (0, 3)]
    assert bars(axes, "waiting exposed") == [(5, 0), (5, 4), (5, 0)]
    assert bars(axes, "other") == [(5, 1), (9, 1), (5, 1)]
    assert axes.get_xlabel() == "wall time of the step (ms)"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["step 7, rank 0", "rank 1", "whole trace, rank 0"]
    assert legend(figure) == ["compute", "transfer exposed", "waiting exposed", "other"]


def test_the_benchs_curve_stands_beside_as_many_ranks_only() -> None:
    curve = WireCurve(
        world_size=2,
        message_bytes=(1000, 2000),
        median_s=(1e-3, 1e-3),
        low_s=(1e-3,) * 2,
        high_s=(2e-3,) * 2,
        num_samples=9,
        cost=None,
    )
    figure = collective_figure(
        {("all_reduce", 2): [(1500, 3e6)], ("all_gather", 2): [(64, 1e6)], ("all_reduce", 4): [(9, 2e6)]}, [curve]
    )
    axes = only(figure)
    assert points(axes, "traced: all_reduce, 2 ranks") == [[1500], [3e6]]
    assert points(axes, "bench: all_reduce, 2 ranks") == [[1000, 2000], pytest.approx([1e6, 2e6])]
    assert len(legend(figure)) == 4
    assert axes.get_ylim()[0] <= 0.5e6


def test_what_cannot_be_read_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = add_traced(tmp_path / "good", RANK_0, RANK_1)
    add_traced(good, RANK_0, RANK_1, suffix="x")
    broken = add_traced(tmp_path / "broken", RANK_0)
    (broken / "traces" / "rank00000.trace.json.gz").write_bytes(b"nothing of the kind")
    wide = add_traced(tmp_path / "wide", *[RANK_1] * 9)
    cpu = add_traced(tmp_path / "cpu", [event("cpu_op", "aten::mm", 1, 8)])
    monkeypatch.setattr(traced_runs, "_MAX_RUNS", 4)
    more = add_traced(tmp_path / "more", RANK_0)
    page = report(good, broken, wide, cpu, more)
    assert "good: 2 traces of other windows were not read" in page.text
    assert "broken: its traces say nothing:" in page.text and "is not JSON" in page.text
    assert "wide: its traces of 9 ranks and 0 MB are more than a report reads (8 ranks, 200 MB)" in page.text
    assert "The traces of 1 more runs were not read" in page.text
    assert "cpu: rank 0: it marks no steps" in page.text and "neither GPU work nor" not in page.text
    assert len([name for name in page.values("id") if name.startswith("figure-budget")]) == 1


def test_long_runs_show_their_last_steps(tmp_path: Path) -> None:
    events = [
        own
        for step in range(40)
        for own in (profiler_step(step, 10 * step, 10 * step + 9), gloo_all_reduce(10 * step, 10 * step + 5))
    ]
    page = report(add_traced(tmp_path / "train", events, events))
    assert "12 traced steps of 2 of 2 ranks" in page.text
    assert "The last 12 of 40; commprof trace --csv has all." in page.text
    assert "step 28, rank 0" in page.source and "step 27, rank 0" not in page.source


def test_names_from_traces_are_only_ever_text(tmp_path: Path) -> None:
    """Hosts, groups, collectives, kernels and files with markup in their names; the findings name the files."""
    group = {"Process Group Name": HOSTILE, "Collective name": HOSTILE, "dtype": HOSTILE}
    events = [
        profiler_step(1, 0, 100),
        *all_reduce(30, 70, launched_us=20, correlation=3, **group),
        event("kernel", f"nccl{HOSTILE}AllReduce", 75, 80, stream=7, correlation=9),
        event("cpu_op", HOSTILE, 1, 2),
    ]
    run = add_train(tmp_path / HOSTILE.replace("/", "|"), 2, 0.1)
    fields = {**header(None), "distributedInfo": {"backend": HOSTILE}, "host_name": HOSTILE, "deviceProperties": HOSTILE}
    name = HOSTILE.replace("/", "|")
    write_trace(run / "traces" / f"{name}rank1.json", events, fields)
    write_trace(run / "traces" / f"{name}rank0.json", events, fields)
    page = Page(write_report([run], tmp_path / "page.html").page)
    assert "traces" in page.sections
    told = page.source.split('id="traces"')[1].split("</section>")[0]
    assert "names no rank; 1 is taken from" in told
    assert told.count(str(escape(SHOWN.replace("/", "|")))) > 3
    assert "img" not in {tag for tag, _ in page.elements}
    assert page.of("script") in (EVERY_PAGE, OWN_SCRIPTS)
    assert not [attribute for _, attributes in page.elements for attribute in attributes if attribute.startswith("on")]
    assert "\x1b" not in page.source and "\u202e" not in page.source
