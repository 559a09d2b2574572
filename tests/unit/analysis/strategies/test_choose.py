"""A truth that was made up comes back as the prediction; what the runs cannot tell is refused and nothing stands for it."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.runs.load import load_runs
from commprof.analysis.strategies.inputs import TURNS_ERROR
from commprof.analysis.strategies.results import Choice
from commprof.cli import main
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import RUN_FILE, read_info, write_document
from tests.factory import step, timeline, workload, write_training_run
from tests.unit.analysis.strategies.sharded_steps import (
    BY_ITSELF_S,
    BYTES_PER_S,
    EVERY,
    LATENCY_S,
    MIB,
    ONE_RANK,
    UNIT_BYTES,
    answer,
    chosen,
    exchanged_s,
    on_shards_s,
    plain,
    sharding,
    wire_s,
    write_benches,
    write_sharded_run,
)


def test_a_sharded_step_from_one_rank_and_the_benches_of_its_collectives(tmp_path: Path) -> None:
    profile = write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S)
    choice = chosen([profile, write_benches(tmp_path / "b4", 4), write_benches(tmp_path / "b2", 2)])
    fsdp, hsdp, zero2 = (answer(choice, own) for own in EVERY[1:])
    assert fsdp.step_s == pytest.approx(on_shards_s(4) + exchanged_s((0, 1, 2, 2, 1)), rel=1e-3)
    assert fsdp.exposed_s == pytest.approx(exchanged_s((0, 1, 2, 2, 1)), rel=1e-3)
    assert zero2.step_s == pytest.approx(on_shards_s(4, backward_gathers=False) + exchanged_s((0, 1, 2)), rel=1e-3)
    copies = sum(wire_s("all_reduce", size // 2) for size in UNIT_BYTES)
    assert hsdp.step_s == pytest.approx(on_shards_s(2) + exchanged_s((0, 1, 2, 2, 1)) + copies, rel=1e-3)
    assert (hsdp.num_replicas, hsdp.num_shards) == (2, 2)
    assert [each.what for each in fsdp.exchanges].count("gather") == 5
    assert all(
        own.interval_s is not None and own.interval_s.low < (own.step_s or 0) < own.interval_s.high for own in (fsdp, zero2)
    )
    assert "DDP's step is told from a run on one rank that is not sharded" in answer(choice, "ddp").cannot
    assert choice.fastest == "zero2"


def test_ranks_side_by_side_that_sent_nothing_stand_before_one_rank(tmp_path: Path) -> None:
    """They measured their own copies and update: nothing of it is worked out."""
    side_by_side = tuple((mark, unit, gathers, 2 * ms) for mark, unit, gathers, ms in ONE_RANK)
    one = write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S)
    pair = write_sharded_run(
        tmp_path / "pair",
        sharding(side_by_side, num_shards=2),
        2 * BY_ITSELF_S,
        world_size=2,
        synchronised=False,
        starts_together=True,
    )
    fsdp = answer(chosen([one, pair, write_benches(tmp_path / "b2", 2)], 2, strategies=("fsdp",)), "fsdp")
    assert fsdp.step_s == pytest.approx(2 * BY_ITSELF_S + exchanged_s((0, 1, 2, 2, 1)), rel=1e-3)


def test_what_ranks_waited_for_each_other_is_taken_as_measured(tmp_path: Path) -> None:
    """Every fourth forward of block 1 takes 4 ms longer. Ranks that never met would each come late in steps of their own, one
    of two in 7/16 of them and not in 1/4; of those that met, the spans know."""

    def told_s(name: str, waits: bool) -> float:
        own = sharding(num_shards=2, steps=64, waits=waits)
        uneven = tuple(0.010 + 0.004 * (i % 4 == 0) for i in range(64))
        spans = [replace(each, samples_s=uneven) if (each.until, each.unit) == ("done", 1) else each for each in own.spans]
        shape = {"world_size": 2, "synchronised": False, "starts_together": True}
        pair = write_sharded_run(tmp_path / name, replace(own, spans=tuple(spans)), BY_ITSELF_S, **shape)  # type: ignore[arg-type]
        fsdp = answer(chosen([pair, write_benches(tmp_path / f"{name}-b2", 2)], 2, strategies=("fsdp",)), "fsdp")
        assert fsdp.step_s is not None
        return fsdp.step_s

    assert told_s("met", True) == pytest.approx(BY_ITSELF_S + exchanged_s((0, 1, 2, 2, 1)), abs=1e-5)
    assert told_s("free", False) >= told_s("again", True) + 0.004 * (7 / 16 - 1 / 4) - 1e-5


def test_a_profile_that_kept_its_units_whole_tells_of_one_that_frees_them(tmp_path: Path) -> None:
    kept = tuple(
        (mark, unit, gathers and not mark.startswith("back_"), 0 if mark == "back_ready" else ms)
        for mark, unit, gathers, ms in ONE_RANK
    )
    whole = sharding(kept)
    whole = replace(whole, units=tuple(replace(unit, resharded=False) for unit in whole.units))
    profile = write_sharded_run(tmp_path / "kept", whole, BY_ITSELF_S - 0.006)
    fsdp = answer(chosen([profile, write_benches(tmp_path / "b4", 4)], strategies=("fsdp",)), "fsdp")
    assert fsdp.step_s == pytest.approx(on_shards_s(4) + exchanged_s((0, 1, 2, 2, 1)), rel=1e-3)


def test_what_cannot_be_told_is_refused_with_the_run_that_is_missing(tmp_path: Path) -> None:
    one = write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S)
    own = plain(tmp_path / "plain")
    only_plain = chosen([own, write_benches(tmp_path / "b4", 4)])
    assert "no modules repeat in" in answer(only_plain, "zero2").cannot
    only_benches = chosen([write_benches(tmp_path / "a4", 4)], strategies=("zero2",))
    assert "best with distributed.strategy=fsdp" in answer(only_benches, "zero2").cannot
    assert only_plain.fastest == "ddp"
    no_gather = chosen([one, write_benches(tmp_path / "r4", 4, ["all_reduce", "reduce_scatter"])])
    assert "commprof bench all_gather --nproc 4" in answer(no_gather, "fsdp").cannot
    assert answer(chosen([one, write_benches(tmp_path / "b3", 3)], 3), "hsdp").cannot.startswith(
        "2 copies do not divide 3 ranks"
    )
    assert chosen([one, tmp_path / "r4"], strategies=("fsdp", "zero2")).fastest is None


def test_collectives_that_were_benched_elsewhere_are_carried_over_with_a_wider_interval(tmp_path: Path) -> None:
    """From 2 ranks to 4 a ring passes three messages for one, and an all-gather 3/4 of the bytes as before: of gloo's two
    ranks one waits. A reduce-scatter is carried out as an all-reduce, six messages for two and 3/2 of the bytes for 1."""
    profile = write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S)
    carried = answer(chosen([profile, write_benches(tmp_path / "b2", 2)], strategies=("fsdp",)), "fsdp")
    benched = answer(chosen([profile, write_benches(tmp_path / "b4", 4)], strategies=("fsdp",)), "fsdp")

    def carried_s(op: str, size: int) -> float:
        return 3 * LATENCY_S[op] + (1.0 if op == "all_gather" else 1.5) * size / BYTES_PER_S

    gathered = sum(carried_s("all_gather", UNIT_BYTES[unit]) for unit in (0, 1, 2, 2, 1))
    reduced = sum(carried_s("reduce_scatter", size) for size in UNIT_BYTES)
    assert carried.step_s == pytest.approx(on_shards_s(4) + gathered + reduced, rel=1e-3)
    assert "as gloo carries it out as an all-reduce, and the interval is wider for it" in " ".join(carried.assumptions)
    widths = [
        (own.interval_s.high - own.interval_s.low) / own.exposed_s
        for own in (carried, benched)
        if own.interval_s is not None and own.exposed_s is not None
    ]
    assert widths[0] > 1.2 * widths[1], "most of both is how a shard's update shrinks"


def test_one_rank_does_not_tell_what_ranks_on_shared_cores_cost_each_other(tmp_path: Path) -> None:
    """Four ranks on a machine's two cores: twice the computation, and 15 % to either side as under DDP (1.64 sigma of 90 %)."""
    profile = write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S, cores=2)
    benches = write_benches(tmp_path / "b4", 4, cores=2, machines=1)
    told = answer(chosen([profile, benches], strategies=("fsdp",)), "fsdp")
    assert told.step_s is not None and told.interval_s is not None
    computed_s = told.step_s - exchanged_s((0, 1, 2, 2, 1))
    assert told.interval_s.high - told.step_s > 0.15 * computed_s
    assert any("one rank does not show what ranks that share a machine cost each other" in note for note in told.assumptions)
    alone = answer(
        chosen([write_sharded_run(tmp_path / "own", sharding(), BY_ITSELF_S), write_benches(tmp_path / "a4", 4)]), "fsdp"
    )
    assert not any("one rank does not show" in note for note in alone.assumptions), "each has a machine of its own"


