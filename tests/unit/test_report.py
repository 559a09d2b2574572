"""The report of synthetic runs whose every number is known."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import matplotlib
import pytest

from analysis.canvas import new_axes, styled
from analysis.report import write_report
from analysis.report_data import gather, wire_curves
from analysis.report_origin import environment_section, warnings
from analysis.report_page import between, inline_svg
from analysis.report_predicted import bucket_section, prediction_section
from analysis.results import (
    BreakEven,
    Change,
    CheckedPrediction,
    Interval,
    Overhead,
    Prediction,
    PredictionSet,
    ScheduledBucket,
    ScheduledStep,
)
from commbench.errors import BadInput
from commbench.records import (
    SCHEMA_VERSION,
    CollectiveMeasurement,
    RankInfo,
    RunInfo,
    SoftwareInfo,
    Workload,
)
from commbench.rundir import RecordWriter, create_run, read_document, write_document
from commbench.training_records import BucketTiming, GradientTimeline, ParameterTiming, StepMeasurement
from commbench.units import format_seconds

WORKLOAD = Workload(
    experiment="toy",
    num_parameters=1_000_000,
    gradient_bytes=4_000_000,
    samples_per_rank=32,
    sequence_length=128,
    first_bucket_bytes=2**20,
    bucket_cap_bytes=25 * 2**20,
    synchronised=True,
)
FORMULAS = {"schedule": "played bucket by bucket", "ring": "T_1 + ring", "amdahl": "T_1 (1 + e (N-1))", "linear": "T_1 only"}
STEPS_S = {  # predicted; the runs below take 0.1, 0.11 and 0.125 s on 1, 2 and 4 ranks
    2: {"schedule": 0.121, "ring": 0.1045, "amdahl": 0.102, "linear": 0.1},
    4: {"schedule": 0.1125, "ring": 0.105, "amdahl": 0.106, "linear": 0.1},
}
BEFORE, DURING, AFTER = "2026-01-01T10:00:00.000+00:00", "2026-01-01T11:00:00.000+00:00", "2026-01-01T12:00:00.000+00:00"


def info(kind: str, world_size: int, **changes: object) -> RunInfo:
    made = RunInfo(
        schema_version=SCHEMA_VERSION,
        run_id=f"{kind}-n{world_size}",
        kind=kind,  # type: ignore[arg-type]
        status="completed",
        started_at=BEFORE,
        ended_at=AFTER,
        command=("commprof", kind),
        backend="gloo",
        world_size=world_size,
        num_nodes=1,
        launcher="torchrun",
        cores_per_node=4,
        threads_per_rank=1,
        ranks=tuple(RankInfo(rank=r, local_rank=r, hostname="node-a", device_name="EPYC") for r in range(world_size)),
        software=SoftwareInfo(python="3.11.9", torch="2.9.0"),
        environ={"OMP_NUM_THREADS": "1"},
        git_commit="abc123",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def add_train(path: Path, world_size: int, step_s: float, *, buckets: bool = False, count: int = 8, **changes: object) -> Path:
    """Write a training run of `count` equal steps after one warm-up; 30 % forward, 55 % backward, 5 % other."""
    defaults: dict[str, object] = {"workload": WORKLOAD, "run_id": path.name}
    create_run(path, info("train", world_size, **(defaults | changes)))
    for rank in range(world_size):
        with RecordWriter(path / f"steps.rank{rank:05d}.jsonl") as writer:
            for step in range(count + 1):
                writer.append(
                    StepMeasurement(
                        step=step,
                        data_s=0.02 * step_s,
                        forward_s=0.3 * step_s,
                        backward_s=0.55 * step_s,
                        optimizer_s=0.08 * step_s,
                        step_s=step_s if step else 10.0,
                        num_samples=32,
                        loss=1.0,
                        warmup=step == 0,
                        profiled=False,
                        synchronised=True,
                    )
                )
    write_document(path / "gradients.json", gradients(0.55 * step_s, buckets=buckets))
    return path


def gradients(backward_s: float, *, buckets: bool) -> GradientTimeline:
    names, sizes = ("head.weight", "embedding.weight"), (2**20, 2_951_424)
    return GradientTimeline(
        rank=0,
        num_steps=8,
        backward_s=backward_s,
        parameters=tuple(
            ParameterTiming(name=name, num_bytes=size, ready_s=backward_s * part)
            for name, size, part in zip(names, sizes, (0.4, 0.98), strict=True)
        ),
        buckets=tuple(
            BucketTiming(index=i, num_bytes=size, ready_s=0.02 * (i + 1), launched_s=0.021 * (i + 1), done_s=0.025 * (i + 1))
            for i, size in enumerate(sizes if buckets else ())
        ),
    )


def add_bench(path: Path, world_size: int, sizes: Sequence[int] = (1024, 65536, 2**20, 2**23), **changes: object) -> Path:
    """Write a bench whose fastest rank takes 1 ms + S / 1 GB/s, its slowest twice that."""
    create_run(path, info("bench", world_size, **({"run_id": path.name} | changes)))
    with RecordWriter(path / "collectives.jsonl") as writer:
        for size in sizes:
            time_s = 1e-3 + size / 1e9
            writer.append(
                CollectiveMeasurement(
                    op="all_reduce",
                    dtype="float32",
                    message_bytes=size,
                    world_size=world_size,
                    mode="isolated",
                    in_place=True,
                    warmup_iterations=5,
                    slowest_rank_s=(2 * time_s,) * 5,
                    fastest_rank_s=tuple(part * time_s for part in (0.8, 0.9, 1.0, 1.1, 1.2)),
                    timer="monotonic",
                    num_wrong=0,
                )
            )
    return path


def predictions(*world_sizes: int, created_at: str = DURING, extrapolated: bool = False) -> PredictionSet:
    return PredictionSet(
        created_at=created_at,
        single_step_s=0.1,
        profile_run_id="profile-n1",
        run_ids=("profile-n1", *(f"{kind}-n{n}" for n in world_sizes for kind in ("bench", "compute"))),
        predictions=tuple(
            Prediction(
                model=model,  # type: ignore[arg-type]
                formula=FORMULAS[model],
                world_size=n,
                step_s=step_s,
                interval_s=Interval(low=0.9 * step_s, high=1.1 * step_s) if model == "schedule" else None,
                exposed_s=step_s - 0.1,
                speedup=n * 0.1 / step_s,
                efficiency=0.1 / step_s,
                ratio_compute_to_comm=7.25,
                extrapolated=extrapolated,
                assumptions=("copies are free",) if model == "schedule" else (),
            )
            for n in world_sizes
            for model, step_s in STEPS_S[n].items()
        ),
        overheads=tuple(
            Overhead(
                world_size=n, single_step_s=0.1, compute_s=0.001, waiting_s=0.002, exposed_s=STEPS_S[n]["schedule"] - 0.103
            )
            for n in world_sizes
        ),
        break_evens=tuple(BreakEven(world_size=n, work_s=0.1 * n, compute_s=0.101, comm_s=0.02 * n) for n in world_sizes),
        schedules=tuple(
            ScheduledStep(
                world_size=n,
                backward_start_s=0.04,
                compute_end_s=0.1,
                step_s=STEPS_S[n]["schedule"],
                buckets=tuple(
                    ScheduledBucket(num_bytes=size, ready_s=0.06 * i, start_s=0.061 * i, done_s=0.064 * i, last_parameter=name)
                    for i, (size, name) in enumerate(((2**20, "head.weight"), (2_951_424, "embedding.weight")), 1)
                ),
            )
            for n in world_sizes
        ),
        changes=(
            Change(what="close buckets at 4 MiB", setting="bucket_cap_mb=4", world_size=4, seconds_saved=0.0105, speedup=3.9),
        ),
    )


def add_study(root: Path, **of_four: object) -> Path:
    """Write a finished study of 1, 2 and 4 ranks; `of_four` changes the run.json of its runs on 4."""
    create_run(root, info("study", 4, run_id=root.name, ranks=()))
    alone = replace(WORKLOAD, synchronised=False)
    add_train(root / "profile-n1", 1, 0.1)
    for world_size, step_s in ((2, 0.11), (4, 0.125)):
        changes = of_four if world_size == 4 else {}
        add_bench(root / f"bench-n{world_size}", world_size, **changes)
        add_train(root / f"compute-n{world_size}", world_size, 0.1, workload=alone, **changes)
        add_train(root / f"train-n{world_size}", world_size, step_s, buckets=True, started_at=AFTER, **changes)
    write_document(root / "analysis" / "predictions.json", predictions(2, 4))
    return root


class Page(HTMLParser):
    """A page read back: its elements with their attributes, its visible text, and a check that every tag is closed."""

    VOID = frozenset({"meta", "link", "br"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.source = path.read_text()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(self.source)
        self.close()
        assert self.open == [], "an element was never closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]

    def of(self, tag: str, name: str = "") -> list[dict[str, str]]:
        return [a for found, a in self.elements if found == tag and name in (a.get("class", ""), "")]

    @property
    def sections(self) -> list[str]:
        return [attributes["id"] for attributes in self.of("section")]

    def row(self, *cells: str) -> bool:
        """Say whether a table row holds these cells, in this order, one after the other."""
        return " ".join(cells) in self.text

    @property
    def files(self) -> list[str]:
        return [unquote(href, errors="surrogateescape") for href in self.values("href") if not href.startswith(("#", "data:"))]


def report(*paths: Path, out: Path | None = None) -> Page:
    return Page(write_report(paths, out))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The report of a finished study."""
    return report(add_study(tmp_path_factory.mktemp("study") / "demo"))


