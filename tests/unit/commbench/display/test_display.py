"""Results on a terminal and in a pipe: one content, whole numbers at every width, colours that can be refused."""

import io
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from commprof.analysis.health.results import Verdict
from commprof.analysis.health.text import check_sheet
from commprof.cli import main
from commprof.commbench.display.sheet import GAP, Block, Cell, Column, Row, Sheet, Table, Words, joined, line, plain_text
from commprof.commbench.display.tables import console_on, print_sheet
from tests.finished_study import finished_study
from tests.forked import DEADLINE_S, Zygote
from tests.terminals import COLOUR, forked_on_terminal, on_terminal
from tests.traces import header, write_trace
from tests.unit.analysis.traces.all_ranks.test_budget import RANK_0, RANK_1

VERBS = {
    "check": ["check", "study"],
    "predict": ["predict", "study", "-n", "2", "4"],
    "what if": ["predict", "study", "-n", "2", "4", "--batch", "2"],
    "advise": ["advise", "study", "-n", "2", "4", "--samples", "100000", "--deadline", "2h"],
    "fit": ["fit", "study", "-n", "8"],
    "env": ["env"],
    "trace": ["trace", "traces"],
    "compare": ["trace", "traces", "--against", "traces"],
    "extrapolate": ["extrapolate", "table.csv", "-n", "8", "16"],
}
NUMBER = re.compile(r"(?<![\w.])[+-]?\d[\d.,]*\d")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shown")
    finished_study(root / "study")
    for rank, events in enumerate((RANK_0, RANK_1)):
        write_trace(root / "traces" / f"rank{rank}.json.gz", events, header(rank, 2))
    (root / "table.csv").write_text("n_gpus,throughput\n1,100\n2,190\n4,350\n")
    return root


def drawn(sheet: Sheet, columns: int = 80) -> list[str]:
    """Return the lines that a terminal of this width shows."""
    file = io.StringIO()
    print_sheet(sheet, Console(file=file, width=columns, force_terminal=True, highlight=False))
    return COLOUR.sub("", file.getvalue()).splitlines()


def words_of(text: str) -> Counter[str]:
    return Counter(word.strip(":") for word in text.replace("─", "").split())


def numbers_of(text: str) -> Counter[str]:
    return Counter(NUMBER.findall(text))


OnTerminal = Callable[..., str]


