"""What people who wait are told: one line on a terminal, a few in a log, nothing where nothing is known."""

import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from commprof.analysis.traces.one_rank import files as trace_files
from commprof.commbench.display.terminal import clear_line
from commprof.commbench.pace import RoundPace, SweepPace
from commprof.commbench.progress import TERMINAL_VARIABLE, activity, format_wait, progress, terminal
from tests.terminals import COLOUR, screen
from tests.traces import header, write_trace
from tests.unit.analysis.traces.all_ranks.test_budget import RANK_0


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Screen(io.StringIO):
    """A terminal as a process sees it; `lines` stand on it by now."""

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        return screen(self.getvalue())[0]


def watch(monkeypatch: pytest.MonkeyPatch, columns: int = 40) -> Screen:
    """Make standard error a terminal so wide."""
    watched = Screen()
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((columns, 24)))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stderr", watched)
    return watched


def test_a_log_has_a_line_now_and_then_and_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with progress("step", 300, first=100, clock=clock) as report:
        for done in range(101, 301):
            clock.now_s += 1
            report(done, f"loss {done}.0\x1b[2J")
    first, second, *_, last = capsys.readouterr().err.splitlines()
    assert first == "step 105/300  loss 105.0\\x1b[2J  remaining 3 min"
    assert second.startswith("step 110/300")
    assert last == "step 300/300  loss 300.0\\x1b[2J  took 3 min"


