"""The paper made of a study, from the same numbers as the page; and what pdflatex makes of names that want to be TeX."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.report.page.html import Link, Table
from commprof.analysis.report.paper import files as latex_report
from commprof.analysis.report.paper.files import compile_latex, write_latex_report
from commprof.analysis.report.paper.latex import figure_stems, fitted, told_sources
from commprof.analysis.report.paper.paper import Paper, paper_of
from commprof.analysis.report.paper.text import longest_piece
from commprof.analysis.study.predictions import write_predictions
from commprof.cli import main
from commprof.commbench.errors import RunFailed
from tests.factory import workload, write_bench_run
from tests.finished_study import PAIR_S, SINGLE_S, finished_study, training

HOSTILE = "\\input{/etc/passwd}%$&#_^~ \\immediate\\write18{touch hacked}\n\n\\end{document} \U0001f600\x1b ]*[ --"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose every name wants to be TeX, as a paper: the .tex file."""
    evil = {"hostname": HOSTILE, "environ": {HOSTILE: HOSTILE}, "git_commit": HOSTILE, "launcher": HOSTILE, "failure": HOSTILE}
    folder = tmp_path_factory.mktemp("papers") / HOSTILE.replace("/", "|")
    root = finished_study(folder, experiment=HOSTILE, **evil)
    return write_latex_report([root], None)


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Paper:
    root = finished_study(tmp_path_factory.mktemp("study") / "demo")
    return paper_of([root], root / "analysis" / "report.tex")


def test_the_paper_answers_in_its_order_from_the_runs_own_numbers(paper: Paper) -> None:
    assert paper.abstract[0].startswith("1.60x: the samples per second of one rank, measured on 2 ranks.")
    assert [line.partition(":")[0] for line in paper.abstract[1:]] == ["Verdict", "Why", "How sure", "Cost", "Change", "Next"]
    results = [section.name for section in paper.results]
    assert results[0] == "overview" and {"wire", "step", "buckets", "prediction"} <= set(results)
    assert not {"environment", "files", "changes"} & set(results)
    assert f"Why: {paper.cause.sentences[0]}" == paper.abstract[2]
    assert [picture.name for picture in paper.cause.pictures] == ["overhead"]
    assert "overhead" not in [picture.name for section in paper.results for picture in section.pictures]
    assert "Karp-Flatt, 2 ranks: e = 0.250 is the serial fraction" in paper.cause.remarks[0]  # (1/1.6 - 1/2) / (1/2)
    assert paper.guidelines.remarks[0].startswith("On 2 ranks R = ")
    assert paper.set_up.tables[0].rows[0][1].startswith("small: 1,000,000 parameters")  # type: ignore[union-attr]


def test_runs_that_nothing_predicts_give_a_paper_without_a_cause(tmp_path: Path) -> None:
    page = write_latex_report([write_bench_run(tmp_path / "bench", 1e-3, 1e9)], tmp_path / "out")
    text = page.read_text()
    assert page == tmp_path / "out" / "report.tex"
    assert "Nothing predicts these runs, so no cause is told" in text
    assert {"bandwidth.pdf", "latency.pdf"} <= {path.name for path in (tmp_path / "out" / "figures").iterdir()}


def test_a_study_of_several_cells_is_one_paper(tmp_path: Path) -> None:
    root = finished_study(tmp_path / "grid", wire="1gbit")
    other = workload(experiment="large", num_parameters=2_000_000)
    training(root / "large-profile-n1", 1, SINGLE_S, work=other)
    for experiment in ("small", "large"):
        assert write_predictions(root, experiment, "1gbit", grid=True) == {}
    text = write_latex_report([root], None).read_text()
    assert r"\subsection{Cell small-1gbit}" in text and r"\subsection{Cell large-1gbit}" in text
    assert "small-1gbit: What holds 2 ranks back" in text
    assert {"small-1gbit-speedup.pdf", "large-1gbit-overhead.pdf"} <= {p.name for p in root.glob("analysis/figures/*")}


