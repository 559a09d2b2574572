from collections.abc import Sequence
from dataclasses import replace

import pytest

from commprof.analysis.health.run_health import health
from commprof.analysis.health.stability import stability
from commprof.commbench.records.types import BurstMeasurement, CollectiveMeasurement
from tests.factory import collective
from tests.unit.analysis.health.benches import SIZES, STEADY, at, evidence, judged
from tests.unit.analysis.health.machines import gpu, host


@pytest.mark.parametrize(
    ("status", "failure", "ok", "note", "words"),
    [
        ("completed", None, True, False, "completed, 0 measurements"),
        ("running", None, True, True, "still going, or was killed"),
        ("interrupted", "stopped by SIGTERM", False, False, "interrupted after 0 measurements: stopped by SIGTERM"),
        ("failed", "rank 1: lost", False, False, "rank 1: lost"),
    ],
)
def test_how_a_run_ended(status: str, failure: str | None, ok: bool, note: bool, words: str) -> None:
    verdict = judged("ending", evidence(status=status, failure=failure))
    assert (verdict.ok, verdict.note) == (ok, note)
    assert words in verdict.message


def test_wrong_results_fail_wherever_they_were_verified() -> None:
    assert judged("results", evidence([at(8), at(16, num_wrong=None)])).ok
    assert judged("results", evidence([at(8, num_wrong=None)])).ok is None
    burst = BurstMeasurement(
        op="all_reduce",
        dtype="float32",
        world_size=2,
        bucket_bytes=(8, 16),
        source="given",
        warmup_iterations=0,
        slowest_rank_s=(1.0,),
        fastest_rank_s=(1.0,),
        done_s=((0.5, 1.0),),
        timer="fake",
        num_wrong=7,
    )
    verdict = judged("results", evidence([at(8)], bursts=(burst,)))
    assert verdict.ok is False
    assert "7 elements in the burst of 2 all_reduce" in verdict.message


@pytest.mark.parametrize(
    ("info", "ok", "words"),
    [
        ({"world_size": 2}, True, "2 ranks"),
        ({"world_size": 1}, True, "measured no wire"),
        ({"world_size": 1, "environ": {"SLURM_NTASKS": "8"}}, False, "although SLURM_NTASKS is 8"),
        ({"world_size": 1, "backend": "nccl", "hosts": (host(gpus=(gpu(0), gpu(1))),)}, False, "the host has 2 GPUs"),
        ({"world_size": 1, "backend": "nccl", "environ": {"CUDA_VISIBLE_DEVICES": "0,3"}}, False, "names 2 GPUs"),
        ({"world_size": 1, "environ": {"SLURM_NTASKS": "many\x1b"}}, True, "measured no wire"),
    ],
)
def test_one_rank_where_several_were_meant(info: dict[str, object], ok: bool, words: str) -> None:
    verdict = judged("ranks", evidence(**info))  # type: ignore[arg-type]
    assert verdict.ok is ok
    assert words in verdict.message


def test_ranks_that_share_cores_fail() -> None:
    assert judged("cores", evidence(world_size=8, cores=8)).ok
    verdict = judged("cores", evidence(world_size=8, cores=8, threads=2))
    assert (verdict.ok, verdict.measured, verdict.limit) == (False, 16, 8)


def test_bandwidth_that_falls_at_the_end_fails_on_a_wire_and_is_noted_in_caches() -> None:
    curve = [at(size) for size in SIZES]
    assert judged("falling", evidence(curve)).ok
    fallen = [*curve[:-2], at(SIZES[-2], 1.3), at(SIZES[-1], 1.5)]
    assert judged("falling", evidence(fallen, backend="nccl")).ok is False
    on_one_host = judged("falling", evidence(fallen))
    assert (on_one_host.ok, on_one_host.note) == (True, True)
    assert judged("falling", evidence(fallen, num_nodes=2)).ok is False
    dip = [*curve[:8], at(SIZES[8], 2.0), *curve[9:]]
    assert judged("falling", evidence(dip, backend="nccl")).measured == 0


def test_a_fall_within_the_noise_is_none() -> None:
    wide = [0.5, 0.6, 0.7, 1.2, 1.3, 1.4, 1.5, 1.6]
    for best, last in ((wide, STEADY), (STEADY, wide)):
        found = evidence([at(2**25, wobbles=best), at(2**26, 1.2, wobbles=last)], backend="nccl")
        assert judged("falling", found).measured == 0