def test_a_complete_study_answers_every_question(page: Page) -> None:
    assert page.sections == ["wire", "step", "buckets", "prediction", "changes", "what-if", "environment", "files"]
    assert "3.20x the samples per second of one rank, measured on 4 ranks Predicted before the run: 3.56x." in page.text
    assert "95 % interval of the prediction: 3.23x to 3.95x." in page.text
    assert "4 ranks: predicted 3.56x (3.23 to 3.95) the throughput of one, measured 3.20x" in page.text
    assert "Read with care" not in page.text
    assert len(page.of("svg")) == len(page.of("figure")) == 9


def test_every_model_stands_beside_the_measurement_with_formula_and_error(page: Page) -> None:
    assert page.row("2 bucket schedule 121 ms", "109 to 133 ms 1.65x 83% 21 ms 110 ms +10.0%")
    assert page.row("2 ring 104 ms - 1.91x 96% 4.5 ms 110 ms -5.0%")
    assert page.row("4 bucket schedule 112 ms", "101 to 124 ms 3.56x 89% 12.5 ms 125 ms -10.0%")
    assert page.row("4 linear 100 ms - 4.00x 100% 0 us 125 ms -20.0%")
    for formula in FORMULAS.values():
        assert page.text.count(formula) == 1
    assert "Assumed for 4 ranks: copies are free." in page.text


