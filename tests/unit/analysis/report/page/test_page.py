"""The page itself: self-contained, accessible, the same for the same runs, and safe whatever a file says."""

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib
import pytest

from commprof.analysis.report.figures.canvas import new_axes, styled
from commprof.analysis.report.page.html import between, inline_svg
from commprof.analysis.step.results import PredictionSet
from commprof.commbench.records.rundir import RecordWriter, create_run, write_document
from commprof.commbench.records.types import RankInfo, SoftwareInfo
from commprof.commbench.units import format_seconds
from tests.factory import message, write_contention_run
from tests.forked import DEADLINE_S
from tests.report_runs import (
    EVERY_PAGE,
    HOSTILE,
    OWN_SCRIPTS,
    SHOWN,
    WORKLOAD,
    Page,
    add_bench,
    add_study,
    add_train,
    info,
    predictions,
    report,
)


def test_the_page_needs_nothing_but_itself(study_page: Page) -> None:
    assert len(study_page.source) < 3e6
    assert not {"iframe", "img", "object", "embed", "base", "form"} & {tag for tag, _ in study_page.elements}
    assert study_page.of("script") == OWN_SCRIPTS
    for name in ("src", "srcset", "action", "background"):
        assert study_page.values(name) == []
    for link in study_page.values("href") + study_page.values("xlink:href"):
        assert "//" not in link and not link.startswith("/")
    assert "url(" not in study_page.source.replace("url(#", "") and "@import" not in study_page.source


def test_ids_are_unique_and_every_reference_inside_the_page_has_its_target(study_page: Page) -> None:
    ids = study_page.values("id")
    assert len(ids) == len(set(ids)) > 40
    local = [link[1:] for link in study_page.values("href") + study_page.values("xlink:href") if link.startswith("#")]
    clips = [clip.removeprefix("url(#").removesuffix(")") for clip in study_page.values("clip-path")]
    assert clips and set(local + clips + study_page.values("aria-labelledby")) <= set(ids)


def test_every_figure_speaks_names_its_sources_and_takes_the_page_colours(study_page: Page) -> None:
    for figure in study_page.of("svg"):
        assert figure["role"] == "img"
        assert len(figure["aria-label"]) > 40
    for caption in study_page.source.split("<figcaption>")[1:]:
        own = caption.split("</figcaption>")[0]
        assert "steps" in own or "samples" in own
        assert ".json" in own.split("Drawn from")[1]
    figures = "".join(part.split("</svg>")[0] for part in study_page.source.split("<svg ")[1:])
    assert "#010203" not in figures and "#0072b2" not in figures
    assert "currentColor" in figures and "var(--blue)" in figures


def test_a_reader_without_eyes_or_mouse_finds_the_way(study_page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in study_page.elements if tag in ("h1", "h2", "h3")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels)), "a level of headings is skipped"
    tags = [tag for tag, _ in study_page.elements]
    assert [tags.count(tag) for tag in ("header", "main", "nav", "footer")] == [1, 1, 1, 1]
    assert study_page.of("a")[0]["href"] == "#verdict" and "verdict" in study_page.values("id")
    assert {cell["scope"] for cell in study_page.of("th")} == {"col", "row"}
    assert all("tabindex" in box and "aria-label" in box for box in study_page.of("div", "scroll"))
    num_rows = tags.count("tr") - tags.count("thead")
    assert sum(cell["scope"] == "row" for cell in study_page.of("th")) == num_rows


def test_what_is_folded_is_unfolded_for_print(study_page: Page) -> None:
    printed = "".join(study_page.source.split("@media print {")[1:])
    assert "details::details-content { content-visibility: visible" in printed
    assert len(study_page.of("details")) == len(study_page.of("summary")) > 5


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


def hostile_links(path: Path) -> Path:
    """Links whose ends, kinds of connection and hosts are markup, beside one that can be drawn."""
    copy = replace(message(0, 1, [1e-3]), kind="host_to_device", source=HOSTILE, target=HOSTILE, connection=HOSTILE)
    create_run(path, info("links", 2, run_id=HOSTILE, git_commit=HOSTILE))
    with RecordWriter(path / "links.jsonl") as writer:
        for link in (copy, message(0, 1, [1e-3]), replace(message(0, 1, [1e-3]), source=HOSTILE)):
            writer.append(link)
    return path


def hostile_contention(path: Path) -> Path:
    write_contention_run(path, [(2**20, 1.5, 2.0)])
    write_document(path / "run.json", info("contention", 2, run_id=HOSTILE, failure=HOSTILE, status="failed"))
    return path


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
    (run / "traces").mkdir()
    (run / "traces" / HOSTILE.replace("/", "|")).write_text("no trace")
    page = report(run, bench, hostile_links(tmp_path / "links"), hostile_contention(tmp_path / "contention"))
    assert {"links", "contention", "training", "health"} <= set(page.sections)
    assert "img" not in {tag for tag, _ in page.elements}
    assert page.of("script") in (EVERY_PAGE, OWN_SCRIPTS)
    assert not [attribute for _, attributes in page.elements for attribute in attributes if attribute.startswith("on")]
    assert page.text.count(SHOWN) > 25
    assert "\x1b" not in page.source and "\u202e" not in page.source


def test_a_figure_draws_text_as_it_is_whatever_the_users_settings(tmp_path: Path) -> None:
    with matplotlib.rc_context({"text.usetex": True, "svg.fonttype": "path"}):
        with styled():
            figure, axes = new_axes(200, left=50)
            axes.set_title("$\\frac$ <b>")
        svg = inline_svg(figure, "one", 'say "hi" <b>')
    assert "$\\frac$ &lt;b&gt;" in svg
    assert 'aria-label="say &#34;hi&#34; &lt;b&gt;"' in svg


@pytest.mark.processes
def test_nothing_is_loaded_that_a_report_does_not_need(tmp_path: Path) -> None:
    """Nothing that reads traces where there are none; never torch, pandas or pyplot, nor by what else people wait for."""
    run, root = add_train(tmp_path / "train", 1, 0.1), add_study(tmp_path / "demo")
    code = (
        "import sys; from pathlib import Path; from commprof.analysis.report.sections.build import write_report\n"
        f"write_report([Path({str(run)!r})], Path({str(tmp_path)!r}) / 'page.html')\n"
        "print([name for name in sys.modules if name.startswith(('commprof.analysis.traces', 'isal', 'multiprocessing'))])\n"
        f"write_report([Path({str(root)!r})], None)\n"
        "from commprof.analysis.advice import predict; from commprof.analysis.health import check\n"
        "from commprof.analysis.scaling import extrapolate; import commprof.analysis.report.cli, commprof.analysis.wire.cli\n"
        "print([name for name in ('torch', 'pandas', 'matplotlib.pyplot') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=DEADLINE_S)
    assert done.stdout == "[]\n[]\n"


def test_a_range_names_its_unit_once() -> None:
    assert between(1e-4, 2e-4, format_seconds) == "100 to 200 us"
    assert between(5e-4, 2e-3, format_seconds) == "500 us to 2 ms"


def test_the_same_runs_give_the_same_page_but_for_its_date(tmp_path: Path) -> None:
    run = add_bench(tmp_path / "bench", 2)
    first, second = (report(run).source.split("<footer>")[0] for _ in range(2))
    assert first == second
