from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.health.evidence import Evidence
from commprof.analysis.health.results import Verdict
from commprof.analysis.health.run_health import health
from commprof.analysis.health.stability import stability
from commprof.analysis.runs.load import Run
from commprof.commbench.machine.facts import HostInfo
from commprof.commbench.records.types import BurstMeasurement, CollectiveMeasurement, Remeasured
from tests.factory import collective, run_info
from tests.unit.analysis.health.machines import gpu, host

SIZES = [2**k for k in range(10, 27)]
STEADY = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0, 1.01, 0.99, 1.0]


def evidence(
    measurements: Sequence[CollectiveMeasurement] = (),
    *,
    hosts: tuple[HostInfo, ...] | None = None,
    bursts: tuple[BurstMeasurement, ...] = (),
    **info: object,
) -> Evidence:
    run = Run(
        path=Path("runs/it"),
        info=run_info(**info),  # type: ignore[arg-type]
        collectives=tuple(measurements),
        steps={},
        gradients=None,
    )
    return Evidence(run=run, hosts=hosts, telemetry=None, bursts=bursts, links=())


def at(size: int, factor: float = 1.0, wobbles: Sequence[float] = STEADY, **fields: object) -> CollectiveMeasurement:
    """One size of a wire of 10 us + S / 10 GB/s."""
    return collective(size, [factor * (10e-6 + size / 1e10) * wobble for wobble in wobbles], **fields)  # type: ignore[arg-type]


def judged(name: str, found: Evidence) -> Verdict:
    (verdict,) = [verdict for verdict in (*health(found), *stability(found)) if verdict.name == name]
    return verdict


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


def test_first_calls_and_second_tries_are_told_not_judged() -> None:
    again = (
        Remeasured(iteration=3, slowest_rank_s=1.1e-5, fastest_rank_s=1e-5),
        Remeasured(iteration=4, slowest_rank_s=9e-5, fastest_rank_s=1e-5),
    )
    found = evidence([at(1024, cold_s=0.214, remeasured=again), at(2048, cold_s=2e-5)])
    assert judged("cold", found).note
    assert judged("cold", found).message.endswith(": 214 ms at 1 KiB (21183x)")
    assert "1 did not repeat, 1 did (90 us at 1 KiB)" in judged("second tries", found).message


def test_spread_drift_outliers_of_a_steady_curve_pass() -> None:
    found = evidence([at(size) for size in SIZES])
    assert all(judged(name, found).ok for name in ("spread", "drift", "outliers"))
    constant = evidence([collective(size, [1e-5] * 20) for size in SIZES])
    assert all(judged(name, constant).ok for name in ("spread", "drift", "outliers"))


def test_medians_that_are_not_known_fail() -> None:
    wobbles = [0.7, 0.75, 0.8, 0.9, 1.0, 1.0, 1.1, 1.2, 1.25, 1.3]
    verdict = judged("spread", evidence([at(size, wobbles=wobbles) for size in SIZES]))
    assert verdict.ok is False
    assert verdict.measured == pytest.approx((1.25 - 0.75) / 2)  # order statistics 1 and 8 of 0 to 9


def test_too_few_samples_are_no_verdict() -> None:
    found = evidence([at(size, wobbles=STEADY[:5]) for size in SIZES])
    assert [judged(name, found).ok for name in ("spread", "drift", "outliers")] == [None, None, None]


def test_halves_that_differ_are_drift() -> None:
    rising = [*(1 + 0.001 * i for i in range(10)), *(1.2 + 0.001 * i for i in range(10))]
    everywhere = judged("drift", evidence([at(size, wobbles=rising) for size in SIZES]))
    assert (everywhere.ok, everywhere.measured) == (False, 1.0)
    once = judged("drift", evidence([at(size, wobbles=rising if size == SIZES[3] else STEADY * 2) for size in SIZES]))
    assert (once.ok, once.note) == (True, True)
    assert "1.20x at 8 KiB" in once.message


def test_halves_that_differ_by_chance_are_no_drift() -> None:
    scattered = [*[0.8] * 6, *[1.3] * 4, *[0.8] * 4, *[1.3] * 6]
    assert judged("drift", evidence([at(2**20, wobbles=scattered)])).measured == 0


def test_outliers_beyond_one_in_twenty_fail() -> None:
    steady = STEADY * 2
    rare, frequent = [*steady[:19], 5.0], [*steady[:18], 5.0, 5.0]
    assert judged("outliers", evidence([at(2**20, wobbles=rare)])).ok
    verdict = judged("outliers", evidence([at(2**20, wobbles=frequent)]))
    assert (verdict.ok, verdict.measured) == (False, 0.1)


def test_placements_that_disagree_fail() -> None:
    both = [at(size, in_place=in_place) for in_place in (True, False) for size in SIZES]
    assert judged("placements", evidence(both)).ok
    cold = [*both, at(2**8, 2.0, in_place=False), at(2**8)]
    verdict = judged("placements", evidence(cold, backend="nccl"))
    assert verdict.ok is False
    assert "out of place but 10 us in place at 256 B" in verdict.message
    assert judged("placements", evidence(cold, backend="gloo")).ok, "on the host the copy takes its time"
    cold = [*both, at(2**8, in_place=False), at(2**8, 2.0)]
    assert judged("placements", evidence(cold, backend="gloo")).ok is False


def test_what_has_no_wire_or_no_size_is_not_judged() -> None:
    names = {v.name for v in (*health(evidence([at(8, world_size=1), at(1 << 20, 9.0, world_size=1)], world_size=1)),)}
    assert "falling" not in names
    assert stability(evidence([collective(0, STEADY, op="barrier")])) == []


@pytest.mark.parametrize(
    ("halves", "words"),
    [
        ((1.0, 1.5), "They slow down: clocks fall or other work began"),
        ((1.5, 1.0), "They speed up: warm up longer (-w)"),
    ],
)
def test_drift_names_a_cause_only_where_it_goes_one_way(halves: tuple[float, float], words: str) -> None:
    first, second = ([half * wobble for wobble in STEADY] for half in halves)
    drifting = [at(size, wobbles=[*first, *second]) for size in SIZES]
    assert judged("drift", evidence(drifting)).message.endswith(words)
    mixed = [at(size, wobbles=[*first, *second] if size > 2**16 else [*second, *first]) for size in SIZES]
    assert judged("drift", evidence(mixed)).message.endswith("Both ways: other work came and went; keep it off these hosts")


def test_outliers_come_with_their_mend() -> None:
    often = [*STEADY, *STEADY, 9.0, 9.0]
    found = [judged("outliers", evidence([at(size, wobbles=often) for size in SIZES], backend=own)) for own in ("gloo", "nccl")]
    assert [own.ok for own in found] == [False, False]
    assert found[0].message.endswith("hosts, or keep the scheduler out: chrt -r 5 commprof bench ... (root)")
    assert found[1].message.endswith("Keep other work off these hosts")
