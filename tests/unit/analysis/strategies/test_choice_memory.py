"""How much memory a rank takes under each strategy, and which of them fit: worked out on paper."""

from dataclasses import replace
from pathlib import Path

from commprof.analysis.strategies.text import memory_text
from tests.unit.analysis.strategies.sharded_steps import (
    BY_ITSELF_S,
    MIB,
    answer,
    chosen,
    plain,
    sharding,
    write_benches,
    write_sharded_run,
)


def test_memory_on_paper_and_what_fits(tmp_path: Path) -> None:
    """20 MiB of parameters, AdamW's 40 MiB. On 4 shards, at the last block's reduction: the root whole and the next block's
    gather (or parameters), 4 + 8, the reduction's input, gloo's copy of it and the output, 8 + 8 + 2. The profile's own step
    took no more than is counted of it."""
    paths = [
        plain(tmp_path / "plain"),
        write_sharded_run(tmp_path / "one", sharding(peak_bytes=1), BY_ITSELF_S),
        write_benches(tmp_path / "b4", 4),
    ]
    choice = chosen([*paths, write_benches(tmp_path / "b2", 2)], memory_bytes=100 * MIB)
    memory = {own.strategy: own.memory for own in choice.answers}
    assert memory["fsdp"] is not None and memory["ddp"] is not None and memory["zero2"] is not None
    assert (memory["fsdp"].unsharded, memory["fsdp"].buckets) == (12 * MIB, 18 * MIB)
    assert memory["fsdp"].total == (5 + 10 + 12 + 18 + 30) * MIB
    assert memory["ddp"].total == (20 + 20 + 40 + 20 + 30) * MIB
    assert memory["zero2"].total == memory["fsdp"].total
    assert {own.strategy: own.fits for own in choice.answers} == {"ddp": False, "fsdp": True, "hsdp": True, "zero2": True}
    assert choice.fastest in ("fsdp", "zero2"), "what does not fit is not chosen, however fast"


def test_what_a_step_took_at_most_has_to_be_known_for_a_strategy_to_fit(tmp_path: Path) -> None:
    paths = [write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S), write_benches(tmp_path / "b4", 4)]
    told = answer(chosen(paths, memory_bytes=1000 * MIB), "fsdp")
    assert told.memory is not None
    assert (told.memory.activations, told.fits, memory_text(told.memory)) == (30 * MIB, None, "> 75 MiB")


def test_memory_falls_with_what_backward_lets_go_and_has_what_computing_took(tmp_path: Path) -> None:
    """Each unit saved 10 of 30 MiB, so the peak is where the last block computes: whole units 4 + 8, the next's gather, its
    gradient. On one shard it is at the block before: whole units 4 + 8, the gradients 8 + 8, the last reduction's input and
    20 held are 56 of a step's 63 MiB, so computing took 7."""
    timeline = sharding(peak_bytes=63 * MIB)
    units = tuple(replace(unit, activation_bytes=10 * MIB) for unit in timeline.units)
    profile = write_sharded_run(tmp_path / "one", replace(timeline, units=units), BY_ITSELF_S)
    memory = answer(chosen([profile, write_benches(tmp_path / "b4", 4)]), "fsdp").memory
    assert memory is not None
    assert (memory.unsharded, memory.gradients, memory.activations) == (20 * MIB, 8 * MIB, 30 * MIB)
    assert (memory.working, memory.total) == (7 * MIB, (5 + 10 + 20 + 8 + 30 + 7) * MIB)


def test_what_is_frozen_has_no_gradients(tmp_path: Path) -> None:
    """Block 2 is frozen and of block 1 a quarter is trained: DDP's gradients and buckets are the root's 4 MiB and 2 of 8. In
    two bytes a gather is half the parameters, of which a quarter has gradients; reduced in four they are 2 MiB again."""
    timeline = sharding()
    root, first, second = timeline.units
    first = replace(first, gather_bytes=4 * MIB, gather_dtype="bfloat16", reduce_bytes=2 * MIB)
    second = replace(second, reduce_bytes=0, reduce_dtype="unknown")
    one = write_sharded_run(tmp_path / "one", replace(timeline, units=(root, first, second)), BY_ITSELF_S)
    choice = chosen([plain(tmp_path / "plain"), one, write_benches(tmp_path / "b4", 4)])
    ddp, fsdp = answer(choice, "ddp").memory, answer(choice, "fsdp").memory
    assert ddp is not None and fsdp is not None
    assert (ddp.parameters, ddp.gradients, ddp.buckets) == (20 * MIB, 6 * MIB, 6 * MIB)
    assert (fsdp.gradients, fsdp.unsharded, fsdp.buckets) == (0, 16 * MIB, 0), "while the frozen block computes"


def test_without_what_its_optimizer_keeps_memory_is_not_told(tmp_path: Path) -> None:
    profile = write_sharded_run(tmp_path / "one", sharding(optimizer_bytes=None), BY_ITSELF_S)
    fsdp = answer(chosen([profile, write_benches(tmp_path / "b4", 4)], memory_bytes=1), "fsdp")
    assert (fsdp.memory, fsdp.fits) == (None, None)
    assert "does not tell what its optimizer keeps" in fsdp.memory_cannot
