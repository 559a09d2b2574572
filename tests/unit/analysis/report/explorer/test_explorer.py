"""The page's what-if against Python's, in a browser."""

import json
import random
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from benchmarks.browser import chromium, visit
from commprof.analysis.report.explorer.draws import kept_draws
from commprof.analysis.report.explorer.page_data import PageData, page_data
from commprof.analysis.report.explorer.sharded import SHARDED, ShardedPlace, sharded_place
from commprof.analysis.report.sections.build import write_report
from commprof.analysis.runs.load import load_runs
from commprof.analysis.step.estimate import Setting, estimate, interval, own_paces, speedup
from commprof.analysis.step.gather import gather
from commprof.analysis.step.inputs import SingleRank, StepInputs
from commprof.analysis.strategies.choose import Asked, choose
from commprof.analysis.strategies.estimate import ShardedEstimate, ShardedSetting, estimate_sharded
from commprof.analysis.strategies.inputs import ShardedInputs, sharded_inputs
from commprof.analysis.strategies.results import Strategy
from commprof.analysis.strategies.text import memory_text
from tests.factory import (
    MIB,
    workload,
)
from tests.unit.analysis.report.explorer.explorer_studies import folders, shard, study

WORLD_SIZES = (2, 4, 8, 16, 32, 64)
CHECKED = ("step_s", "compute_s", "exposed_s", "speedup", "backward_start_s", "compute_end_s")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """gloo under plain DDP, NCCL with two-byte gradients in micro-batches, and gloo with gradients sent after backward."""
    root = tmp_path_factory.mktemp("studies")
    cases = [
        ("gloo", workload(buffer_bytes=3 * MIB)),
        (
            "nccl",
            workload(
                communication_hook="bf16",
                accumulation=4,
                first_bucket_bytes=4 * MIB,
                bucket_cap_bytes=4 * MIB,
                buffer_bytes=MIB,
            ),
        ),
        ("gloo", workload(synchronisation="delayed")),
    ]
    roots = [study(root / str(i), backend, work) for i, (backend, work) in enumerate(cases)]
    shard(roots[0])
    return roots


def random_setting(draw: random.Random) -> tuple[int, Setting]:
    cap = draw.choice([None, (MIB, 25 * MIB), *((mib * MIB, mib * MIB) for mib in (1, 2, 5, 10, 100))])
    return draw.choice(WORLD_SIZES), Setting(
        batch=2 ** draw.uniform(-3, 4),
        accumulation=draw.randint(1, 16),
        caps_bytes=cap,
        sent_share=draw.choice([None, 0.5]),
        bandwidth=10 ** draw.uniform(-1, 2),
        latency=10 ** draw.uniform(-1, 1),
    )


def said_by_python(inputs: StepInputs, single: SingleRank, setting: Setting) -> dict[str, Any]:
    known = estimate(inputs, setting)
    return {
        "step_s": float(known.step_s[0]),
        "compute_s": float(known.compute_s[0]),
        "exposed_s": float(known.exposed_s[0]),
        "speedup": speedup(inputs, single, setting, known),
        "backward_start_s": known.backward_start_s,
        "compute_end_s": float(known.timelines.compute_end_s[0]),
        "interval_s": interval(known.step_s[[0, *kept_draws(estimate(inputs).step_s)]]),
        "starts_s": known.timelines.start_s[0].tolist(),
        "dones_s": known.timelines.done_s[0].tolist(),
    }


def for_page(world_size: int, setting: Setting) -> dict[str, Any]:
    names = ("batch", "accumulation", "sent_share", "bandwidth", "latency")
    return {
        "world_size": world_size,
        "cap_bytes": setting.caps_bytes,
        **{name: getattr(setting, name) for name in names},
    }


DRIVE = """
const said = () => document.querySelector("#what-if [role=status]").innerText;
const pictures = () => ["timeline", "speedup"].map((name) => document.getElementById("what-if-" + name).innerHTML);
const first = said();
const drawn = pictures();
const moves = { ranks: 2, wire: 0, bandwidth: 1, latency: -1, batch: 2, accumulation: 3, cap: 2, precision: 0.5 };
const effects = {};
for (const [name, value] of Object.entries(moves)) {
  const control = document.getElementById("what-if-" + name);
  const before = pictures();
  control.value = value;
  control.dispatchEvent(new Event("input"));
  effects[name] = { labels: control.labels.length, redrawn: pictures().filter((picture, i) => picture !== before[i]).length,
    words: control.getAttribute("aria-valuetext") };
}
const changed = said();
const strategy = document.getElementById("what-if-strategy");
strategy.value = "hsdp";
strategy.dispatchEvent(new Event("input"));
const listed = [...document.querySelectorAll("#what-if-strategies tbody tr")];
const sharded = { said: said(), picture: document.querySelector("#what-if-timeline svg").getAttribute("aria-label"),
  rows: listed.map((row) => [...row.children].map((cell) => cell.textContent)),
  off: ["batch", "accumulation", "cap", "precision"].every((name) => document.getElementById("what-if-" + name).disabled) };
const spoken = [...document.querySelectorAll("#what-if svg")].map((svg) => svg.getAttribute("aria-label"));
document.getElementById("what-if-reset").click();
const back = said() === first && pictures().every((picture, i) => picture === drawn[i]);
const answers = asked.map(([data, settings]) => settings.map((setting) => {
  const found = evaluate(data, setting);
  return { ...found, interval_s: intervals(data, setting, found).step_s };
}));
const answersSharded = askedSharded.map(([place, settings]) => settings.map((setting) => {
  const found = evaluateSharded(place, setting);
  const all = place.strategies.map((one) => ({ ...setting, strategy: one.strategy }));
  return { ...found, drawn: drawnSteps(null, place, setting), told: compared(null, place, all) };
}));
return { first, changed, effects, spoken, back, answers, sharded, answersSharded };
"""