def test_ranks_that_take_turns_on_cores_come_late_by_more_than_their_pace(tmp_path: Path) -> None:
    """Four ranks side by side that sent nothing: where they share two cores, 4.5 % of computation beside the pace's 2.5 %."""

    def width_s(name: str, cores: int) -> float:
        shape = {"world_size": 4, "cores": cores, "synchronised": False}
        beside = write_sharded_run(tmp_path / f"{name}-side", sharding(num_shards=4), BY_ITSELF_S, **shape)  # type: ignore[arg-type]
        benches = write_benches(tmp_path / name, 4, cores=cores, machines=1)
        told = answer(chosen([beside, benches], strategies=("fsdp",)), "fsdp")
        assert told.interval_s is not None
        return told.interval_s.high - told.interval_s.low

    pace, turns = 2 * 1.645 * 0.025 * BY_ITSELF_S, 2 * 1.645 * math.hypot(0.025, TURNS_ERROR) * BY_ITSELF_S
    assert width_s("turns", 2) ** 2 - width_s("own", 64) ** 2 == pytest.approx(turns**2 - pace**2, rel=0.25)


def test_another_wire_is_asked_of_all_strategies_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twice the bandwidth leaves the latencies and half of the rest."""
    words = [str(write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S)), str(write_benches(tmp_path / "b4", 4))]
    asked = ["--strategy", "fsdp", "--bandwidth", "2"]
    assert main(["predict", *words, *asked, "--json"]) == 0
    (choice,) = json.loads(capsys.readouterr().out)
    whole_s = exchanged_s((0, 1, 2, 2, 1))
    latency_s = 5 * LATENCY_S["all_gather"] + 3 * LATENCY_S["reduce_scatter"]
    assert choice["answers"][0]["exposed_s"] == pytest.approx(latency_s + (whole_s - latency_s) / 2, rel=1e-3)
    assert main(["predict", *words, *asked]) == 0
    assert "every wire has 2 times the bandwidth that was benched" in " ".join(capsys.readouterr().out.split())


def test_alike_strategies_are_within_noise(tmp_path: Path) -> None:
    """A plain step that is 3.5 % shorter than the sharded one: two runs differ by more, whatever their draws share."""
    sharded = write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S)
    paths = [sharded, write_benches(tmp_path / "b4", 4), write_benches(tmp_path / "b2", 2)]
    fsdp_s = answer(chosen(paths, strategies=("fsdp",)), "fsdp").step_s
    assert fsdp_s is not None
    alone = [step(i, backward_s=0.06, step_s=0.965 * fsdp_s - wire_s("all_reduce", 20 * MIB)) for i in range(12)]
    gradients = timeline([("a", 20 * MIB, 0.06)], 0.06)
    paths.append(write_training_run(tmp_path / "plain", alone, gradients=gradients, workload=workload(kind="none"), cores=64))
    choice = chosen(paths, strategies=("ddp", "fsdp"))
    assert {choice.fastest, *choice.within_noise} == {"ddp", "fsdp"}


def test_one_rank_is_not_told_apart_from_ranks_side_by_side_by_what_it_does_not_show(tmp_path: Path) -> None:
    """Four ranks on two cores. From one rank DDP's and FSDP's steps are off by the same 15 % of computation, and 17 % between
    them tell; beside FSDP's from four ranks side by side, DDP's alone is."""
    benches = [write_benches(tmp_path / f"b{n}", n, cores=2, machines=1) for n in (2, 4)]
    one = write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S, cores=2)
    shape = {"world_size": 4, "cores": 2, "synchronised": False, "starts_together": True}
    four = write_sharded_run(tmp_path / "four", sharding(num_shards=4, waits=True), 2 * BY_ITSELF_S, **shape)  # type: ignore[arg-type]

    def told_of(name: str, *runs: Path) -> Choice:
        first = answer(chosen([*runs, *benches], strategies=("fsdp",)), "fsdp")
        assert first.step_s is not None and first.exposed_s is not None
        own_s = (0.83 * first.step_s - wire_s("all_reduce", 20 * MIB)) / 2
        gradients = timeline([("a", 20 * MIB, 0.06)], 0.06)
        alone = [step(i, backward_s=0.06, step_s=own_s) for i in range(12)]
        own = write_training_run(tmp_path / name, alone, gradients=gradients, workload=workload(kind="none"), cores=2)
        return chosen([*runs, own, *benches], strategies=("ddp", "fsdp"))

    assert (told_of("a", one).fastest, told_of("b", one).within_noise) == ("ddp", ())
    mixed = told_of("c", four)
    assert (mixed.fastest, mixed.within_noise) == ("ddp", ("fsdp",))


def test_a_sharded_profile_beside_a_plain_one_leaves_the_plain_prediction_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Alone it is refused, for DDP's schedule is not its own; and a bench of another collective is not called no bench."""
    words = [str(plain(tmp_path / "plain")), str(write_benches(tmp_path / "b4", 4))]
    sharded = str(write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S))
    for out in ([], [sharded]):
        assert main(["predict", *words, *out, "--json"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert json.loads(first)["predictions"][-1]["step_s"] == json.loads(second)["predictions"][-1]["step_s"]
    assert main(["predict", words[1], sharded]) == 2
    assert "commprof predict --strategy fsdp tells sharded steps" in capsys.readouterr().err
    assert main(["predict", words[0], str(write_benches(tmp_path / "gathers", 2, ["all_gather"]))]) == 2
    assert "no float32 all_reduce was benched in those given" in capsys.readouterr().err


def test_what_shards_by_other_means_is_named_with_what_to_profile_instead(tmp_path: Path) -> None:
    benches = write_benches(tmp_path / "b4", 4)
    flat = write_training_run(tmp_path / "flat", [step(i) for i in range(12)], workload=workload(kind="fsdp1"), cores=64)
    assert (
        "is FSDP1, of which no units are known (those of fully_shard are seen" in answer(chosen([flat, benches]), "fsdp").cannot
    )
    own = workload(kind="zero2")
    engine = write_training_run(tmp_path / "engine", [step(i) for i in range(12)], workload=own, cores=64)
    assert (
        "is DeepSpeed ZeRO-2, of which no units are known (recorded before" in answer(chosen([engine, benches]), "zero2").cannot
    )
    own = workload(kind="hsdp")
    copies = write_training_run(
        tmp_path / "copies", [step(i) for i in range(12)], workload=own, cores=64, unseen=("no units are told: of copies",)
    )
    assert (
        "is HSDP, of which no units are known (no units are told: of copies)"
        in answer(chosen([copies, benches]), "fsdp").cannot
    )


def test_of_several_models_that_are_trained_in_turn_the_units_of_one_tell_no_step(tmp_path: Path) -> None:
    """A GAN of two sharded models has the units of one of them on record."""
    pair = write_sharded_run(tmp_path / "gan", sharding(), BY_ITSELF_S)
    info = read_info(pair)
    assert info.workload is not None
    write_document(pair / RUN_FILE, replace(info, workload=replace(info.workload, kind="in_turn")))
    fsdp = answer(chosen([pair, write_benches(tmp_path / "b4", 4)], strategies=("fsdp",)), "fsdp")
    assert fsdp.step_s is None
    assert "several trainings in turn, as in a GAN, of which no units are known" in fsdp.cannot


def test_copies_on_every_rank_are_said_to_shard_nothing(tmp_path: Path) -> None:
    paths = [write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S), write_benches(tmp_path / "b2", 2)]
    assert "2 copies leave one shard each, so nothing is sharded" in answer(chosen(paths, 2), "hsdp").assumptions


def test_all_that_is_to_be_benched_is_named_at_once(tmp_path: Path) -> None:
    paths = [write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S), write_benches(tmp_path / "b2", 2, ["all_reduce"])]
    assert answer(chosen(paths, 2), "fsdp").cannot == (
        "no float32 all_gather and no reduce_scatter was benched; run commprof bench all_gather --nproc 2 and commprof bench "
        "reduce_scatter --nproc 2"
    )


