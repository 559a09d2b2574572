"""Why N ranks gain nothing, by the largest part of what they lose; `predict` and `advise` say the same."""

from pathlib import Path

from commprof.analysis.advice.advise import advise
from commprof.analysis.advice.predict import predict_runs
from commprof.analysis.advice.predict_text import _in_one, prediction_sheet
from commprof.analysis.advice.text import advice_sheet
from commprof.analysis.runs.load import load_runs
from commprof.analysis.step.reasons import clause
from commprof.analysis.step.results import Overhead
from commprof.commbench.display.sheet import Block, Words, plain_text
from tests.factory import step, timeline, write_bench_run, write_training_run

FOUR = Overhead(world_size=4, single_step_s=0.1, compute_s=0.02, waiting_s=0.005, exposed_s=0.01)


def test_the_largest_part_is_named_with_its_share_of_the_step() -> None:
    assert clause(FOUR, shared=False) == "computation that slows down side by side takes 20 ms of each 135 ms step"
    assert clause(FOUR, shared=True) == "its ranks share cores, which takes 20 ms of each 135 ms step"
    beyond = clause(FOUR, shared=True, beyond_s=0.065)
    assert beyond == "something that is not in the prediction takes 65 ms of each 200 ms step"


def strong(sheet: list[Block]) -> str:
    """Return the decision, which both begin with."""
    return next(block.text for block in sheet if isinstance(block, Words))


def test_predict_and_advise_say_why_not(tmp_path: Path) -> None:
    """Buckets of 4 MB on a wire of 10 MB/s: a step of a tenth of a second waits for them."""
    gradients = timeline([("head", 1_000_000, 0.02), ("embedding", 3_000_000, 0.06)], 0.06)
    profile = write_training_run(tmp_path / "profile", [step(i) for i in range(20)], gradients=gradients)
    runs = load_runs([profile, write_bench_run(tmp_path / "bench", 1e-3, 1e7)])
    told = strong(prediction_sheet(predict_runs(runs), (), runs))
    assert told.startswith("Stay with one rank. 2: no, ")
    assert "it adds nothing to one rank here, because communication that nothing hides takes " in told
    assert strong(advice_sheet(advise(runs), runs)) == told


def test_what_numbers_of_ranks_share_is_told_once(tmp_path: Path) -> None:
    """Neither 4 nor 8 ranks were benched or computed side by side: one sentence of each, with N for the number."""
    gradients = timeline([("head", 1_000_000, 0.02), ("embedding", 3_000_000, 0.06)], 0.06)
    profile = write_training_run(tmp_path / "profile", [step(i) for i in range(20)], gradients=gradients)
    runs = load_runs([profile, write_bench_run(tmp_path / "bench", 1e-3, 1e8)])
    told = " ".join(plain_text(prediction_sheet(predict_runs(runs, [4, 8]), (), runs, "Others ran.")).split())
    (shared,) = [part for part in told.split(" ranks assume: ") if "weak scaling" in part]
    assert "4/8 ranks assume: " in told and told.count("weak scaling") == 1
    assert "no bench on N ranks;" in shared and "--nproc N" in shared and "--nproc 4" not in told
    assert "by the form of a tree 25 MiB would take 33/43% less" in shared
    assert told.count("other processes disturbed these runs") == 1
    assert len(told.split()) < 450
    alone = plain_text(prediction_sheet(predict_runs(runs, [4]), (), runs))
    assert "4 ranks assume:" in alone and "no bench on 4 ranks;" in alone


def test_figures_that_differ_stand_in_the_order_of_the_numbers_of_ranks() -> None:
    notes = {n: f"{n} ranks take {times} times as long; --nproc {n} sends 4 MiB" for n, times in ((2, 1), (4, 2.5), (8, 1))}
    assert _in_one(notes) == "N ranks take 1/2.5/1 times as long; --nproc N sends 4 MiB"
    assert _in_one({4: "4 ranks do"}) == "4 ranks do"