@pytest.fixture(scope="module")
def asked(studies: list[Path]) -> list[tuple[tuple[StepInputs, ...], SingleRank, PageData, list[tuple[int, Setting]]]]:
    """What is asked of each study: its inputs, one rank's step, the page's data, and 90 random settings."""
    draw = random.Random(0)
    found = []
    for root in studies:
        runs = load_runs(folders(root))
        gathered = gather(runs, WORLD_SIZES)
        found.append((gathered.at, gathered.single, page_data(runs, (2, 4)), [random_setting(draw) for _ in range(90)]))
    return found


@dataclass(frozen=True)
class Wished:
    strategy: Strategy
    bandwidth: float
    latency: float


@dataclass(frozen=True)
class Playable:
    work_s: float
    own_paces: tuple[tuple[float, ...], ...]
    strategies: tuple[ShardedPlace, ...]


AskedSharded = tuple[dict[Strategy, ShardedInputs], Playable, list[Wished]]
SOME_DRAWS = tuple(range(1, 200, 7))


@pytest.fixture(scope="module")
def asked_sharded(studies: list[Path]) -> list[AskedSharded]:
    """The first study's strategies on four ranks, as gloo's collectives block and as streams would play them."""
    draw, found = random.Random(1), []
    runs = load_runs(folders(studies[0]))
    for blocking in (True, False):
        inputs = {own: replace(sharded_inputs(runs, 4, 2 if own == "hsdp" else 1), blocking=blocking) for own in SHARDED}
        places = tuple(sharded_place(inputs[own], own, SOME_DRAWS, None) for own in SHARDED)
        wishes = [Wished(draw.choice(SHARDED), 10 ** draw.uniform(-1, 2), 10 ** draw.uniform(-1, 1)) for _ in range(30)]
        paces = own_paces(200, inputs["fsdp"].drift, 0.0)[:, list(SOME_DRAWS)]
        found.append((inputs, Playable(1.0, tuple(map(tuple, paces.tolist())), places), wishes))
    return found


@pytest.fixture(scope="module")
def page(studies: list[Path]) -> Path:
    """The first study's report."""
    return write_report(folders(studies[0]), studies[0].parent / "report.html").page


@pytest.fixture(scope="module")
def driven(
    page: Path, asked: list[tuple[Any, float, PageData, list[tuple[int, Setting]]]], asked_sharded: list[AskedSharded]
) -> dict[str, Any]:
    """The page with its controls moved, and its answers to everything asked, of the other studies too."""
    if chromium() is None:
        pytest.skip("no Chromium; apt-get install chromium")
    given = [[msgspec.to_builtins(data), [for_page(*one) for one in settings]] for _, _, data, settings in asked]
    places = [[msgspec.to_builtins(page_place), list(map(asdict, settings))] for _, page_place, settings in asked_sharded]
    visited = visit(page, f"const asked = {json.dumps(given)}; const askedSharded = {json.dumps(places)};{DRIVE}")
    assert visited.console == ()
    assert isinstance(visited.value, dict)
    return visited.value


@pytest.mark.processes
def test_the_page_gives_the_same_answers_as_python(driven: dict[str, Any], asked: list[Any]) -> None:
    """270 settings, of which the wish was 200 to 0.1 %; every bucket's start and landing with them."""
    for (known, single, _, settings), answers in zip(asked, driven["answers"], strict=True):
        by_size = {inputs.world_size: inputs for inputs in known}
        for (world_size, setting), answer in zip(settings, answers, strict=True):
            expected = said_by_python(by_size[world_size], single, setting)
            for name in CHECKED:
                assert answer[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-7), (name, world_size, setting)
            span = answer["interval_s"]
            assert (span["low"], span["high"]) == pytest.approx(
                (expected["interval_s"].low, expected["interval_s"].high), rel=1e-3
            )
            for name, mark in (("start_s", "starts_s"), ("done_s", "dones_s")):
                assert [bucket[name] for bucket in answer["buckets"]] == pytest.approx(expected[mark], rel=1e-4)