def test_the_laws_give_break_even_and_karp_flatt(page: Page) -> None:
    assert page.row("4 400 ms 101 ms 80 ms 5 1.34 125 ms measured pays")
    assert "Karp-Flatt, 4 ranks: e = 0.083 is the serial fraction Amdahl's law would need for 3.20x." in page.text


def test_emulated_hosts_are_called_so(tmp_path: Path) -> None:
    add_bench(tmp_path / "bench-n2", 2, wire="1gbit")
    add_train(tmp_path / "compute-n2", 2, 0.1, workload=replace(WORKLOAD, synchronised=False), wire="1gbit")
    (said,) = [words for words in warnings(gather([tmp_path / "bench-n2", tmp_path / "compute-n2"])) if "emulated" in words]
    assert said == (
        "The hosts are emulated: they share the 4 cores of one machine. How long 2 ranks compute side by side was measured, "
        "with nothing sent."
    )


def test_a_slowdown_does_not_pay(tmp_path: Path) -> None:
    root = add_study(tmp_path / "demo")
    add_train(root / "zz-n2", 2, 0.25, started_at=AFTER)
    section = prediction_section(gather([root]), predictions(2, 4))
    law = ("2", "200 ms", "101 ms", "40 ms", "5", "2.02", "250 ms measured", "does not pay")
    assert section.tables[-1].rows[0] == law
    assert any("so no Amdahl fraction can describe this slowdown" in remark for remark in section.remarks)


def test_the_wire_the_step_and_the_buckets_are_told_in_numbers(page: Page) -> None:
    for start, busbw in (("2 1 ms", "1 GB/s"), ("4 1 ms", "1.5 GB/s")):
        intervals = r"[\w.]+ us to 1\.\d+ ms 1 GB/s 0\.\d+ to 1\.\d+ GB/s"
        assert re.search(f"{start} {intervals} {busbw} 976.6 KiB 0% 20 sound", page.text)
    assert "20 samples on 2 ranks" in page.text
    assert "it arrived last, so it waited for nobody" in page.text
    assert page.row("train-n4 synchronised 4 2.5 ms 37.5 ms 68.7 ms 10 ms 6.25 ms 125 ms 125 ms 32")
    assert page.row("2 2.815 MiB embedding.weight 80 ms 82 ms 88 ms 40 ms 42 ms 50 ms")
    assert page.row("4 close buckets at 4 MiB bucket_cap_mb=4 10.5 ms 3.90x")