@pytest.fixture
def forked_on(folder: Path, zygote: Zygote, monkeypatch: pytest.MonkeyPatch) -> OnTerminal:
    """What a command shows on a terminal, in the folder of what is read."""
    for name in ("NO_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)
    return partial(forked_on_terminal, zygote)


@pytest.mark.processes
@pytest.mark.parametrize("verb", VERBS)
def test_a_terminal_shows_what_a_pipe_gets(verb: str, forked_on: OnTerminal, capsys: pytest.CaptureFixture[str]) -> None:
    main(VERBS[verb])
    plain = capsys.readouterr().out
    shown = COLOUR.sub("", forked_on(VERBS[verb]))
    assert "\x1b" not in plain + shown
    assert not words_of(plain) - words_of(shown)
    assert max(map(len, shown.splitlines())) <= 80
    narrow = COLOUR.sub("", forked_on(VERBS[verb], columns=60))
    assert max(map(len, narrow.splitlines())) <= 60
    assert not numbers_of(plain) - numbers_of(narrow)


@pytest.mark.processes
def test_a_pipe_gets_plain_text_and_a_dumb_terminal_too(forked_on: OnTerminal) -> None:
    piped = subprocess.run([Path(sys.executable).parent / "commprof", "fit", "study"], capture_output=True, text=True).stdout
    assert piped.splitlines()[2] == "ranks                   latency          bandwidth (algbw)       busbw half-size"
    assert forked_on(["fit", "study"], TERM="dumb") == piped.replace("\n", "\r\n")


@pytest.mark.processes
def test_colours_are_there_and_can_be_refused(forked_on: OnTerminal) -> None:
    coloured, plain = forked_on(["predict", "study"]), forked_on(["predict", "study"], NO_COLOR="1")
    assert "\x1b[32m" in coloured
    assert "\x1b" not in plain
    assert COLOUR.sub("", coloured) == plain


@pytest.mark.processes
def test_a_terminal_without_unicode_gets_ascii(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    shown = on_terminal(["predict", "study"], PYTHONIOENCODING="ascii")
    assert shown.isascii() and "-----" in shown and "\\u" not in shown


@pytest.mark.processes
def test_rich_is_loaded_for_a_terminal_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process, in which no command after another loads it."""
    monkeypatch.chdir(folder)
    lines = ["import contextlib, sys", "from commprof.cli import main"]
    for words in (["--help"], ["predict", "--help"], ["predict", "study"], ["predict", "study", "--json"]):
        lines += [f"with contextlib.suppress(SystemExit): main({words})", "print('rich' in sys.modules, file=sys.stderr)"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=DEADLINE_S)
    assert [line for line in done.stderr.splitlines() if line in ("True", "False")] == ["False"] * 4


def test_text_from_outside_is_shown_as_it_is() -> None:
    hostile = "[red]x[/red] :smile: \x1b[2J\u202e\n\x9b1A"
    columns = (Column(name=hostile, left=True, key=True), Column(name="value"), Column(folds=True, left=True))
    sheet = [Words(hostile), line(hostile), Table(columns=columns, rows=[Row((hostile, hostile, Cell(hostile, "bad")))])]
    seen = "[red]x[/red] :smile: \\x1b[2J\\x202e\\x0a\\x9b1A"
    for text in (plain_text(sheet), "\n".join(drawn(sheet, 100)), "\n".join(drawn(sheet, 200))):
        assert not set("\x1b\u202e\x9b") & set(text)
        assert text.count(seen) >= 2 and text.count("[red]x[/red]") >= 5


def test_verdicts_say_in_words_what_their_colours_say() -> None:
    verdicts = [Verdict(name=f"[b]{word}", ok=ok, message="why") for word, ok in (("a", False), ("b", None), ("c", True))]
    lines = drawn(check_sheet(verdicts))
    assert lines == [
        "FAIL  [b]a  why",
        "SKIP  [b]b  why",
        "PASS  [b]c  why",
        "FAIL: 1 failed, 0 noted, 1 not checked, 1 passed",
    ]


def test_a_table_that_is_too_wide_is_shown_in_parts() -> None:
    names = [f"n{k}" for k in range(8)]
    columns = [Column(name="rank", key=True), *(Column(name=name) for name in names)]
    table = Table(columns=columns, rows=[Row((str(rank), *(f"{rank}{k}.123456 ms" for k in range(8)))) for rank in (1, 2)])
    shown = drawn([table], 60)
    assert max(map(len, shown)) <= 60
    assert [row.split()[0] for row in shown if row and "─" not in row] == ["rank", "1", "2"] * 2
    assert all(f"{rank}{k}.123456 ms" in "\n".join(shown) for rank in (1, 2) for k in range(8))


def test_no_value_is_cut_where_no_column_has_room() -> None:
    table = Table(columns=[Column(name="rank", key=True), Column(name="step")], rows=[Row(("0", "123.456789 ms (90 to 200)"))])
    assert "123.456789 ms (90 to 200)" in "".join(drawn([table], 20))


def test_words_fold_within_their_column_and_values_never_do() -> None:
    saved, what = "123.4 ms (100.1 to 200.2)", "a sentence that is longer than the terminal is wide and says 12.5 ms"
    table = Table(columns=[Column(before="", key=True), Column(left=True, folds=True)], rows=[Row((saved, what))])
    shown = drawn([table], len(saved) + 22)
    assert len(shown) > 1 and shown[0].startswith(f"{saved}  a sentence")
    assert all(row.startswith(" " * (len(saved) + 2)) for row in shown[1:])
    assert " ".join(" ".join(shown).split()) == f"{saved} {what}"


def test_what_is_said_below_a_row_stands_below_it() -> None:
    rows = [Row(("1 ms", "first"), [Words("how", "      ")]), Row(("2 ms", "second"))]
    table = Table(columns=[Column(width=6), Column(name="what", left=True, folds=True)], rows=rows)
    assert plain_text([table]).splitlines() == ["          what", "    1 ms  first", "      how", "    2 ms  second"]
    assert [row.split()[-1] for row in drawn([table]) if "─" not in row] == ["what", "first", "how", "second"]


def test_sheets_are_set_apart_and_shared_headings_stand_once_in_plain_text() -> None:
    columns = [Column(name=name, over=over, width=6, before="") for name, over in (("a", "x"), ("b", "x"), ("c", "y"))]
    table = Table(columns=columns, rows=[Row(("1", "2", "3"))])
    last: Block = Table(columns=columns, rows=[], over_last=True)
    expected = [
        "     x           y",
        "     a     b     c",
        "     1     2     3",
        "",
        "           x     y",
        "     a     b     c",
    ]
    assert plain_text(joined([[table], [], [last]])).splitlines() == expected
    assert drawn([GAP, table])[1].split() == ["x", "x", "y"]


def test_no_color_is_a_matter_of_having_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "")
    assert console_on(io.StringIO()).color_system is not None
    monkeypatch.setenv("NO_COLOR", "1")
    assert console_on(io.StringIO()).color_system is None
