"""A profile that nobody sharded, cut into units by its gradients: its step among shards as worked out on paper."""

from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.runs.load import load_runs
from commprof.analysis.strategies.choose import Asked, choose
from commprof.analysis.strategies.results import StrategyAnswer
from commprof.analysis.strategies.text import memory_text
from commprof.analysis.strategies.unsharded import repeated_blocks, unit_name
from commprof.cli import main
from commprof.commbench.errors import BadInput
from tests.factory import step, timeline, workload, write_training_run
from tests.unit.analysis.strategies.sharded_steps import MIB, sharding, wire_s, write_benches, write_sharded_run

READY = [("head.weight", 1 * MIB, 0.01), ("blocks.1.weight", 7 * MIB, 0.03), ("blocks.1.bias", MIB, 0.04),
         ("blocks.0.weight", 7 * MIB, 0.07), ("blocks.0.bias", MIB, 0.08), ("embedding.weight", 3 * MIB, 0.1)]  # fmt: skip
STEP_S = {"data_s": 0.001, "forward_s": 0.05, "backward_s": 0.1, "optimizer_s": 0.07, "step_s": 0.225}


def plain(path: Path, **work: object) -> Path:
    own = workload(kind="none", **work)  # type: ignore[arg-type]
    steps = [replace(step(i), **STEP_S) for i in range(12)]
    return write_training_run(path, steps, gradients=timeline(READY, 0.1), workload=own, cores=64)


def fsdp(paths: list[Path], units: str | None = None, strategy: str = "fsdp") -> StrategyAnswer:
    (choice,) = choose(load_runs(paths), [4], Asked(strategies=(strategy,), units=units))  # type: ignore[arg-type]
    return choice.answers[0]


def test_a_plain_step_among_four_shards(tmp_path: Path) -> None:
    """20 MiB in a root of 4 and blocks of 8. The update's 70 ms move 7 words an element, so a copy of S bytes takes
    20 ms S / 20 MiB: out of five gathers, into three reductions, and a quarter of it into each gather. All of the update
    shrinks."""
    answer = fsdp([plain(tmp_path / "plain"), write_benches(tmp_path / "b4", 4)])
    gathered = (4, 8, 8, 8, 8)
    copies_s = 0.02 / 20 * (1.25 * sum(gathered) + 20)
    wire = sum(wire_s("all_gather", size * MIB) for size in gathered)
    wire += sum(wire_s("reduce_scatter", size * MIB) for size in (4, 8, 8))
    assert answer.step_s == pytest.approx(0.225 - 0.07 * 3 / 4 + copies_s + wire, rel=1e-3)
    assert [each.unit for each in answer.exchanges if each.what == "reduce"] == ["blocks.1", "blocks.0", "(root)"]
    assert "units are the 2 blocks blocks.0 to blocks.1 of" in answer.assumptions[1]
    assert "which is not sharded" in answer.assumptions[1]


def test_memory_of_a_plain_profile_knows_its_optimizer_and_does_not_call_what_it_lacks_small(tmp_path: Path) -> None:
    """20 MiB of parameters whose optimizer keeps 40: a quarter of both on a rank, whole units 4 + 8 and the next one's gather
    of 8, a gradient of 8; what autograd holds nobody measured, so that 60 MiB may be enough and 20 are not."""
    paths = [plain(tmp_path / "plain", optimizer_bytes=40 * MIB), write_benches(tmp_path / "b4", 4)]
    for allowed, fits in ((60 * MIB, None), (20 * MIB, False)):
        (choice,) = choose(load_runs(paths), [4], Asked(strategies=("ddp", "fsdp"), memory_bytes=allowed))
        ddp, sharded = (own.memory for own in choice.answers)
        assert ddp is not None and sharded is not None
        assert (sharded.parameters, sharded.optimizer, sharded.activations) == (5 * MIB, 10 * MIB, None)
        assert (ddp.parameters, ddp.optimizer, ddp.gradients, ddp.buckets) == (20 * MIB, 40 * MIB, 20 * MIB, 20 * MIB)
        assert [own.fits for own in choice.answers] == [False, fits]
        assert memory_text(ddp) == "> 100 MiB", "at least"


