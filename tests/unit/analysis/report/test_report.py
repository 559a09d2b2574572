"""The report of synthetic runs whose every number is known: what each section says, and what is left out for want of data."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.report.numbers.data import gather
from commprof.analysis.report.numbers.wire_curves import wire_curves
from commprof.analysis.report.sections.build import write_report
from commprof.analysis.report.sections.predicted import bucket_section, prediction_section
from commprof.analysis.step.results import CheckedPrediction
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import create_run, read_document, write_document
from tests.report_runs import (
    AFTER,
    FORMULAS,
    STEPS_S,
    WORKLOAD,
    Page,
    add_bench,
    add_study,
    add_train,
    info,
    predictions,
    report,
)


def test_a_complete_study_answers_every_question(study_page: Page) -> None:
    assert study_page.sections == [
        "what-if",
        "pictures",
        "wire",
        "step",
        "buckets",
        "training",
        "prediction",
        "changes",
        "health",
        "environment",
        "files",
    ]
    assert "3.20x the samples per second of one rank, measured on 4 ranks" in study_page.text
    assert "Predicted before the run: 3.56x, 3.23x to 3.95x." in study_page.text
    assert "4 ranks: predicted 3.56x (3.23 to 3.95) the throughput of one, measured 3.20x" in study_page.text
    rests_on = study_page.text.partition("The verdict rests on 8 files ")[2]
    assert rests_on.startswith("profile-n1/steps.rank*.jsonl , bench-n2/collectives.jsonl ,")
    assert ", train-n4/steps.rank*.jsonl , analysis/predictions.json " in rests_on
    assert "Read with care" not in study_page.text
    assert len(study_page.of("svg")) == len(study_page.of("figure")) == 8
    assert "The loss hardly moves: profile-n1: 1.000 to 1.000" in study_page.text, "a flat line is no picture"
    assert "How far each model is off: bucket schedule on 2 ranks +10.0%" in study_page.text, "nor are eight dots"


def test_every_model_stands_beside_the_measurement_with_formula_and_error(study_page: Page) -> None:
    assert study_page.row("2 bucket schedule 121 ms", "109 to 133 ms 1.65x 83% 21 ms 110 ms +10.0%")
    assert study_page.row("2 ring 104 ms - 1.91x 96% 4.5 ms 110 ms -5.0%")
    assert study_page.row("4 bucket schedule 112 ms", "101 to 124 ms 3.56x 89% 12.5 ms 125 ms -10.0%")
    assert study_page.row("4 linear 100 ms - 4.00x 100% 0 us 125 ms -20.0%")
    for formula in FORMULAS.values():
        assert study_page.text.count(formula) == 1
    assert "Assumed for 4 ranks: copies are free." in study_page.text


def test_the_laws_give_break_even_and_karp_flatt(study_page: Page) -> None:
    assert study_page.row("4 400 ms 101 ms 80 ms 5 1.34 125 ms measured yes")
    assert "Karp-Flatt, 4 ranks: e = 0.083 is the serial fraction Amdahl's law would need for 3.20x." in study_page.text


def test_a_slowdown_does_not_pay(tmp_path: Path) -> None:
    root = add_study(tmp_path / "demo")
    add_train(root / "zz-n2", 2, 0.25, started_at=AFTER)
    section = prediction_section(gather([root]), predictions(2, 4))
    law = ("2", "200 ms", "101 ms", "40 ms", "5", "2.02", "250 ms measured", "no")
    assert section.tables[-1].rows[0] == law
    assert any("so no Amdahl fraction can describe this slowdown" in remark for remark in section.remarks)


def test_the_wire_the_step_and_the_buckets_are_told_in_numbers(study_page: Page) -> None:
    for start, busbw in (("2 1 ms", "1 GB/s"), ("4 1 ms", "1.5 GB/s")):
        intervals = r"[\w.]+ us to 1\.\d+ ms 1 GB/s 0\.\d+ to 1\.\d+ GB/s"
        assert re.search(f"{start} {intervals} {busbw} 976.6 KiB 0% 20 sound", study_page.text)
    assert "20 samples on 2 ranks" in study_page.text
    assert "it arrived last, so it waited for nobody" in study_page.text
    assert study_page.row("train-n4 4 ranks, synchronised 2.5 ms 37.5 ms 68.7 ms 10 ms 6.25 ms 125 ms 125 ms 32 -")
    assert study_page.row("2 2.815 MiB embedding.weight 80 ms 82 ms 88 ms 40 ms 42 ms 50 ms")
    assert study_page.row("4 close buckets at 4 MiB bucket_cap_mb=4 10.5 ms 3.90x -")


def test_a_wire_curve_is_the_fastest_ranks_median_with_its_spread(tmp_path: Path) -> None:
    (curve,) = wire_curves(gather([add_bench(tmp_path / "bench", 4, sizes=(1000, 9_000_000))]))
    assert curve.message_bytes == (1000, 9_000_000)
    assert curve.median_s == pytest.approx((1.001e-3, 10e-3))
    assert curve.low_s == pytest.approx((0.84 * 1.001e-3, 8.4e-3))
    assert curve.high_s == pytest.approx((1.16 * 1.001e-3, 11.6e-3))
    assert curve.num_samples == 10


def test_verification_holds_each_prediction_beside_the_measured_median(study_page: Page) -> None:
    checked = read_document(study_page.path.with_name("verification.json"), tuple[CheckedPrediction, ...])
    assert [(c.world_size, c.model, c.run_id) for c in checked[:2]] == [(2, "schedule", "train-n2"), (2, "ring", "train-n2")]
    assert [c.predicted_step_s for c in checked] == [s for n in (2, 4) for s in STEPS_S[n].values()]
    assert [c.measured_step_s for c in checked] == [0.11] * 4 + [0.125] * 4
    assert [c.relative_error for c in checked[:2]] == pytest.approx([0.1, -0.05])


def test_without_checking_runs_the_headline_is_the_prediction(tmp_path: Path) -> None:
    root = tmp_path / "demo"
    create_run(root, info("study", 2, ranks=()))
    add_train(root / "profile-n1", 1, 0.1)
    add_bench(root / "bench-n2", 2)
    write_document(root / "analysis" / "predictions.json", predictions(2))
    page = report(root)
    assert "1.65x the samples per second of one rank, predicted on 2 ranks 1.50x to 1.84x. No run has" in page.text
    assert not (root / "analysis" / "verification.json").exists()
    assert "figure-errors" not in page.values("id")


def test_a_prediction_made_for_the_report_says_that_it_came_late(tmp_path: Path) -> None:
    root = add_study(tmp_path / "demo")
    (root / "analysis" / "predictions.json").unlink()
    page = report(root)
    assert "prediction" in page.sections
    assert "which checks it, had started at" in page.text
    assert "Computed afterwards:" in page.text


def test_a_bench_alone_gives_the_wire_and_says_what_a_prediction_takes(tmp_path: Path) -> None:
    page = report(add_bench(tmp_path / "bench", 4))
    assert page.sections == ["wire", "health", "environment", "files"]
    assert (
        "bus bandwidth on 4 ranks, measured range of 5 samples: 1.12 to 1.68 GB/s. Best median of the sweep, at 8 MiB."
        in page.text
    )
    assert "it takes a finished training run on one rank and a bench" in page.text


def test_a_training_run_alone_gives_its_anatomy(tmp_path: Path) -> None:
    page = report(add_train(tmp_path / "train", 2, 0.11, buckets=True))
    assert page.sections == ["step", "buckets", "training", "environment", "files"]
    assert "110 ms per step on 2 ranks, measured 95 % interval of the median: 110 to 110 ms. Median of 16 steps." in page.text


def test_where_the_gradients_of_a_step_go_is_told_of_several_nodes_with_several_ranks_each(tmp_path: Path) -> None:
    """4 ranks in blocks on 2 nodes: each hop carries 1.5 times 3.8 MiB; one stays inside a node, one leaves it."""
    root = tmp_path / "demo"
    create_run(root, info("study", 4, ranks=()))
    add_bench(root / "bench-n4", 4)
    add_train(root / "train-n4", 4, 0.11, buckets=True, num_nodes=2)
    page = report(root)
    assert "Where the gradients of a step go" in page.text
    assert page.row("4 2 3.815 MiB 5.722 MiB 5.722 MiB 11.44 MiB")
    assert "Where the gradients of a step go, 4 ranks on 2 nodes" in page.text
    told = "A ring over 4 ranks on 2 nodes takes 3.815 MiB of gradients: 5.722 MiB move inside a node, 5.722 MiB leave"
    assert any(label.startswith(told) for label in page.values("aria-label"))


def test_a_run_that_has_measured_nothing_yet_still_gives_a_page(tmp_path: Path) -> None:
    page = report(add_train(tmp_path / "new", 1, 0.1, count=0, status="running"))
    assert page.sections == ["environment", "files"]
    assert "new is still running" in page.text


def test_a_bench_that_cannot_be_fitted_is_drawn_and_explained(tmp_path: Path) -> None:
    page = report(add_bench(tmp_path / "bench", 2, sizes=(1024,)))
    assert "No line fits the wire on 2 ranks:" in page.text
    assert "sweep two or more sizes" in page.text
    assert "Fit: time" not in page.text
    assert len(page.of("svg")) == 2


def test_other_buckets_than_planned_are_pointed_out(tmp_path: Path) -> None:
    root = add_study(tmp_path / "demo")
    planned = predictions(2, 4)
    fewer = tuple(replace(step, buckets=step.buckets[:1]) for step in planned.schedules)
    write_document(root / "analysis" / "predictions.json", replace(planned, schedules=fewer))
    section = bucket_section(gather([root]))
    assert section is not None
    assert section.remarks[-1].startswith("On 4 ranks DDP made 2 buckets where the schedule has 1")
    assert section.tables[-1].rows[-1] == ("2", "2.815 MiB", "-", "-", "-", "-", "40 ms", "42 ms", "50 ms")


def test_runs_of_different_workloads_are_refused(tmp_path: Path) -> None:
    left = add_train(tmp_path / "left", 1, 0.1)
    right = add_train(tmp_path / "right", 1, 0.1, workload=replace(WORKLOAD, num_parameters=5))
    with pytest.raises(BadInput, match="num_parameters"):
        write_report([left, right], None)
