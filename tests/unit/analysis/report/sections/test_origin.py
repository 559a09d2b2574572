"""Where a report's numbers come from: what a reader is warned of, the environment, and every file with a link."""

import os
from dataclasses import replace
from pathlib import Path

from commprof.analysis.report.numbers.data import gather
from commprof.analysis.report.numbers.weakening import warnings
from commprof.analysis.report.sections.origin import environment_section
from commprof.commbench.records.rundir import write_document
from commprof.commbench.records.training_kind import TrainingKind
from tests.report_runs import AFTER, WORKLOAD, add_bench, add_study, add_train, info, predictions, report


def test_emulated_hosts_are_called_so(tmp_path: Path) -> None:
    add_bench(tmp_path / "bench-n2", 2, wire="1gbit")
    add_train(tmp_path / "compute-n2", 2, 0.1, workload=replace(WORKLOAD, synchronised=False), wire="1gbit")
    (said,) = [words for words in warnings(gather([tmp_path / "bench-n2", tmp_path / "compute-n2"])) if "emulated" in words]
    assert said == (
        "The hosts are emulated: they share the 4 cores of one machine. How long 2 ranks compute side by side was measured, "
        "with nothing sent."
    )


def test_the_environment_is_told_once_and_differences_name_their_runs(tmp_path: Path) -> None:
    facts, _ = environment_section(gather([add_study(tmp_path / "demo", launcher="slurm")])).tables
    told = dict(facts.rows)
    assert told["Launcher"] == ("torchrun (profile-n1, bench-n2, compute-n2, train-n2); slurm (bench-n4, compute-n4, train-n4)")
    assert told["Scaling"] == "weak: 32 samples per rank and step at every world size"
    assert told["Hosts"] == "1 with 4 cores each"
    expected = {"Backend": "gloo", "Threads per rank": "1", "Devices": "node-a: EPYC", "Git commit": "abc123"}
    expected |= {"python": "3.11.9", "torch": "2.9.0", "OMP_NUM_THREADS": "1"}
    assert expected.items() <= told.items()


def test_buckets_are_told_of_what_has_them(tmp_path: Path) -> None:
    """A sharded training has units."""
    kinds: tuple[TrainingKind, ...] = ("ddp", "fsdp2")
    told = {}
    for kind in kinds:
        folder = add_train(tmp_path / kind, 1, 0.1, workload=replace(WORKLOAD, kind=kind))
        facts, _ = environment_section(gather([folder])).tables
        told[kind] = "Buckets close at" in dict(facts.rows)
    assert told == {"ddp": True, "fsdp2": False}


def test_every_file_is_linked_from_where_the_page_lies(tmp_path: Path) -> None:
    root = add_study(tmp_path / "demo")
    out = tmp_path / "elsewhere" / "page.html"
    page = report(root, out=out)
    linked = {(out.parent / name).resolve() for name in page.files}
    assert linked == {path for path in root.rglob("*") if path.is_file()}
    assert "ui.perfetto.dev" in page.text


def test_a_run_in_progress_and_a_failed_one_are_flagged(tmp_path: Path) -> None:
    running = add_train(tmp_path / "going", 1, 0.1, status="running", ended_at=None)
    failed = add_bench(tmp_path / "broken", 2, status="failed", failure="rank 1 ran out of memory")
    cut = add_bench(tmp_path / "cut", 2, status="interrupted")
    assert set(warnings(gather([running, failed, cut]))) == {
        "going is still running, or was killed. Only what it has measured so far is shown.",
        "broken failed: rank 1 ran out of memory. What it measured before is shown.",
        "cut was interrupted. What it measured before is shown.",
    }


def test_a_failed_study_is_flagged_and_one_that_is_writing_its_report_is_not(tmp_path: Path) -> None:
    root = add_study(tmp_path / "demo")
    write_document(root / "run.json", info("study", 4, status="running", ranks=()))
    assert warnings(gather([root])) == ()
    write_document(root / "run.json", info("study", 4, status="failed", failure="train-n8 died", ranks=()))
    assert warnings(gather([root])) == ("demo failed: train-n8 died. What it measured before is shown.",)


def test_shared_cores_are_flagged_and_kept_out_of_the_headline(tmp_path: Path) -> None:
    page = report(add_study(tmp_path / "demo", cores_per_node=2))
    assert "4 ranks share too few cores: 4 ranks of 1 thread each run on 2 cores per machine." in page.text
    assert "1.82x the samples per second of one rank, measured on 2 ranks" in page.text
    assert "ranks share cores" in page.text


def test_extrapolated_and_late_predictions_are_flagged(tmp_path: Path) -> None:
    root = add_study(tmp_path / "demo")
    late = "2026-01-01T12:00:00.001+00:00"
    write_document(root / "analysis" / "predictions.json", predictions(2, 4, created_at=late, extrapolated=True))
    said = warnings(gather([root]))
    assert said[:2] == tuple(f"The prediction for {n} ranks is extrapolated: no bench ran on {n} ranks." for n in (2, 4))
    assert said[3] == (
        f"The prediction for 4 ranks was written at {late}, after train-n4, which checks it, had started at {AFTER}. "
        "It explains; it did not foresee."
    )


def test_predictions_from_runs_that_are_not_shown_are_flagged(tmp_path: Path) -> None:
    root = add_study(tmp_path / "demo")
    write_document(root / "analysis" / "predictions.json", replace(predictions(2, 4), profile_run_id="other"))
    assert warnings(gather([root])) == ("The predictions were made from other, which is not among the runs shown here.",)


def test_links_lead_to_the_file_whatever_its_name(tmp_path: Path) -> None:
    run = add_bench(tmp_path / "bench", 2)
    names = (b"javascript:alert(1)", b'"><b>&amp;%41.txt', b"\xff\xfe.json", b"a b#c?d.txt")
    strange = {os.fsdecode(os.path.join(os.fsencode(run), name)) for name in names}
    for path in strange:
        Path(path).write_bytes(b"x")
    page = report(run)
    assert strange <= {os.path.normpath(run / "analysis" / name) for name in page.files}
    assert all(link.startswith("../") for link in page.values("href") if not link.startswith(("#", "data:")))
