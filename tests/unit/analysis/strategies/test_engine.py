"""A DeepSpeed engine's step on N ranks, worked out on paper from its marks on one, and what is refused of it."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from commprof.analysis.runs.load import load_runs
from commprof.analysis.step.gather import gather
from commprof.analysis.strategies.engine.inputs import engine_inputs
from commprof.analysis.strategies.results import StrategyAnswer
from commprof.cli import main
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.sharding import ShardedSpan
from tests.unit.analysis.strategies.engine_steps import (
    BUCKET_BYTES,
    MIB,
    NORM_BYTES,
    OF_ALL_S,
    OF_SHARD_S,
    WHOLE_BYTES,
    engine_timeline,
    write_engine_run,
)
from tests.unit.analysis.strategies.sharded_steps import answer, chosen, plain, wire_s, write_benches


@pytest.fixture
def benches(tmp_path: Path) -> Path:
    return write_benches(tmp_path / "benches", 4)


def told(paths: list[Path], strategy: Literal["zero1", "zero2", "zero3"]) -> StrategyAnswer:
    return answer(chosen(paths, strategies=(strategy,)), strategy)


@pytest.mark.parametrize("stage", [1, 2])
def test_stages_1_and_2_reduce_buckets_whole_and_gather_behind_the_update(
    stage: Literal[1, 2], tmp_path: Path, benches: Path
) -> None:
    """What a rank does with its shard takes a quarter on four; all else is as on one; every collective blocks."""
    found = told([write_engine_run(tmp_path / "one", engine_timeline(stage)), benches], f"zero{stage}")  # type: ignore[arg-type]
    assert not found.cannot
    reduced_s = sum(wire_s("all_reduce", num_bytes) for num_bytes in BUCKET_BYTES) + wire_s("all_reduce", NORM_BYTES)
    gathered_s = wire_s("all_gather", WHOLE_BYTES)
    assert found.exposed_s == pytest.approx(reduced_s + gathered_s, rel=0.01)
    assert found.step_s == pytest.approx(OF_ALL_S + OF_SHARD_S / 4 + reduced_s + gathered_s, rel=0.01)
    assert [each.what for each in found.exchanges] == ["gather", "reduce", "reduce", "reduce"]
    assert found.exchanges[1].unit == "head to block"


def test_stage_3_hides_a_gather_that_it_asks_for_ahead(tmp_path: Path, benches: Path) -> None:
    """The first module's gather is waited for at once, the second's lands beside the first's 30 ms: 8.5 ms of it are hidden.

    One rank copies no gather: each is copied out at the rate of the bucket's way into its message, 8 ms for 12 MiB, half of
    which are copies, and a quarter of it in.
    """
    found = told([write_engine_run(tmp_path / "one", engine_timeline(3)), benches], "zero3")
    assert not found.cannot
    shown_s = wire_s("all_gather", 4 * MIB) + wire_s("reduce_scatter", WHOLE_BYTES) + wire_s("all_reduce", 8)
    assert found.exposed_s == pytest.approx(shown_s + wire_s("all_gather", 1024), rel=0.02)
    copies_s = 1.25 * 0.004 * (12 * MIB + 1024) / WHOLE_BYTES
    by_shard_s, whole_s = 0.056, 0.160
    assert found.step_s - found.exposed_s == pytest.approx(whole_s + by_shard_s / 4 + copies_s, rel=0.01)
    ahead = next(each for each in found.exchanges if each.unit == "block")
    assert ahead.done_s - ahead.start_s == pytest.approx(wire_s("all_gather", 8 * MIB), rel=0.01)


def test_small_parameters_are_gathered_one_by_one(tmp_path: Path, benches: Path) -> None:
    own = engine_timeline(3)
    several = replace(own, units=(*own.units[:4], replace(own.units[4], num_messages=8)))
    one, eight = (
        told([write_engine_run(tmp_path / name, timeline), benches], "zero3")
        for name, timeline in (("one", own), ("eight", several))
    )
    assert one.exposed_s is not None and eight.exposed_s is not None
    assert eight.exposed_s - one.exposed_s == pytest.approx(7 * wire_s("all_gather", 128), rel=0.05)


@pytest.mark.parametrize(
    ("stage", "parameters", "gradients", "whole"),
    [(1, 15, 15, 0), (2, 15, 3, 0), (3, 6, 3, 12)],
)
def test_memory_is_what_a_stage_keeps(
    stage: Literal[1, 2, 3], parameters: int, gradients: int, whole: int, tmp_path: Path, benches: Path
) -> None:
    """MiB on four ranks: parameters, an own copy and two moments of 12 each; a buffer of 8 and the largest message."""
    found = told([write_engine_run(tmp_path / "one", engine_timeline(stage)), benches], f"zero{stage}")  # type: ignore[arg-type]
    memory = found.memory
    assert memory is not None
    assert [memory.parameters, memory.gradients, memory.optimizer] == [parameters * MIB, gradients * MIB, 6 * MIB]
    assert memory.unsharded == whole * MIB
    assert memory.buckets == 8 * MIB + (WHOLE_BYTES if stage == 3 else BUCKET_BYTES[0])
    assert memory.activations is None


def test_a_collective_that_was_not_benched_is_named(tmp_path: Path) -> None:
    benches = write_benches(tmp_path / "benches", 4, ("all_gather",))
    found = told([write_engine_run(tmp_path / "one", engine_timeline(3)), benches], "zero3")
    assert "commprof bench reduce_scatter --nproc 4 and commprof bench all_reduce --nproc 4" in found.cannot


def test_another_stage_than_the_profiles_is_refused(tmp_path: Path, benches: Path) -> None:
    found = told([write_engine_run(tmp_path / "one", engine_timeline(2)), benches], "zero1")
    assert "is of stage 2; record the script on one rank under that stage" in found.cannot


def test_an_engines_profile_tells_no_other_strategy(tmp_path: Path, benches: Path) -> None:
    one = write_engine_run(tmp_path / "one", engine_timeline(1))
    choice = chosen([one, benches], strategies=("ddp", "fsdp", "zero2"))
    assert all(each.cannot for each in choice.answers)
    assert "its own stage can be told: --strategy zero1" in answer(choice, "fsdp").cannot
    with pytest.raises(UnusableData, match="commprof predict --strategy with its stage"):
        gather(load_runs([one, benches]), [4])


def test_ddp_and_advice_are_refused_for_what_an_engine_is(
    tmp_path: Path, benches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A finished run on one rank is given: it is not DDP's."""
    one = write_engine_run(tmp_path / "one", engine_timeline(2))
    assert answer(chosen([one, benches], strategies=("ddp",)), "ddp").cannot.startswith("DDP's step is told from a run on one")
    assert main(["advise", str(one), str(benches)]) == 2
    assert "is DeepSpeed ZeRO-2 on 1 rank" in (said := capsys.readouterr().err) and "with its stage" in said