def test_a_long_log_stays_short(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with progress("step", 36_000, clock=clock) as report:
        for done in range(1, 36_001):
            clock.now_s += 1
            report(done, "")
    lines = capsys.readouterr().err.splitlines()
    assert 10 * 60 <= len(lines) < 10 * 60 + 30
    assert lines[0] == "step 5/36000  remaining 10.0 h" and lines[-1] == "step 36000/36000  took 10.0 h"


def test_short_work_and_other_ranks_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    for enabled in (True, False):
        with progress("step", 4, enabled=enabled, clock=clock) as report:
            for done in range(1, 5):
                clock.now_s += 1 if enabled else 100
                report(done, "x")
    with activity("bench") as show:
        show("x")
    assert capsys.readouterr().err == ""


def test_a_terminal_has_one_line_that_fits_and_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What remains stays in sight."""
    watched = watch(monkeypatch)
    clock = Clock()
    with progress("step", 100, clock=clock) as report:
        clock.now_s += 1.5
        report(1, "loss 1.234  5,678 samples/s  90 ms/step")
        assert watched.lines == ["step 1/100  loss 1.234  5,678 samples/"]
        for done in (2, 3):
            clock.now_s += 1.5
            report(done, "loss 1.234  5,678 samples/s  90 ms/step")
            assert watched.lines == [f"step {done}/100  loss 1.234   remaining 2 min"]
        report(4, "too soon")
        assert watched.lines == ["step 3/100  loss 1.234   remaining 2 min"]
        report.clear()
        assert watched.lines == [""]
        report(5, "")
        assert watched.lines == ["step 5/100  remaining 86 s"]
    assert watched.lines == ["", ""]
    with activity("bench-n2") as show:
        assert watched.lines[0] == "bench-n2"
        show("a line\tof its log, longer than the terminal is wide")
        assert watched.lines[0] == "bench-n2  a line\\x09of its log, longer"
    show("a thread's late word")
    assert watched.lines == ["", ""]


def test_a_wide_terminal_shows_a_bar_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = watch(monkeypatch, 100)
    clock = Clock()
    with progress("step", 10, clock=clock) as report:
        clock.now_s += 5
        report(5, "x")
        assert watched.lines == ["━━━━━━━━━━╺━━━━━━━━━ step 5/10  x  remaining 5 s"]
    assert "\x1b[2m" in watched.getvalue(), "what is to come is faint"


def test_no_color_draws_the_bar_as_far_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = watch(monkeypatch, 100)
    monkeypatch.setenv("NO_COLOR", "1")
    clock = Clock()
    with progress("step", 10, clock=clock) as report:
        clock.now_s += 5
        report(5, "[red]x[/red]")
        assert watched.lines == ["━━━━━━━━━━           step 5/10  [red]x[/red]  remaining 5 s"]
    assert not COLOUR.search(watched.getvalue())


def test_other_output_may_come_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launcher clears the line before it passes a rank's words on, in another process than the one that draws."""
    watched = watch(monkeypatch)
    clock = Clock()
    with progress("step", 100, clock=clock) as report:
        for done in (50, 60):
            clock.now_s += 1
            report(done, "")
            clear_line(watched)
            watched.write(f"rank 1: words after {done}\n")
        clock.now_s += 1
        report(70, "")
        assert watched.lines == ["rank 1: words after 50", "rank 1: words after 60", "step 70/100  remaining 1 s"]
    assert watched.lines == ["rank 1: words after 50", "rank 1: words after 60", "", ""]


def test_no_thread_draws_and_an_interruption_leaves_a_whole_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = watch(monkeypatch)
    clock, threads = Clock(), threading.enumerate()

    def interrupted() -> None:
        with progress("step", 100, clock=clock) as report, activity("bench-n2") as show:
            clock.now_s += 1
            report(1, "")
            show("x")
            assert threading.enumerate() == threads
            assert screen(watched.getvalue())[1], "a process that is killed now leaves a cursor"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    lines, cursor = screen(watched.getvalue())
    assert not any(lines) and cursor


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_erase_is_a_log(monkeypatch: pytest.MonkeyPatch, term: str) -> None:
    watched = watch(monkeypatch)
    monkeypatch.setenv("TERM", term)
    clock = Clock()
    with progress("step", 100, clock=clock) as report:
        clock.now_s += 5
        report(50, "")
    assert watched.getvalue() == "step 50/100  remaining 5 s\n"


def test_a_rank_whose_launcher_has_the_terminal_shows_its_line_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its standard error is the launcher's pipe. Without a launcher that says so, a terminal gets results alone."""
    watched = watch(monkeypatch)
    monkeypatch.setattr(sys, "stdout", watched)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert terminal() is None
    monkeypatch.setenv(TERMINAL_VARIABLE, "1")
    assert terminal() is watched


def test_reading_traces_tells_the_bytes_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [write_trace(tmp_path / f"{rank}.json", RANK_0, header(rank)) for rank in range(1)]
    told: list[float] = []

    @contextmanager
    def listening(title: str, total: float, **_: object) -> Iterator[Callable[[float, str], None]]:
        told.extend([-total])
        yield lambda done, _: told.append(done)

    monkeypatch.setattr(trace_files, "progress", listening)
    trace_files.read_all(paths)
    size = paths[0].stat().st_size
    assert (told[0], set(told[1:-1]), told[-1]) == (-size, {size - 1}, size)


def test_a_sweep_with_a_budget_takes_what_its_sizes_took_so_far() -> None:
    """Sizes weigh 1 + S / 50 MB: 1, 1 and 3; both first ones took 2 s of their 6 s, so the last will take 6 s of its 18."""
    pace = SweepPace([(1, "in"), (2, "in"), (100_000_000, "in")], 30.0)
    pace.note(2.0)
    assert pace.left_s(1, 2.0) == pytest.approx(8.0)
    pace.note(4.0)
    assert pace.left_s(2, 4.0) == pytest.approx(6.0)
    assert pace.left_s(2, 29.0) == 1.0  # never more than the budget holds


def test_a_sweep_of_so_many_calls_is_told_once_time_grows_with_size() -> None:
    pace = SweepPace([(size, place) for size in (1, 2, 4, 8, 16) for place in ("in", "out")], None)
    at_s = 0.0
    for seconds in (1.0, 1.0, 1.1, 1.1):
        at_s += seconds
        pace.note(at_s)
    assert pace.left_s(4, at_s) is None  # still latency: 8 and 16 may take as long, or four times that
    for seconds in (2.2, 2.2):
        at_s += seconds
        pace.note(at_s)
    assert pace.left_s(6, at_s) == pytest.approx(2 * (4.4 + 8.8))


def test_rounds_are_told_from_whole_rounds() -> None:
    pace = RoundPace(total=12, per_round=2)  # six pairs of ranks; the second size takes nearly all of the time
    pace.note(1, 0.1)
    assert pace.left_s(1, 0.1) is None
    pace.note(2, 5.0)
    pace.note(3, 5.1)
    assert pace.left_s(3, 5.1) == pytest.approx(6 * 5.0 - 5.1)


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (89, "89 s"), (200, "3 min"), (5399, "90 min"), (9000, "2.5 h")])
def test_waits_are_rounded_as_estimates_deserve(seconds: float, words: str) -> None:
    assert format_wait(seconds) == words
