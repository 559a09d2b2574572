"""What the page promises its readers, asked of a browser: wide, on a telephone, dark and printed, all in one start."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.browser import chromium
from benchmarks.frames import FRAMES, look
from benchmarks.made_up_study import Machine, write_study
from commprof.analysis.report.sections.build import write_report

MOST_WORDS = 1200
LEAST_TEXT_PX = 10.0
SLOW = Machine(
    experiment="small",
    num_parameters=1_930_000,
    layers=12,
    step_s=0.0195,
    latency_s=400e-6,
    bandwidth_bytes_per_s=0.11e9,
    device="made up",
)
pytestmark = pytest.mark.processes

ASK = Path(__file__).with_name("ask_page.js").read_text("utf-8")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what each frame answers, for a study whose two and four ranks are slower than one."""
    if chromium() is None:
        pytest.skip("no Chromium; apt-get install chromium")
    page = write_report([write_study(tmp_path_factory.mktemp("page") / "slow", SLOW, (2, 4))], None).page
    visited = look(page, ASK)
    assert visited.console == (), "the browser's console has something to say"
    assert isinstance(visited.value, dict)
    return visited.value


@pytest.fixture(params=[frame.name for frame in FRAMES])
def frame(request: pytest.FixtureRequest, seen: dict[str, Any]) -> dict[str, Any]:
    return seen[request.param]  # type: ignore[no-any-return]


def test_text_stands_out_from_its_ground(frame: dict[str, Any]) -> None:
    assert frame["pale"] == []


def test_no_words_of_a_figure_lie_on_others_and_all_can_be_read(frame: dict[str, Any]) -> None:
    assert frame["overlaps"] == []
    assert frame["small"] == []


def test_nothing_is_cut_off_or_sticks_out(frame: dict[str, Any]) -> None:
    assert frame["clipped"] == []
    assert frame["scrolling"] == []


def test_a_page_is_read_in_a_few_minutes_and_prints_all_of_it(seen: dict[str, Any]) -> None:
    assert 200 < seen["wide"]["unfolded"] <= MOST_WORDS
    assert seen["phone"]["width"] <= 390
    assert seen["wide"]["hidden"] == seen["wide"]["folded"] > 4
    assert seen["print"]["hidden"] == 0


def test_the_answer_comes_first_then_what_can_be_tried_then_the_figures(seen: dict[str, Any]) -> None:
    assert seen["wide"]["order"][:4] == ["number", "sentences", "what-if", "pictures"]
    assert seen["wide"]["title"] == "How many ranks should train small: 1, 2 or 4?"
    assert seen["wide"]["screen"].count("interval") == seen["wide"]["screen"].count("90 % interval") + 2  # inside its interval
    colours = {name: seen[name]["navigation"] for name in ("wide", "dark")}
    assert colours == {"wide": "rgb(163, 59, 8)", "dark": "rgb(156, 58, 12)"}, "no: the navigation is red"


def test_every_mark_says_its_value_to_pointer_and_keys(seen: dict[str, Any]) -> None:
    wide = seen["wide"]
    assert wide["bare"] == []
    assert len(wide["told"]) >= 4
    for hovered, by_key, live, focused, figure in wide["told"]:
        assert hovered
        assert by_key
        assert live == "polite"
        assert focused, figure
    assert wide["escaped"]


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