def test_zero2_of_another_profile_is_fully_shards(tmp_path: Path, benches: Path) -> None:
    one = write_engine_run(tmp_path / "one", engine_timeline(2))
    other = plain(tmp_path / "plain")
    assert "DeepSpeed" in told([one, benches], "zero2").assumptions[0]
    assert "DeepSpeed" not in " ".join(told([one, other, benches], "zero2").assumptions)


def test_without_an_engines_profile_its_stages_are_refused(tmp_path: Path, benches: Path) -> None:
    found = told([plain(tmp_path / "plain"), benches], "zero3")
    assert "no run of a DeepSpeed engine on one rank" in found.cannot


def test_parameters_that_more_ranks_would_free_are_refused(tmp_path: Path, benches: Path) -> None:
    timeline = engine_timeline(3, persistent_bytes=1000, persistence_limit_bytes=2000)
    found = told([write_engine_run(tmp_path / "one", timeline), benches], "zero3")
    assert "model_persistence_threshold" in found.cannot


def test_a_batch_that_is_shared_out_is_refused(tmp_path: Path, benches: Path) -> None:
    found = told([write_engine_run(tmp_path / "one", engine_timeline(2), scaling="strong"), benches], "zero2")
    assert "strong scaling" in found.cannot


def test_a_gather_asked_for_before_the_step_began_is_waited_for(tmp_path: Path, benches: Path) -> None:
    own = engine_timeline(3)
    without = replace(own, spans=tuple(span for span in own.spans if (span.until, span.unit) != ("gather_sent", 0)))
    found = told([write_engine_run(tmp_path / "one", without), benches], "zero3")
    assert [each.unit for each in found.exchanges].count("stem") == 1


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_on_gpus_every_stage_is_refused(stage: Literal[1, 2, 3], tmp_path: Path) -> None:
    """No run on one was held against: what goes on beside computation there is not in the marks' order."""
    one = write_engine_run(tmp_path / "one", engine_timeline(stage), backend="nccl")
    with pytest.raises(UnusableData, match="runs on GPUs, where DeepSpeed's collectives go on beside computation"):
        engine_inputs(load_runs([one]), 4, f"zero{stage}")  # type: ignore[arg-type]


