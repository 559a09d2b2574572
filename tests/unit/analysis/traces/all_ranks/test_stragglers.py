"""Who is late: named where chance cannot explain it, and nobody where it can, or where the profiler has its hand in."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commprof.analysis.traces.all_ranks.chance import ENOUGH_STEPS, MIN_STEPS, chance, fewest_steps
from commprof.analysis.traces.all_ranks.stragglers import StepStraggler, Stragglers, judge_steps
from commprof.cli import main
from tests.report_runs import add_train
from tests.traces import event, gloo_all_reduce, header, profiler_step, write_trace
from tests.unit.analysis.traces.all_ranks.test_ranks import gloo_traces

TRIES = 2000
RANKS = (2, 3, 4, 5, 6, 8, 12, 16, 32, 64)
STEP_S = 1.0


def judged(ranks: list[int]) -> Stragglers:
    steps = [StepStraggler(step=step, rank=rank, cost_s=0.1, counts=True) for step, rank in enumerate(ranks)]
    return judge_steps(steps, num_ranks=2)


@pytest.mark.parametrize("num_ranks", RANKS)
def test_at_most_one_random_order_in_a_hundred_names_a_rank(num_ranks: int) -> None:
    """A verdict on drawn ranks rests on how often the most frequent one is drawn: counted for all tries at once."""
    random = np.random.default_rng(num_ranks)
    for num_steps in range(3, 51):
        most = random.multinomial(num_steps, [1 / num_ranks] * num_ranks, size=TRIES).max(axis=1)
        named = {int(own): is_named(int(own), num_steps, num_ranks) for own in np.unique(most)}
        share = sum(named[int(own)] for own in most) / TRIES
        assert share <= 0.01 + 3 * np.sqrt(0.01 / TRIES), num_steps


def is_named(times: int, num_steps: int, num_ranks: int) -> bool:
    others = [1 + index % (num_ranks - 1) for index in range(num_steps - times)]
    steps = [StepStraggler(step=step, rank=rank, cost_s=0.1, counts=True) for step, rank in enumerate([0] * times + others)]
    return judge_steps(steps, num_ranks=num_ranks).kind == "constant"


@pytest.mark.parametrize("num_ranks", RANKS)
def test_a_constant_straggler_of_2_percent_is_found_in_12_steps(num_ranks: int) -> None:
    """Ranks arrive as a normal distribution of 0.5 % of the step has it, the last of them 2 % later."""
    tries = 200
    random = np.random.default_rng(num_ranks)
    arrivals = random.normal(0, 0.005 * STEP_S, (tries, ENOUGH_STEPS, num_ranks))
    arrivals[..., -1] += 0.02 * STEP_S
    last = arrivals.argmax(axis=2)
    ordered = np.sort(arrivals, axis=2)
    costs = ordered[..., -1] - np.median(ordered[..., :-1], axis=2)
    found = 0
    for ranks, costs_s in zip(last.tolist(), costs.tolist(), strict=True):
        steps = [
            StepStraggler(step=step, rank=rank, cost_s=cost_s, counts=cost_s > 0.01 * STEP_S)
            for step, (rank, cost_s) in enumerate(zip(ranks, costs_s, strict=True))
        ]
        verdict = judge_steps(steps, num_ranks=num_ranks)
        found += (verdict.kind, verdict.rank) == ("constant", num_ranks - 1)
    assert found >= 0.95 * tries


def test_the_chance_is_the_binomial_one_times_ranks() -> None:
    assert chance(8, 8, 2) == 2 / 2**8
    assert chance(11, 12, 2) == 2 * 13 / 2**12
    assert chance(2, 3, 2) == 1.0
    assert chance(1, 3, 64) == 1.0
    assert [fewest_steps(own) for own in (2, 3, 4, 64)] == [8, 6, 6, 6]
    assert all(fewest_steps(own) <= ENOUGH_STEPS for own in range(2, 65))


@pytest.mark.parametrize(
    ("ranks", "kind"),
    [
        ([0, 1, 0], "unknown"),
        ([1, 1, 1], "unknown"),
        ([1, 1, 0, 1, 0, 1], "changing"),
        ([1] * 7, "unknown"),
        ([1] * 8, "constant"),
        ([1] * 11 + [0], "constant"),
        ([1] * 10 + [0] * 2, "unknown"),
        ([0, 1] * 6, "changing"),
    ],
)
def test_two_ranks(ranks: list[int], kind: str) -> None:
    assert judged(ranks).kind == kind


def test_the_verdict_says_what_it_rests_on_and_what_it_would_take() -> None:
    late, few = judged([1] * 12), judged([1] * 5)
    assert late.message == (
        "rank 1 is late: it arrived last in 12 of 12 steps, it cost the others 100 ms a step; by chance alone some rank of 2 "
        "is named so often in 0.05% of traces"
    )
    assert "that takes 8 undisturbed steps at least on 2 ranks (at most 1 false alarm in 100)" in few.message
    assert f"profiling.trace_steps={ENOUGH_STEPS}" in few.message
    assert few.num_judged == 5 < MIN_STEPS


def test_disturbed_steps_judge_nobody(tmp_path: Path) -> None:
    """Rank 1 is late in eight steps of 180 us; two of 2 ms, in which rank 0 is, count for nothing."""
    found = gloo_traces(tmp_path, [[0, 30]] * 4 + [[1850, 0]] * 2 + [[0, 30]] * 4).stragglers
    assert (found.kind, found.rank, found.num_steps, found.num_judged) == ("constant", 1, 8, 8)
    assert found.message.endswith("; 2 more, over 20% longer than an undisturbed one, judge nobody")
    assert [own.disturbed for own in found.steps] == [False] * 4 + [True] * 2 + [False] * 4


@pytest.mark.parametrize(("untraced_s", "kind"), [(0.1, "unknown"), (0.17, "constant")])
def test_what_the_profiler_stretches_is_no_evidence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], untraced_s: float, kind: str
) -> None:
    """Rank 1 is 30 ms late in each traced step of 180 ms; the run's own records say how long one is without the profiler."""
    run = add_train(tmp_path / "train", 2, untraced_s)
    for rank in range(2):
        events = []
        for base in range(12):
            start, arrival = base * 1e6, base * 1e6 + 100e3 + 30e3 * rank
            events += [
                profiler_step(base, start, start + 180e3),
                event("cpu_op", "aten::mm", start, start + 100e3),
                gloo_all_reduce(arrival, start + 180e3),
            ]
        write_trace(run / "traces" / f"rank{rank:05d}.trace.json.gz", events, header(rank, 2, host_name="a"))
    assert main(["trace", "--reduce", str(run), "--out", str(run / "reduced")]) == 0
    capsys.readouterr()
    found, reduced = (straggler(folder, capsys) for folder in (run, run / "reduced"))
    assert found == reduced
    assert found["kind"] == kind
    if kind == "unknown":
        assert "to 180 ms where an undisturbed one takes 100 ms, and judge nobody" in found["message"]


def straggler(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["trace", str(folder), "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out)["stragglers"])
