"""What people who wait are told: one line on a terminal, a few in a log, nothing where nothing is known."""

import io
import os
import pty
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from commprof.analysis.traces.one_rank import files as trace_files
from commprof.commbench.pace import RoundPace, SweepPace
from commprof.commbench.progress import TERMINAL_VARIABLE, activity, format_wait, progress, terminal
from tests.traces import header, write_trace
from tests.unit.analysis.traces.test_budget import RANK_0


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@contextmanager
def watching(monkeypatch: pytest.MonkeyPatch, term: str = "xterm") -> Iterator[Callable[[int], str]]:
    """Make standard error a terminal of 40 columns; yield what returns the next so many characters that it is sent."""

    def read(length: int) -> str:
        text = ""
        while len(text) < length and select.select([ours], [], [], 5.0)[0]:
            text += os.read(ours, length - len(text)).decode()
        return text

    ours, theirs = pty.openpty()
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((40, 24)))
    monkeypatch.setenv("TERM", term)
    with os.fdopen(theirs, "w") as screen:
        monkeypatch.setattr(sys, "stderr", screen)
        yield read
    os.close(ours)


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
    clock = Clock()
    with watching(monkeypatch) as seen:
        with progress("step", 100, clock=clock) as report:
            for done in range(1, 4):
                clock.now_s += 1.5
                report(done, "loss 1.234  5,678 samples/s  90 ms/step")
            report(4, "too soon")
            report.clear()
            lines = (
                "\r\x1b[Kstep 1/100  loss 1.234  5,678 samples/s"
                "\r\x1b[Kstep 2/100  loss 1.234  remaining 2 min"
                "\r\x1b[Kstep 3/100  loss 1.234  remaining 2 min"
                "\r\x1b[K"
            )
            assert seen(len(lines)) == lines
            report(5, "")
        last = "\r\x1b[Kstep 5/100  remaining 86 s\r\x1b[K"
        assert seen(len(last)) == last
        with activity("bench-n2") as show:
            show("a line\tof its log, longer an the terminal is wide")
        stage = "\r\x1b[Kbench-n2\r\x1b[Kbench-n2  a line\\x09of its log, longer \r\x1b[K"
        assert seen(len(stage)) == stage


def test_a_terminal_that_cannot_erase_is_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    with watching(monkeypatch, "dumb") as seen:
        with progress("step", 100, clock=clock) as report:
            clock.now_s += 5
            report(50, "")
        assert seen(28) == "step 50/100  remaining 5 s\r\n"


def test_a_rank_whose_launcher_has_the_terminal_shows_its_line_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its standard error is the launcher's pipe. Without a launcher that says so, a terminal gets results alone."""
    with watching(monkeypatch):
        monkeypatch.setattr(sys, "stdout", sys.stderr)
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        assert terminal() is None
        monkeypatch.setenv(TERMINAL_VARIABLE, "1")
        assert terminal() is sys.stdout


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