def test_memory_of_a_plain_profile_that_was_looked_at(tmp_path: Path) -> None:
    """A forward pass left 30 MiB: 6, 12 and 12 of root and blocks, whose backward took 20, 40 and 40 ms. Of a step by itself,
    gradients and what is held are 8 + 30 MiB at the last block, 16 + 18 at the next, 20 + 6 at the root: computing took 4 of
    42. Among four, at the last block: whole units of 4 + 8 and the next one's 8, its own gradient, all that is held."""
    looked_at = {"optimizer_bytes": 40 * MIB, "activation_bytes": 30 * MIB, "peak_bytes": 42 * MIB}
    paths = [plain(tmp_path / "plain", **looked_at), write_benches(tmp_path / "b4", 4)]
    (choice,) = choose(load_runs(paths), [4], Asked(strategies=("ddp", "fsdp"), memory_bytes=200 * MIB))
    ddp, sharded = (own.memory for own in choice.answers)
    assert ddp is not None and sharded is not None
    assert (ddp.gradients, ddp.buckets, ddp.activations, ddp.working) == (8 * MIB, 20 * MIB, 30 * MIB, 4 * MIB)
    assert (sharded.unsharded, sharded.gradients) == (20 * MIB, 8 * MIB)
    assert (sharded.activations, sharded.working) == (30 * MIB, 4 * MIB)
    assert [own.fits for own in choice.answers] == [True, True]


def test_frozen_parameters_are_gathered_too_and_a_plain_profile_does_not_tell_where(tmp_path: Path) -> None:
    answer = fsdp([plain(tmp_path / "plain", frozen_bytes=100 * MIB), write_benches(tmp_path / "b4", 4)])
    assert answer.step_s is None
    assert "100 MiB of the parameters of" in answer.cannot and "are frozen, and nothing tells in which units" in answer.cannot


def test_every_micro_batch_gathers_and_the_last_one_reduces(tmp_path: Path) -> None:
    answer = fsdp([plain(tmp_path / "plain", accumulation=3), write_benches(tmp_path / "b4", 4)])
    kinds = [each.what for each in answer.exchanges]
    assert (kinds.count("gather"), kinds.count("reduce")) == (3 * 5, 3)
    assert [each.what for each in fsdp([tmp_path / "plain", tmp_path / "b4"], strategy="zero2").exchanges].count("gather") == 9


def test_units_are_those_asked_for(tmp_path: Path) -> None:
    paths = [plain(tmp_path / "plain"), write_benches(tmp_path / "b4", 4)]
    assert {each.unit for each in fsdp(paths, "blocks.1").exchanges} == {"(root)", "blocks.1"}
    with pytest.raises(BadInput, match=r"--units 'layers.\*' fits none of the parameters of .* named as head.weight"):
        fsdp(paths, "layers.*")


def test_a_sharded_profile_stands_before_one_that_is_not(tmp_path: Path) -> None:
    paths = [plain(tmp_path / "plain"), write_benches(tmp_path / "b4", 4)]
    sharded = write_sharded_run(tmp_path / "one", sharding(), 0.2)
    assert "one rank sharded over itself" in fsdp([*paths, sharded]).assumptions[1]
    assert "which is not sharded" in fsdp([*paths, sharded], "blocks.*").assumptions[1]


def test_without_repeated_blocks_a_pattern_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gradients = timeline([("b", MIB, 0.02), ("a", MIB, 0.05)], 0.1)
    steps = [replace(step(i), **STEP_S) for i in range(12)]
    run = write_training_run(tmp_path / "plain", steps, gradients=gradients, workload=workload(kind="none"), cores=64)
    assert main(["predict", str(run), str(write_benches(tmp_path / "b4", 4)), "--strategy", "fsdp"]) == 0
    assert "name them with --units" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("names", "blocks"),
    [
        (["h.0.a", "h.0.b", "h.1.a", "h.1.b", "wte"], {"h.0", "h.1"}),
        (["layer1.0.conv", "layer1.0.down.0.w", "layer1.1.conv", "layer1.2.conv", "fc"], {"layer1.0", "layer1.1", "layer1.2"}),
        (["h.0.mlp.0.w", "h.0.mlp.1.w", "h.1.mlp.0.w", "h.1.mlp.1.w"], {"h.0", "h.1"}),
        (["0.weight", "1.scale", "fc"], set()),
        (["a", "b"], set()),
    ],
)
def test_repeated_blocks(names: list[str], blocks: set[str]) -> None:
    assert set(repeated_blocks(names).values()) == blocks


def test_a_pattern_stands_for_whole_components() -> None:
    assert unit_name("transformer.h.11.attn.weight", "transformer.h.*") == "transformer.h.11"
    assert unit_name("transformer.ln.weight", "transformer.h.*") is None
    assert unit_name("h.1", "h.*") is None, "a parameter is no module"
