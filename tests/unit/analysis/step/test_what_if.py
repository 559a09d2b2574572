"""`commprof predict` with something changed: on paper, and at the door."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.runs.load import load_runs
from commprof.analysis.step.estimate import Setting
from commprof.analysis.step.gather import gather
from commprof.analysis.step.what_if import WhatIf, what_if
from commprof.cli import main
from tests.factory import MIB, step, timeline, write_bench_run, write_training_run

# A micro-batch computes 41 ms before backward and 60 in it, the optimizer 2. 1 MiB is ready after 30 ms, 8 MiB at the end.
GRADIENTS = timeline([("head", MIB, 0.03), ("embedding", 8 * MIB, 0.06)], backward_s=0.06)
LATENCY_S, BANDWIDTH = 100e-6, 1e9


def tail_s(message_bytes: float, *, latency: float = 1.0, bandwidth: float = 1.0) -> float:
    return latency * LATENCY_S + message_bytes / (bandwidth * BANDWIDTH)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [
        write_training_run(tmp_path / "profile", [step(i) for i in range(20)], gradients=GRADIENTS),
        write_bench_run(tmp_path / "bench", LATENCY_S, BANDWIDTH),
    ]


@pytest.mark.parametrize(
    ("setting", "compute_s", "exposed_s", "samples"),
    [
        (Setting(), 0.103, tail_s(8 * MIB), 1),
        (Setting(batch=2), 0.204, tail_s(8 * MIB), 2),
        (Setting(accumulation=3), 0.305, tail_s(8 * MIB), 3),
        (Setting(bandwidth=4), 0.103, tail_s(8 * MIB, bandwidth=4), 1),
        (Setting(latency=10), 0.103, tail_s(8 * MIB, latency=10), 1),
        (Setting(sent_share=0.5), 0.103, tail_s(4 * MIB), 1),
        (Setting(caps_bytes=(25 * MIB, 25 * MIB)), 0.103, tail_s(9 * MIB), 1),
    ],
)
def test_changed_steps_worked_out_on_paper(
    folders: list[Path], setting: Setting, compute_s: float, exposed_s: float, samples: float
) -> None:
    (found,) = what_if(gather(load_runs(folders)), setting)
    assert found.compute_s == pytest.approx(compute_s)
    assert found.exposed_s == pytest.approx(exposed_s, rel=0.01)
    assert found.samples == samples
    assert found.speedup == pytest.approx(2 * compute_s / (compute_s + exposed_s), rel=1e-3)  # one rank set alike
    assert found.step_now_s == pytest.approx(0.103 + tail_s(8 * MIB), rel=1e-3)


def test_n_ranks_never_give_more_than_n_where_medians_of_parts_do_not_add_up(tmp_path: Path) -> None:
    """In each step another part is long: medians of parts sum to 13 ms of a step of 38, and 2 ranks share the rest alike."""
    parts = [(0.03, 0.005, 0.003), (0.005, 0.03, 0.003), (0.005, 0.005, 0.023)] * 7
    steps = [
        replace(step(i, forward_s=forward_s, backward_s=backward_s), data_s=0.0, optimizer_s=update_s, step_s=0.038)
        for i, (forward_s, backward_s, update_s) in enumerate(parts)
    ]
    gradients = timeline([("all", MIB, 0.005)], backward_s=0.005)
    folders = [
        write_training_run(tmp_path / "profile", steps, gradients=gradients),
        write_bench_run(tmp_path / "bench", 1e-6, 1e12),
    ]
    for setting in (Setting(), Setting(accumulation=8), Setting(batch=4), Setting(model=0.5)):
        (found,) = what_if(gather(load_runs(folders)), setting)
        assert found.speedup == pytest.approx(2, rel=1e-3)


def test_a_wire_carried_over_is_named_in_a_sentence(folders: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", *map(str, folders), "-n", "4"]) == 0
    assert "the wire is carried over by a ring, 2(p-1) alpha" in " ".join(capsys.readouterr().out.split())


def test_the_verb_answers_and_keeps_nothing(folders: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", *map(str, folders), "-n", "2", "4", "--batch", "2", "--bucket-cap", "4M"]
    assert main([*words, "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [set(answer) for answer in answers] == [set(WhatIf.__dataclass_fields__)] * 2
    assert [answer["extrapolated"] for answer in answers] == [False, True]
    assert main(words) == 0
    table = capsys.readouterr().out
    assert "a changed step has 2 times the samples" in table and "no bench on 4 ranks" in table
    assert max(map(len, table.splitlines())) <= 80
    assert not (folders[0] / "analysis").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--batch", "0"),
        ("--bandwidth", "nan"),
        ("--latency", "-1"),
        ("--accumulation", "0"),
        ("--sent-share", "2"),
        ("--bucket-cap", "0"),
        ("--bucket-cap", "large"),
    ],
)
def test_a_change_that_means_nothing_is_refused(
    folders: list[Path], words: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(folders[0]), *words]) == 2
    assert words[1] in capsys.readouterr().err