def test_a_machine_that_jumps_about_gets_no_interval_by_the_rule_of_ddp(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plain run whose pace halves and doubles: neither its own strategy nor a sharded one beside it has an interval."""
    steps = [step(i, step_s=0.07 * (1, 2, 1, 2)[i // 3], backward_s=0.05) for i in range(12)]
    gradients = timeline([("b", 16 * MIB, 0.02), ("a", 4 * MIB, 0.05)], 0.05)
    jumpy = write_training_run(tmp_path / "plain", steps, gradients=gradients, workload=workload(kind="none"), cores=64)
    paths = [jumpy, write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S), write_benches(tmp_path / "b4", 4)]
    choice = chosen(paths, strategies=("ddp", "fsdp"))
    assert [own.interval_s for own in choice.answers] == [None, None]
    assert all(own.too_disturbed and own.too_disturbed in own.assumptions for own in choice.answers)
    assert {choice.fastest, *choice.within_noise} == {"ddp", "fsdp"}, "nothing is told apart"
    assert main(["predict", *map(str, paths), "--strategy", "ddp,fsdp"]) == 0
    told = capsys.readouterr().out
    assert told.count("too disturbed  ") == 2
    assert main(["advise", *map(str, paths)]) == 0
    advised = " ".join(capsys.readouterr().out.split())
    assert "no interval: too disturbed to predict" in advised


def test_units_of_more_ranks_than_the_run_had_are_another_runs(tmp_path: Path) -> None:
    run = write_sharded_run(tmp_path / "one", sharding(num_shards=2), BY_ITSELF_S)
    with pytest.raises(BadInput, match=r"units\.json: `num_shards`"):
        load_runs([run])