def test_several_models_in_turn_are_not_the_step_of_one(tmp_path: Path, benches: Path) -> None:
    one = write_engine_run(tmp_path / "one", engine_timeline(2), kind="in_turn")
    choice = chosen([one, benches], strategies=("zero2", "zero1", "fsdp"))
    assert all(each.cannot for each in choice.answers)
    assert not any("--strategy in_turn" in each.cannot for each in choice.answers)


def test_no_run_is_advised_that_an_engine_does_not_have(tmp_path: Path) -> None:
    """Ranks of an engine cannot be kept from sending."""
    benches = write_benches(tmp_path / "benches", 4, machines=1)
    found = told([write_engine_run(tmp_path / "one", engine_timeline(2)), benches], "zero2")
    assert "compute-only" not in " ".join(found.assumptions)
    assert "what ranks that share a machine cost each other" in " ".join(found.assumptions)


def test_the_interval_is_as_wide_as_the_schedules_few_checks_were_off_by(tmp_path: Path, benches: Path) -> None:
    found = told([write_engine_run(tmp_path / "one", engine_timeline(2)), benches], "zero2")
    assert found.step_s is not None and found.interval_s is not None
    assert found.interval_s.low < 0.75 * found.step_s and found.interval_s.high > 1.3 * found.step_s
    assert "take it as an order of magnitude" in " ".join(found.assumptions)


def test_a_stage_is_not_told_apart_by_what_its_schedule_may_be_off_by(tmp_path: Path, benches: Path) -> None:
    """Stage 2 computes 15 % less here, which what all strategies share would tell apart."""
    one = write_engine_run(tmp_path / "one", engine_timeline(1))
    quicker = replace(engine_timeline(2), spans=tuple(scaled(span, 0.85) for span in engine_timeline(2).spans))
    choice = chosen([one, write_engine_run(tmp_path / "two", quicker), benches], strategies=("zero1", "zero2"))
    assert choice.fastest == "zero2" and choice.within_noise == ("zero1",)


def scaled(span: ShardedSpan, share: float) -> ShardedSpan:
    return replace(span, samples_s=tuple(share * value for value in span.samples_s))


@pytest.mark.parametrize(
    ("stage", "mark", "said"),
    [(2, "gather_", "shows gathers of 0 bytes"), (3, "gather_", "shows gathers of 0"), (2, "reduce_", "no gradients")],
)
def test_a_step_without_what_its_stage_sends_is_refused(
    stage: Literal[2, 3], mark: str, said: str, tmp_path: Path, benches: Path
) -> None:
    own = engine_timeline(stage)
    without = replace(own, spans=tuple(span for span in own.spans if not span.until.startswith(mark)))
    assert said in told([write_engine_run(tmp_path / "one", without), benches], f"zero{stage}").cannot  # type: ignore[arg-type]
