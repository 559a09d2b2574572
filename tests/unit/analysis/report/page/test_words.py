"""A report in words: the same answers as the page's, within 80 columns, and nothing of a file taken for markup."""

from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.report.numbers.data import gather
from commprof.analysis.report.page.html import Report, Section, Table
from commprof.analysis.report.page.markdown import as_markdown, as_short_markdown
from commprof.analysis.report.page.words import as_text
from commprof.analysis.report.sections.build import build_report
from commprof.cli import main
from tests.report_runs import HOSTILE, add_study

CLOSING = "\x1b[31m<details>|`*[click](http://x)*`\n# heading"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_study(tmp_path_factory.mktemp("words") / "study")


@pytest.fixture(scope="module")
def told(study: Path) -> Report:
    return build_report(gather([study]), study / "analysis" / "report.html")


def test_text_answers_within_80_columns(told: Report) -> None:
    text = as_text(told, full=True)
    assert max(map(len, text.splitlines())) <= 80
    flowing = " ".join(text.split())
    assert told.headline is not None and told.headline.number in text
    assert all(" ".join(sentence.split()) in flowing for sentence in told.sentences)
    assert f"The verdict rests on {', '.join(told.sources)}." in flowing
    assert all(section.title in text for section in told.sections if section.tables)
    assert all(table.title in text for section in told.sections if section.explorer is None for table in section.tables)


def test_a_narrow_table_stays_a_table_and_a_wide_one_becomes_blocks(told: Report) -> None:
    table = Table(title="T", head=("Ranks", "What"), rows=(("2", "wire"), ("16", "x")), words=frozenset({1}))
    wide = replace(table, rows=(("2", "w " * 50),))
    section = Section(name="s", title="S", tables=(table, wide))
    lines = as_text(replace(told, sections=(section,)), full=True).splitlines()
    assert [line for line in lines if line.startswith("  Ranks") or "wire" in line] == ["  Ranks  What", "      2  wire"]
    assert "    Ranks  2" in lines


def test_markdown_has_the_same_tables_and_folds_the_same(told: Report) -> None:
    text = as_markdown(told)
    tables = [table for section in told.sections if section.explorer is None for table in section.tables]
    assert text.count("\n|--") + text.count("\n|:-") == len(tables)
    assert text.count("<details>") == text.count("</details>") == sum(table.folded for table in tables) > 0
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")


def test_markdown_for_a_pull_request_is_a_screen(told: Report) -> None:
    """Verdict, a row for each number of ranks, the other five lines, how it was measured, and where all of it is."""
    text = as_short_markdown(told, "commprof report runs/study")
    lines = text.replace("\\", "").splitlines()
    assert len(lines) <= 35
    assert len(text.split()) < 450
    assert lines[2] == told.sentences[0]
    assert [f"- {sentence}" in lines for sentence in told.sentences[1:]] == [True] * 5
    rows = [line for line in lines if line.startswith("|")][2:]
    assert [row.split(" | ")[:3] for row in rows] == [["| 1", "-", "1x"], ["| 2", "yes", "1.82x"], ["| 4", "yes", "3.20x"]]
    assert rows[2].endswith(" | 3.56x (3.23 to 3.95) | 125 ms | 112 ms |")
    (measured,) = [line for line in lines if line.startswith("Measured: ")]
    assert "gloo" in measured and "Steps are medians of 104 steps of all ranks (profile-n1 8, " in measured
    assert lines[-1].startswith("All tables and figures: commprof report runs/study. Written ")


def test_a_long_table_is_cut_for_a_pull_request(told: Report) -> None:
    rows = tuple((str(n),) for n in range(30))
    text = as_short_markdown(replace(told, summary=Table(title="T", head=("N",), rows=rows, words=frozenset())), "it")
    assert "| 9 |" in text and "| 10 |" not in text
    assert "20 more rows are on the page." in text


@pytest.mark.parametrize("hostile", [HOSTILE, CLOSING])
def test_names_from_files_are_only_ever_words(told: Report, hostile: str) -> None:
    table = Table(title=hostile, head=(hostile, "b"), rows=((hostile, "1"),), words=frozenset({0}))
    section = Section(name="s", title=hostile, sentences=(hostile,), tables=(table,), remarks=(hostile,))
    evil = replace(told, title=hostile, subtitle=hostile, sentences=(hostile,), warnings=(hostile,), sections=(section,))
    for words in (as_text(evil, full=True), as_text(evil, full=False)):
        assert "\x1b" not in words and "\u202e" not in words
    _are_only_words(as_markdown(evil))
    _are_only_words(as_short_markdown(replace(evil, summary=table, measured=hostile), hostile))


def _are_only_words(markdown: str) -> None:
    assert "\x1b" not in markdown and "\u202e" not in markdown
    for raw in ("<details>|", "<script>", "<img", "[click]", "`*"):
        assert not any(raw in line.replace("\\" + raw[0], "") for line in markdown.splitlines())
    assert sum(line.startswith("# ") for line in markdown.splitlines()) == 1
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") == 3 for line in rows)


def test_the_verb_prints_or_writes(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(study), "--text"]) == 0
    assert "measured on 4 ranks" in " ".join(capsys.readouterr().out.split())
    assert main(["report", str(study), "--markdown", "--out", str(tmp_path / "r.md")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'r.md'}\n"
    short = (tmp_path / "r.md").read_text()
    assert short.startswith("# ")
    assert main(["report", str(study), "--markdown", "--full"]) == 0
    assert len(capsys.readouterr().out) > 3 * len(short)
    with pytest.raises(SystemExit, match="2"):
        main(["report", str(study), "--text", "--latex"])