def test_a_wire_curve_is_the_fastest_ranks_median_with_its_spread(tmp_path: Path) -> None:
    (curve,) = wire_curves(gather([add_bench(tmp_path / "bench", 4, sizes=(1000, 9_000_000))]))
    assert curve.message_bytes == (1000, 9_000_000)
    assert curve.median_s == pytest.approx((1.001e-3, 10e-3))
    assert curve.low_s == pytest.approx((0.84 * 1.001e-3, 8.4e-3))
    assert curve.high_s == pytest.approx((1.16 * 1.001e-3, 11.6e-3))
    assert curve.num_samples == 10


def test_the_environment_is_told_once_and_differences_name_their_runs(tmp_path: Path) -> None:
    facts, _ = environment_section(gather([add_study(tmp_path / "demo", launcher="slurm")])).tables
    told = dict(facts.rows)
    assert told["Launcher"] == ("torchrun (profile-n1, bench-n2, compute-n2, train-n2); slurm (bench-n4, compute-n4, train-n4)")
    assert told["Scaling"] == "weak: 32 samples per rank and step at every world size"
    assert told["Hosts"] == "1 with 4 cores each"
    expected = {"Backend": "gloo", "Threads per rank": "1", "Devices": "node-a: EPYC", "Git commit": "abc123"}
    expected |= {"python": "3.11.9", "torch": "2.9.0", "OMP_NUM_THREADS": "1"}
    assert expected.items() <= told.items()


def test_every_file_is_linked_from_where_the_page_lies(tmp_path: Path) -> None:
    root = add_study(tmp_path / "demo")
    out = tmp_path / "elsewhere" / "page.html"
    page = report(root, out=out)
    linked = {(out.parent / name).resolve() for name in page.files}
    assert linked == {path for path in root.rglob("*") if path.is_file()}
    assert "ui.perfetto.dev" in page.text


def test_verification_holds_each_prediction_beside_the_measured_median(page: Page) -> None:
    checked = read_document(page.path.with_name("verification.json"), tuple[CheckedPrediction, ...])
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
    assert "1.65x the samples per second of one rank, predicted on 2 ranks No run has checked it yet." in page.text
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
    assert page.sections == ["wire", "environment", "files"]
    assert "1.34 GB/s bus bandwidth on 4 ranks, measured Best median of the sweep, at 8 MiB." in page.text
    assert "it takes a finished training run on one rank and a bench" in page.text


def test_a_training_run_alone_gives_its_anatomy(tmp_path: Path) -> None:
    page = report(add_train(tmp_path / "train", 2, 0.11, buckets=True))
    assert page.sections == ["step", "buckets", "environment", "files"]
    assert "110 ms per step on 2 ranks, measured Median of 16 steps." in page.text


def test_a_run_in_progress_and_a_failed_one_are_flagged(tmp_path: Path) -> None:
    running = add_train(tmp_path / "going", 1, 0.1, status="running", ended_at=None)
    failed = add_bench(tmp_path / "broken", 2, status="failed", failure="rank 1 ran out of memory")
    cut = add_bench(tmp_path / "cut", 2, status="interrupted")
    assert set(warnings(gather([running, failed, cut]))) == {
        "going is still running, or was killed. Only what it has measured so far is shown.",
        "broken failed: rank 1 ran out of memory. What it measured before is shown.",
        "cut was interrupted. What it measured before is shown.",
    }


def test_a_run_that_has_measured_nothing_yet_still_gives_a_page(tmp_path: Path) -> None:
    page = report(add_train(tmp_path / "new", 1, 0.1, count=0, status="running"))
    assert page.sections == ["environment", "files"]
    assert "new is still running" in page.text


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


def test_the_page_needs_nothing_but_itself(page: Page) -> None:
    assert len(page.source) < 3e6
    assert not {"iframe", "img", "object", "embed", "base", "form"} & {tag for tag, _ in page.elements}
    assert page.of("script") == OWN_SCRIPTS
    for name in ("src", "srcset", "action", "background"):
        assert page.values(name) == []
    for link in page.values("href") + page.values("xlink:href"):
        assert "//" not in link and not link.startswith("/")
    assert "url(" not in page.source.replace("url(#", "") and "@import" not in page.source


def test_ids_are_unique_and_every_reference_inside_the_page_has_its_target(page: Page) -> None:
    ids = page.values("id")
    assert len(ids) == len(set(ids)) > 40
    local = [link[1:] for link in page.values("href") + page.values("xlink:href") if link.startswith("#")]
    clips = [clip.removeprefix("url(#").removesuffix(")") for clip in page.values("clip-path")]
    assert clips and set(local + clips + page.values("aria-labelledby")) <= set(ids)