def test_a_grid_counts_its_runs_and_lists_them_in_the_appendix(tmp_path: Path) -> None:
    root = finished_study(tmp_path / "grid", wire="1gbit")
    training(root / "large-profile-n1", 1, SINGLE_S, work=workload(experiment="large", num_parameters=2_000_000))
    for experiment in ("small", "large"):
        assert write_predictions(root, experiment, "1gbit", grid=True) == {}
    made = paper_of([root], root / "report.tex")
    facts = dict(made.set_up.tables[0].rows)
    assert facts["Training"] == (  # type: ignore[index]
        "small: 1,000,000 parameters, 3.815 MiB of gradients (2 runs); "
        "large: 2,000,000 parameters, 3.815 MiB of gradients (1 run)"
    )
    assert [table.title for table in made.set_up.tables] == ["What was run, and on what"]
    assert "Runs" in [table.title for table in made.appendix]
    (table,) = made.cause.tables
    assert table.head[0] == "Cell" and [row[:2] for row in table.rows] == [("small-1gbit", "2"), ("large-1gbit", "2")]
    (cell,) = [section for section in made.results if section.title == "Cell small-1gbit"]
    assert [picture.title.partition(":")[0] for picture in cell.pictures] == ["small-1gbit"] * 2
    assert not set(cell.sentences) & {sentence.removeprefix("small-1gbit: ") for sentence in made.cause.sentences}


@pytest.mark.processes
def test_runs_that_cannot_be_pooled_are_a_paper_side_by_side(
    tmp_path: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A study against a run of another model, whose name wants to be TeX."""
    root = finished_study(tmp_path / "demo")
    other = training(tmp_path / "other", 2, 2 * PAIR_S, work=workload(experiment=HOSTILE, num_parameters=2_000_000))
    assert main(["report", str(root), str(other), "--latex"]) == 0
    folder = here / "comparison"
    text = (folder / "report.tex").read_text()
    assert capsys.readouterr().out.strip() in ("comparison/report.tex", "comparison/report.pdf")
    assert r"\title{A: demo, B: other: side by side\\" in text
    assert "0.50x: the samples per second of A, measured for B on 2 ranks." in text
    assert r"\caption{Set-up in which they differ." in text and r"\subsection{Step against step}" in text
    assert r"\subsection{B: The training itself}" in text and r"\caption{A: Runs." in text
    assert not (root / "analysis").exists(), "the study was only given to be read"
    assert {"anatomy.pdf", "bandwidth.pdf", "loss-a.pdf", "loss-b.pdf"} <= {p.name for p in (folder / "figures").iterdir()}


def test_no_name_becomes_tex_or_a_path(hostile: Path) -> None:
    text = hostile.read_text()
    for command in ("\\input{", "\\immediate", "\\write18", "\n\\end{document} "):
        assert command not in text.replace("\\usepackage[utf8]{inputenc}", "")
    assert text.count("\\end{document}") == 1
    assert text.count(r"\textbackslash{}input\{/\allowbreak{}etc/\allowbreak{}passwd\}") > 5
    assert text.isascii()
    assert {path.parent for path in hostile.parent.rglob("*.pdf")} == {hostile.parent / "figures"}


@pytest.mark.processes
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed (texlive-latex-recommended)")
def test_pdflatex_takes_the_paper_and_obeys_no_name(hostile: Path) -> None:
    pdf = compile_latex(hostile)
    assert pdf is not None and pdf.read_bytes().startswith(b"%PDF-") and len(pdf.read_bytes()) > 50_000
    assert sorted(path.name for path in hostile.parent.iterdir()) == ["figures", "report.pdf", "report.tex"]
    assert not list(hostile.parent.rglob("hacked*"))


def test_without_pdflatex_the_source_is_written_and_how_to_compile_it_said(
    tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    run = write_bench_run(tmp_path / "bench", 1e-3, 1e9)
    assert main(["report", str(run), "--latex"]) == 0
    said = capsys.readouterr()
    assert said.out == "report/report.tex\n"
    assert (here / "report" / "report.tex").exists()
    assert said.err.count("\n") == 1 and "pdflatex report && pdflatex report" in said.err


def test_a_file_where_the_papers_folder_must_be_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_bench_run(tmp_path / "bench", 1e-3, 1e9)
    assert main(["report", str(run), "--latex", "--out", str(run / "run.json")]) == 2
    assert "is a file; with --latex name a folder" in capsys.readouterr().err


def fake_pdflatex(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Put a program of that name on the path, and return a page for it."""
    program = folder / "bin" / "pdflatex"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    page = folder / "report.tex"
    page.touch()
    return page


@pytest.mark.processes
def test_pdflatex_gets_no_shell_no_terminal_and_no_file_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = 'echo "$@" $openin_any $openout_any >> said; cat >> said; touch report.pdf report.aux report.log'
    page = fake_pdflatex(tmp_path, monkeypatch, script)
    assert compile_latex(page) == tmp_path / "report.pdf"
    flags = "-no-shell-escape -interaction=nonstopmode -halt-on-error -file-line-error"
    assert (tmp_path / "said").read_text().splitlines() == [f"{flags} report.tex p p"] * 2
    assert not (tmp_path / "report.aux").exists() and not (tmp_path / "report.log").exists()


@pytest.mark.processes
def test_a_page_that_does_not_compile_names_the_line_and_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = 'echo "./report.tex:12: Undefined control sequence." > report.log; exit 1'
    page = fake_pdflatex(tmp_path, monkeypatch, script)
    with pytest.raises(RunFailed, match=r"report\.tex:12: Undefined control sequence\.; see .*report\.log"):
        compile_latex(page)


@pytest.mark.processes
def test_pdflatex_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latex_report, "_TIMEOUT_S", 0.2)
    page = fake_pdflatex(tmp_path, monkeypatch, "exec sleep 60")
    with pytest.raises(RunFailed, match=r"did not finish .*report\.tex within 0\.2 s"):
        compile_latex(page)


