"""Training, health and ceilings in the report: throughput, loss, accuracy, the verdicts of check, what links could carry."""

from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.report.figures.learning import thinned
from commprof.analysis.report.numbers.data import gather
from commprof.analysis.report.numbers.wire_curves import wire_curves
from commprof.analysis.report.sections.health import health_section
from commprof.analysis.report.sections.training import training_section
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import RecordWriter, write_document, write_text
from commprof.commbench.records.training import EvaluationMeasurement, TrainingSummary
from tests.drawn import only, points
from tests.factory import collective, write_measurements
from tests.report_runs import WORKLOAD, add_bench, add_train

SUMMARY = TrainingSummary(
    num_steps=8,
    step_s=0.1,
    samples_per_step=64,
    tokens_per_sample=128,
    flops_per_token=1e9,
    peak_flops_per_s=4 * 64 / 0.1 * 128 * 1e9,
    peak_memory_bytes=(2**20, 3 * 2**20),
    memory_kind="allocated",
)


def evaluate(run: Path, *accuracies: float) -> Path:
    with RecordWriter(run / "evaluations.jsonl") as writer:
        for epoch, accuracy in enumerate(accuracies, 1):
            writer.append(
                EvaluationMeasurement(step=4 * epoch, epoch=epoch, loss=0.5, accuracy=accuracy, num_samples=7600, elapsed_s=9.0)
            )
    return run


def test_throughput_memory_and_utilisation(tmp_path: Path) -> None:
    """2 ranks, 32 samples each in 0.1 s: 640 samples/s, of 128 tokens 81,920; a quarter of the peak."""
    run = evaluate(add_train(tmp_path / "train", 2, 0.1), 0.5, 0.8125)
    write_document(run / "training.json", SUMMARY)
    section = training_section(gather([run, add_train(tmp_path / "alone", 1, 0.1)]))
    assert section is not None
    told = {row[0]: [getattr(cell, "value", cell) for cell in row] for row in section.tables[0].rows}
    assert told["train"] == ["train", "2", "16", "640", "81,920", "3 MiB allocated", "25.0%", "1.000", "0.8125"]
    assert told["alone"][-4:] == ["-", "-", "1.000", "-"]
    loss, accuracy = section.pictures
    assert points(only(accuracy.figure), "2 ranks") == [[4, 8], [0.5, 0.8125]]
    assert "7600 samples" in accuracy.caption and accuracy.sources == ("train/evaluations.jsonl",)
    assert "alone 9 steps, train 9 steps" in loss.caption


def test_a_long_loss_is_thinned_to_means_over_stretches() -> None:
    assert thinned([(1, 4.0), (2, 2.0), (3, 1.0), (4, 0.0)], 2) == [(2, 3.0), (4, 0.5)]
    assert thinned([(1, 4.0)], 2) == [(1, 4.0)]


def test_runs_that_share_nothing_are_no_training(tmp_path: Path) -> None:
    alone = add_train(tmp_path / "compute", 2, 0.1, workload=replace(WORKLOAD, synchronised=False))
    assert training_section(gather([alone])) is None


def test_a_summary_without_time_is_refused_by_name(tmp_path: Path) -> None:
    run = add_train(tmp_path / "train", 1, 0.1)
    write_document(run / "training.json", replace(SUMMARY, step_s=0.0))
    with pytest.raises(BadInput, match=r"training\.json is not a valid TrainingSummary.*step_s"):
        training_section(gather([run]))


def test_health_is_what_check_says_failures_first(tmp_path: Path) -> None:
    steady = [collective(2**k, [1e-5 * 2 ** (k - 9)] * 8) for k in range(10, 16)]
    wrong = [replace(steady[0], num_wrong=5), *steady[1:]]
    runs = [write_measurements(tmp_path / "good", steady), write_measurements(tmp_path / "bad", wrong)]
    section = health_section(gather(runs))
    assert section is not None
    assert section.sentences == ("The rules of commprof check fail 1 of the 2 runs that measured a wire: bad.",)
    assert section.tables[0].rows[0][:3] == ("bad", "results", "fails")
    assert "5 elements" in str(section.tables[0].rows[0][3])
    assert {row[2] for row in section.tables[0].rows} <= {"fails", "note"}
    assert section.tables[1].folded and {row[2] for row in section.tables[1].rows} == {"passes", "not judged"}


def test_a_run_that_cannot_be_judged_is_a_sentence(tmp_path: Path) -> None:
    odd = write_measurements(tmp_path / "odd", [collective(1024, [1e-3, 1e-3])])
    write_text(odd / "environment.json", "{}")
    section = health_section(gather([odd]))
    assert section is not None
    assert section.remarks[0].startswith("odd could not be judged:")


def test_an_emulated_line_is_the_ceiling_and_shared_memory_has_none(tmp_path: Path) -> None:
    """8 Gbit/s are 1 GB/s; a ring of 4 reaches busbw = line rate: the bench's 1.34 GB/s would be 134 %."""
    (curve,) = wire_curves(gather([add_bench(tmp_path / "line", 4, wire="8gbit", num_nodes=4)]))
    assert curve.ceiling is not None
    assert curve.ceiling.busbw_bytes_per_s == pytest.approx(1e9)
    (curve,) = wire_curves(gather([add_bench(tmp_path / "here", 4)]))
    assert curve.ceiling is not None and curve.ceiling.busbw_bytes_per_s is None
    assert curve.ceiling.reason == "the run does not say what its links are"