def test_every_figure_speaks_names_its_sources_and_takes_the_page_colours(page: Page) -> None:
    for figure in page.of("svg"):
        assert figure["role"] == "img"
        assert len(figure["aria-label"]) > 40
    for caption in page.source.split("<figcaption>")[1:]:
        own = caption.split("</figcaption>")[0]
        assert "steps" in own or "samples" in own
        assert ".json" in own.split("Drawn from")[1]
    figures = "".join(part.split("</svg>")[0] for part in page.source.split("<svg ")[1:])
    assert "#010203" not in figures and "#0072b2" not in figures
    assert "currentColor" in figures and "var(--blue)" in figures


OWN_SCRIPTS = [{"type": "application/json", "id": "what-if-data"}, {}]  # none of them is loaded from anywhere
HOSTILE = '<script>alert(1)</script>"onload="alert(1) $\\frac$ \'><img src=x onerror=alert(1)> \x1b[31m\u202e'
SHOWN = HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\x202e")


def hostile_predictions() -> PredictionSet:
    planned = predictions(2)
    (step,) = planned.schedules
    buckets = tuple(replace(bucket, last_parameter=HOSTILE) for bucket in step.buckets)
    return replace(
        planned,
        schedules=(replace(step, buckets=buckets),),
        changes=(replace(planned.changes[0], what=HOSTILE, setting=HOSTILE),),
        predictions=tuple(replace(p, formula=HOSTILE, assumptions=(HOSTILE,)) for p in planned.predictions),
        profile_run_id=HOSTILE,
        created_at=HOSTILE,
    )


def test_text_from_files_is_only_ever_text(tmp_path: Path) -> None:
    folder = tmp_path / HOSTILE.replace("/", "|")
    ranks = (RankInfo(rank=0, local_rank=0, hostname=HOSTILE, device_name=HOSTILE),)
    named = ("run_id", "git_commit", "failure", "started_at", "ended_at", "launcher")
    evil = dict.fromkeys(named, HOSTILE) | {"environ": {HOSTILE: HOSTILE}, "command": (HOSTILE,), "status": "failed"}
    software = SoftwareInfo(python=HOSTILE, torch=HOSTILE)
    work = replace(WORKLOAD, experiment=HOSTILE)
    run = add_train(folder, 1, 0.1, ranks=ranks, software=software, workload=work, **evil)
    bench = add_bench(tmp_path / "bench", 2, **evil)
    write_document(run / "analysis" / "predictions.json", hostile_predictions())
    page = report(run, bench)
    assert page.of("script") == OWN_SCRIPTS and not page.of("img")
    assert not [attribute for _, attributes in page.elements for attribute in attributes if attribute.startswith("on")]
    assert page.text.count(SHOWN) > 25
    assert "\x1b" not in page.source and "\u202e" not in page.source


def test_links_lead_to_the_file_whatever_its_name(tmp_path: Path) -> None:
    run = add_bench(tmp_path / "bench", 2)
    names = (b"javascript:alert(1)", b'"><b>&amp;%41.txt', b"\xff\xfe.json", b"a b#c?d.txt")
    strange = {os.fsdecode(os.path.join(os.fsencode(run), name)) for name in names}
    for path in strange:
        Path(path).write_bytes(b"x")
    page = report(run)
    assert strange <= {os.path.normpath(run / "analysis" / name) for name in page.files}
    assert all(link.startswith("../") for link in page.values("href") if not link.startswith(("#", "data:")))


def test_a_figure_draws_text_as_it_is_whatever_the_users_settings(tmp_path: Path) -> None:
    with matplotlib.rc_context({"text.usetex": True, "svg.fonttype": "path"}):
        with styled():
            figure, axes = new_axes(200, left=50)
            axes.set_title("$\\frac$ <b>")
        svg = inline_svg(figure, "one", 'say "hi" <b>')
    assert "$\\frac$ &lt;b&gt;" in svg
    assert 'aria-label="say &#34;hi&#34; &lt;b&gt;"' in svg


def test_neither_torch_nor_pandas_nor_pyplot_is_loaded(tmp_path: Path) -> None:
    root = add_study(tmp_path / "demo")
    code = (
        "import sys; from pathlib import Path; from analysis.report import write_report; "
        f"write_report([Path({str(root)!r})], None); "
        "print([name for name in ('torch', 'pandas', 'matplotlib.pyplot') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_range_names_its_unit_once() -> None:
    assert between(1e-4, 2e-4, format_seconds) == "100 to 200 us"
    assert between(5e-4, 2e-3, format_seconds) == "500 us to 2 ms"


def test_the_same_runs_give_the_same_page_but_for_its_date(tmp_path: Path) -> None:
    run = add_bench(tmp_path / "bench", 2)
    first, second = (report(run).source.split("<footer>")[0] for _ in range(2))
    assert first == second