def test_a_table_fits_a_page_or_goes_on_in_another() -> None:
    wide = Table(
        title="t",
        head=("Run", "Size", "Words"),
        rows=tuple(("x" * 60, "1 ms", "word " * 60) for _ in range(50)),
        words=frozenset({0, 2}),
        note="A note.",
    )
    made = fitted(wide)
    widths = [float(part.partition("mm")[0]) for part in made[0].columns.split("{")[2:] if "mm" in part]
    assert len(widths) == 3 and 150 < sum(widths) < 165
    assert sum(len(part.rows) for part in made) == 50 and max(len(part.rows) for part in made) * 4 <= 66, "4 lines a row"
    assert [part.title for part in made[:2]] == [f"t (1 of {len(made)})", f"t (2 of {len(made)})"]
    assert fitted(replace(wide, rows=wide.rows * 9))[-1].note == "A note. The first 400 of 450 rows."
    linked = replace(wide, rows=((Link(text="a", href="b"), "1", "2"),))
    assert fitted(linked)[0].note == "", "a paper has no links to follow"
    assert [part.rows for part in fitted(replace(wide, rows=()))] == [()]


def test_a_column_of_words_is_never_narrower_than_its_longest_one() -> None:
    long, short = "TORCH_NCCL_ASYNC_ERROR_HANDLING", "a-b-c"
    assert (longest_piece(long), longest_piece(short), longest_piece("y" * 60)) == (8, 5, 16)
    rows = tuple((f"{'1' * 12}", *["9" * 16] * 7, "embedding.weight") for _ in range(2))
    (made,) = fitted(Table(title="t", head=("a",) * 9, rows=rows, words=frozenset({0, 8})))
    assert float(made.columns.rpartition("L{")[2].partition("mm")[0]) >= 16 * 1.52


def test_figures_of_like_names_get_files_of_their_own(paper: Paper) -> None:
    stems = figure_stems([replace(paper.pictures[0], name=name) for name in ("a/b", "a b", "../a%b")])
    assert stems == {"a/b": "a-b", "a b": "a-b-2", "../a%b": "a-b-3"}


def test_many_sources_are_counted() -> None:
    assert told_sources(("a", "b")) == "a, b"
    assert told_sources(("a", "b", "c", "d", "e", "f")) == "a, b, c, d and 2 more"