@pytest.mark.processes
def test_the_page_plays_sharded_steps_as_python_does(driven: dict[str, Any], asked_sharded: list[AskedSharded]) -> None:
    """Every collective of the prediction, on streams too; a draw's step exactly where collectives block, else within 2 %."""
    for (inputs, place, wishes), answers in zip(asked_sharded, driven["answersSharded"], strict=True):
        for wish, answer in zip(wishes, answers, strict=True):
            known = {own: estimate_sharded(inputs[own], setting_of(own, wish)) for own in SHARDED}
            expected = known[wish.strategy]
            for name in ("step_s", "compute_s", "exposed_s"):
                assert answer[name] == pytest.approx(getattr(expected, name)[0], rel=1e-6), (name, wish)
            assert answer["speedup"] == pytest.approx(1 / expected.step_s[0], rel=1e-6)
            for name in ("start_s", "done_s"):
                times = [float(getattr(each, name)[0]) for each in expected.played.exchanges]
                assert [each[name] for each in answer["exchanges"]] == pytest.approx(times, rel=1e-6, abs=1e-9)
            exact = inputs[wish.strategy].blocking
            assert answer["drawn"] == pytest.approx(expected.step_s[list(SOME_DRAWS)], rel=1e-4 if exact else 0.02)
            if exact:
                assert (answer["told"]["fastest"], set(answer["told"]["within_noise"])) == told_apart(known, *place.own_paces)


def setting_of(strategy: Strategy, wish: Wished) -> ShardedSetting:
    return ShardedSetting(resharded=strategy != "zero2", bandwidth=wish.bandwidth, latency=wish.latency)


def told_apart(
    known: dict[Strategy, ShardedEstimate], first: Sequence[float], second: Sequence[float]
) -> tuple[Strategy, set[Strategy]]:
    """The rule of `choose`, on the draws that the page has: two runs, each with a pace of its own."""
    fastest, drawn = min(known, key=lambda own: known[own].step_s[0]), list(SOME_DRAWS)
    first_s = known[fastest].step_s[drawn] * first
    return fastest, {own for own in known if own != fastest and np.mean(first_s < known[own].step_s[drawn] * second) < 0.9}


@pytest.mark.processes
def test_the_page_lets_one_choose_a_strategy_and_lists_all_with_their_memory(
    driven: dict[str, Any], studies: list[Path]
) -> None:
    seen = driven["sharded"]
    assert "under hsdp" in seen["said"] and seen["off"]
    assert "exposed, 11 collectives" in seen["picture"], "five gathers, three reductions, three all-reduces"
    assert [row[0] for row in seen["rows"]] == ["ddp", "fsdp", "hsdp", "zero2"]
    (choice,) = choose(load_runs(folders(studies[0])), [2], Asked(strategies=("ddp", "fsdp")))
    memory = [memory_text(own.memory) for own in choice.answers]
    assert [row[4] for row in seen["rows"]][:2] == memory and memory[0].startswith("> ")
    assert [row[5] for row in seen["rows"]].count("fastest") == 1


@pytest.mark.processes
def test_every_control_has_a_name_redraws_and_says_its_value(driven: dict[str, Any]) -> None:
    effects = driven["effects"]
    assert all(effect["labels"] == 1 and effect["redrawn"] > 0 for effect in effects.values())
    words = {name: effect["words"] for name, effect in effects.items()}
    assert words["batch"] == "128 samples, 4x"
    assert words["cap"] == "2 MiB"
    assert words["accumulation"] == "3 micro-batches a step"
    assert words["bandwidth"].startswith("1.25 GB/s busbw")
    assert words["latency"].endswith("us, 0.1x")
    assert driven["back"], "Reset leads back to the beginning"
    assert len(driven["spoken"]) == 2 and all(len(said) > 40 for said in driven["spoken"])


@pytest.mark.processes
def test_the_page_says_what_the_controls_ask(driven: dict[str, Any], asked: list[Any]) -> None:
    known, single, _, _ = asked[0]
    by_size = {inputs.world_size: inputs for inputs in known}
    now = said_by_python(by_size[4], single, Setting())
    assert re.match(rf"{now['speedup']:.2f}x \d\.\d\dx to \d\.\d\dx on 4 ranks: ", driven["first"])
    wire = 1e9 / 8 / by_size[2].cost.busbw_bytes_per_s  # the first to choose from
    moved = Setting(batch=4, accumulation=3, caps_bytes=(2 * MIB, 2 * MIB), sent_share=0.5, bandwidth=10 * wire, latency=0.1)
    then = said_by_python(by_size[2], single, moved)
    assert driven["changed"].startswith(f"{then['speedup']:.2f}x ") and "on 2 ranks: a step takes" in driven["changed"]
    assert f"in {len(then['starts_s'])} buckets" in driven["changed"]


def test_no_text_of_a_file_enters_the_data_and_the_page_runs_its_own_script_only(page: Path) -> None:
    source = page.read_text()
    assert "alert(1)" not in source.split('id="what-if-data">')[1].split("</script>")[0]
    assert source.count("<script") == 3
    assert "default-src 'none'" in source and "script-src 'sha256-" in source and "unsafe-eval" not in source