@pytest.mark.parametrize("index", [0, 7])
def test_a_size_out_of_line_with_its_neighbours_is_named(index: int) -> None:
    curve = [at(size) for size in SIZES]
    assert judged("spikes", evidence(curve)).ok
    curve[index] = at(SIZES[index], 3.0)
    verdict = judged("spikes", evidence(curve))
    assert verdict.ok is False
    assert verdict.message.startswith(
        f"out of line with their neighbours: {['1 KiB', None, 0, 0, 0, 0, 0, '128 KiB'][index]} takes"
    )


def both(curve: Sequence[CollectiveMeasurement]) -> list[CollectiveMeasurement]:
    return [replace(one, in_place=in_place) for one in curve for in_place in (False, True)]


def bent(first: int, last: int, factor: float) -> list[CollectiveMeasurement]:
    return both([at(size, factor if first <= size <= last else 1.0) for size in SIZES])


@pytest.mark.parametrize(
    ("backend", "words"), [("nccl", "NCCL_PROTO, NCCL_ALGO and NCCL_P2P_LEVEL"), ("gloo", "outgrow a cache, or the sockets'")]
)
def test_what_both_placements_show_is_a_slow_range_and_no_disturbance(backend: str, words: str) -> None:
    found = evidence(bent(2**17, 2**20, 8.0), backend=backend, num_nodes=2)
    verdict = judged("slow range", found)
    assert (verdict.ok, verdict.note) == (False, False)
    assert verdict.message.startswith(
        "128 KiB to 1 MiB, 919 us where 2 MiB takes 220 us (all_reduce, isolated); steady in both"
    )
    assert words in verdict.message
    assert judged("spikes", found).ok
    assert "switch" not in {own.name for own in health(found)}


def test_one_slow_size_in_both_placements_is_a_range_of_one() -> None:
    verdict = judged("slow range", evidence(bent(2**17, 2**17, 5.0), num_nodes=2))
    assert verdict.message.startswith("128 KiB, 116 us where 256 KiB takes")


def test_a_jump_that_both_placements_keep_is_a_switch() -> None:
    """From 16 MiB on the wire has a third of its bandwidth."""
    curve = [collective(size, [1e-5 + (1 if size < 2**24 else 3) * size / 1e10] * 10) for size in SIZES]
    found = evidence(both(curve), num_nodes=2)
    verdict = judged("switch", found)
    assert verdict.ok is False
    assert verdict.message.startswith("at 16 MiB, 5.9 times the time of 8 MiB for 2 times the bytes (all_reduce, isolated)")
    assert judged("spikes", found).ok
    assert "slow range" not in {own.name for own in health(found)}


def test_on_one_host_without_gpus_a_steady_course_is_worth_a_note() -> None:
    verdict = judged("slow range", evidence(bent(2**17, 2**20, 8.0), backend="gloo"))
    assert (verdict.ok, verdict.note) == (True, True)


@pytest.mark.parametrize("other", [1.0, 1.8])
def test_what_the_other_placement_does_not_show_as_much_was_disturbed(other: float) -> None:
    curve = both([at(size) for size in SIZES])
    curve[2 * 7], curve[2 * 7 + 1] = (
        replace(at(SIZES[7], factor), in_place=in_place) for factor, in_place in ((5.0, False), (other, True))
    )
    found = evidence(curve)
    assert judged("spikes", found).ok is False
    assert judged("spikes", found).message.endswith(
        "the other placement is not as slow there: cold or disturbed, measure again"
    )
    assert not {"slow range", "switch"} & {own.name for own in health(found)}


def test_in_place_all_to_all_is_another_operation() -> None:
    """It takes 1.6 times as long at every size, which accuses nobody."""
    curve = [at(size, factor, op="all_to_all", in_place=factor > 1) for size in SIZES for factor in (1.0, 1.6)]
    found = evidence(curve, num_nodes=2)
    verdicts = [*health(found), *stability(found)]
    assert not [own for own in verdicts if own.ok is False or own.note]
    assert "another operation" in judged("placements", found).message


def test_an_unknown_number_of_hosts_is_not_one() -> None:
    assert "hosts: 2" in judged("ranks", evidence(num_nodes=2)).message
    assert "hosts: unknown" in judged("ranks", evidence(ranks=())).message


def test_a_step_of_protocol_is_no_spike() -> None:
    assert judged("spikes", evidence([at(size, 2.0 if size >= 2**16 else 1.0) for size in SIZES])).ok
