"""What every page promises its readers, asked of a browser: wide, on a telephone, light, dark and printed, all in one start.

The pages are the gallery's as they are written now, one of a sharded training, and one of a study with many cells.
"""

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.browser import chromium
from benchmarks.examples import write_examples
from benchmarks.frames import CROSSED, FRAMES, look
from benchmarks.report_cost import add_study
from commprof.analysis.report.page.html import render
from commprof.analysis.report.sections.build import write_report
from commprof.analysis.report.study.grid_page import build_grid_report
from commprof.analysis.report.study.pages import read_grid
from commprof.analysis.runs.load import load_runs
from commprof.analysis.study.experiment import cells_of
from tests.factory import workload
from tests.unit.analysis.report.explorer.test_explorer import folders, shard, study

MOST_WORDS = 1200
PAGES = ("scales", "does-not-scale", "log-import", "sharded", "cells")
pytestmark = pytest.mark.processes

ASK = Path(__file__).with_name("ask_page.js").read_text("utf-8")


def write_pages(root: Path) -> list[Path]:
    """Write PAGES into the folder."""
    sharded, cells = root / "sharded.html", root / "cells.html"
    training = study(root / "training", "gloo", workload())
    shard(training)
    write_report(folders(training), sharded)
    many = add_study(root / "many", ("tiny", "small"), ("100mbit", "1gbit", "10gbit"))
    cells.write_text(render(build_grid_report(read_grid(many, cells_of(load_runs([many]))))), "utf-8")
    return [*write_examples(root), sharded, cells]


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return what each frame of each page answers."""
    if chromium() is None:
        pytest.skip("no Chromium; apt-get install chromium")
    pages = write_pages(tmp_path_factory.mktemp("pages"))
    visited = look({page: FRAMES if page.stem == "does-not-scale" else CROSSED for page in pages}, ASK)
    assert visited.console == (), "the browser's console has something to say"
    assert isinstance(visited.value, dict)
    return visited.value


@pytest.fixture
def seen(looked: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The page of a training whose two and four ranks are slower than one."""
    return looked["does-not-scale"]


@pytest.fixture(params=PAGES)
def frames(request: pytest.FixtureRequest, looked: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return looked[request.param]


def told(frames: dict[str, Any], what: str) -> dict[str, Any]:
    return {name: frame[what] for name, frame in frames.items() if frame[what]}


def test_text_stands_out_from_its_ground(frames: dict[str, Any]) -> None:
    assert told(frames, "pale") == {}


def test_no_words_of_a_figure_lie_on_others_and_all_can_be_read(frames: dict[str, Any]) -> None:
    assert told(frames, "overlaps") == {}
    assert told(frames, "small") == {}


def test_nothing_is_cut_off_or_sticks_out(frames: dict[str, Any]) -> None:
    assert told(frames, "clipped") == {}
    assert told(frames, "scrolling") == {}
    assert frames["phone"]["width"] <= 390


def test_a_page_is_read_in_a_few_minutes(frames: dict[str, Any]) -> None:
    words = {name: frame["unfolded"] for name, frame in frames.items() if name != "print"}
    assert {name: count for name, count in words.items() if not 100 < count <= MOST_WORDS} == {}


def test_a_page_prints_all_of_it(seen: dict[str, Any]) -> None:
    assert seen["wide"]["hidden"] == seen["wide"]["folded"] > 4
    assert seen["print"]["hidden"] == 0


def test_the_answer_comes_first_then_what_can_be_tried_then_the_figures(seen: dict[str, Any]) -> None:
    assert seen["wide"]["order"][:4] == ["number", "sentences", "what-if", "pictures"]
    assert seen["wide"]["title"] == "How many ranks for small: 1, 2 or 4?"
    assert seen["wide"]["screen"].count("interval") == seen["wide"]["screen"].count("90 % interval") + 2  # inside its interval
    colours = {name: seen[name]["navigation"] for name in ("wide", "dark")}
    assert colours == {"wide": "rgb(163, 59, 8)", "dark": "rgb(156, 58, 12)"}, "no: the navigation is red"


def test_every_mark_says_its_value_to_pointer_and_keys(frames: dict[str, Any]) -> None:
    one = frames["wide" if "wide" in frames else "wide-dark"]
    assert one["bare"] == []
    assert len(one["told"]) >= 1
    for hovered, by_key, live, focused, figure in one["told"]:
        assert hovered, figure
        assert by_key
        assert live == "polite"
        assert focused, figure
    assert one["escaped"]


def test_the_explorer_begins_at_the_verdict_moves_its_interval_and_keeps_its_state_in_the_address(seen: dict[str, Any]) -> None:
    found = seen["wide"]["explored"]
    assert found["ranks"] == "4"
    assert found["offered"] == [2, 4], "of 8 and more this machine knows nothing"
    assert found["all"] == [2, 4, 8, 16, 32, 64], "with a wire chosen the model can be asked"
    (_, begun), (_, moved) = found["start"], found["moved"]
    assert begun != moved
    assert found["address"] == "#what-if&bandwidth=1"
    assert found["rows"] == ["measured", "predicted", "changed"]
    assert found["back"] == found["start"]
    assert found["linked"] == ["2", "1"]


def seconds(words: str, pattern: str) -> float:
    found = re.search(rf"([\d.]+) (us|ms|s) {pattern}", words)
    return 0.0 if found is None else float(found[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[found[2]]


@pytest.mark.parametrize("page", ["scales", "does-not-scale", "sharded"])
def test_the_words_of_the_explorer_say_what_its_bars_show(looked: dict[str, dict[str, Any]], page: str) -> None:
    """What is exposed and what is copied follow the last gradient, but for what slows computation or is sent before it."""
    found = looked[page]["phone"]["explored"]
    said, (bar,) = found["summary"], [label for label in found["labels"] if label.startswith("predicted")]
    parts = [seconds(said, what) for what in ("of it exposed", "copies out of buckets", "slows computation", "sends buffers")]
    shown_s = parts[0] + parts[1] - parts[2] - parts[3]
    assert shown_s > 0
    assert seconds(bar, "of it after the last gradient") == pytest.approx(shown_s, rel=0.015)


def test_the_explorer_says_what_it_cannot_change_of_a_sharded_step(looked: dict[str, dict[str, Any]]) -> None:
    found = looked["sharded"]["phone"]["explored"]
    assert found["sharded"] == [[name, True, True, 1] for name in ("fsdp", "hsdp", "zero2")]
    assert not found["ddp"]
