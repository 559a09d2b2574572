"""How a choice of strategies is shown by its verbs, and which flags are refused."""

import json
import re
from pathlib import Path

import pytest

from commprof.cli import main
from tests.unit.analysis.health.machines import add_surroundings, samples
from tests.unit.analysis.strategies.sharded_steps import (
    BY_ITSELF_S,
    MIB,
    plain,
    sharding,
    write_benches,
    write_sharded_run,
)


def test_the_verb_says_it_in_a_table_and_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S)), str(write_benches(tmp_path / "b4", 4))]
    assert main(["predict", *words, "--strategy", "zero2,fsdp,ddp"]) == 0
    told = capsys.readouterr().out
    assert "4 ranks: zero2 is the fastest" in told
    assert "ddp on 4 ranks cannot be told" in told
    assert main(["predict", *words, "-n", "4", "--strategy", "fsdp", "--json"]) == 0
    (choice,) = json.loads(capsys.readouterr().out)
    assert [own["strategy"] for own in choice["answers"]] == ["fsdp"]


def test_what_is_told_fits_a_terminal_and_does_not_overstate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One strategy told of two is not the fastest; a plain step is not told from a sharded one; 80 columns hold all."""
    words = [str(write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S)), str(write_benches(tmp_path / "b4", 4))]
    assert main(["predict", *words, "--strategy", "fsdp,ddp", "--memory", "1K"]) == 0
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 80
    assert "too big" in told
    assert "DDP's step is told from a run on one rank that is not sharded, and none is given" in " ".join(told.split())
    assert main(["predict", *words, "--strategy", "fsdp,ddp"]) == 0
    told = capsys.readouterr().out
    assert "is the fastest" not in told
    assert "of the others nothing can be told" in " ".join(told.split())


def test_whether_strategies_fit_is_said_of_those_of_which_it_can_be_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """DDP cannot be told, so nobody knows that it does not fit; and memory that lacks a part is not said to."""

    def told(*words: str) -> str:
        assert main(["predict", *paths, "--strategy", "ddp,fsdp,zero2", *words]) == 0
        return " ".join(capsys.readouterr().out.split())

    paths = [str(write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S)), str(write_benches(tmp_path / "b4", 4))]
    assert "no strategy is chosen, because none of those that can be told fits" in told("--memory", "1M")
    lacking = told("--memory", "60G")
    assert "4 ranks: zero2 is the fastest that can be told; whether it fits in 60 GiB cannot be told" in lacking
    assert "> 75 MiB may fit" in lacking
    assert not re.search("may fit|whether it fits", told()), "nobody asked"
    paths[0] = str(write_sharded_run(tmp_path / "whole", sharding(peak_bytes=63 * MIB), BY_ITSELF_S))
    whole = told("--memory", "60G")
    assert "whether it fits" not in whole
    assert " 75 MiB fits" in whole


def test_of_disturbed_runs_no_strategy_is_the_fastest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S)
    add_surroundings(one, samples(*[(0.5, 0.5)] * 5))
    assert main(["predict", str(one), str(write_benches(tmp_path / "b4", 4)), "--strategy", "fsdp,zero2"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert told.startswith(
        "4 ranks: which strategy is the fastest cannot be told: other processes disturbed these runs (zero2 predicted) This "
        "machine was disturbed: during one other processes kept"
    )
    assert main(["predict", str(one), str(tmp_path / "b4"), "--strategy", "fsdp"]) == 0
    assert "as far as disturbed runs can tell" in " ".join(capsys.readouterr().out.split())


def test_advice_compares_strategies_where_a_sharded_run_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(path) for path in (plain(tmp_path / "plain"), write_benches(tmp_path / "b4", 4))]
    assert main(["advise", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["strategies"] == []
    words.append(str(write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S)))
    assert main(["advise", *words[1:]]) == 2
    assert "only sharded trainings among those given" in capsys.readouterr().err
    assert main(["advise", *words]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "no bench of all_gather on 2 ranks: its cost is carried over from 4 by a ring" in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--strategy", "zero4"], "--strategy 'zero4' is not predicted here; use some of ddp,fsdp,hsdp,zero2,zero1,zero3"),
        (["--memory", "1G"], "--memory goes with --strategy"),
        (["--no-prefetch"], "--no-prefetch goes with --strategy"),
        (["--strategy", "fsdp", "--batch", "2"], "leave out what else changes them"),
        (["--strategy", "hsdp", "--replicas", "1"], "one is fsdp"),
        (["--strategy", "fsdp", "--replicas", "4"], "--replicas 4 is hsdp's"),
        (["--strategy", "fsdp", "--out", "x.json"], "--out keeps a prediction"),
    ],
)
def test_flags_that_mean_nothing_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    run = write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S)
    assert main(["predict", str(run), *words]) != 0
    assert said in capsys.readouterr().err
