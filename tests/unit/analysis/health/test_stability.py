"""Are the samples of a size steady: their spread, drift, outliers, and both placements beside each other?"""

import pytest

from commprof.analysis.health.run_health import health
from commprof.analysis.health.stability import stability
from commprof.commbench.records.types import Remeasured
from tests.factory import collective
from tests.unit.analysis.health.benches import SIZES, STEADY, at, evidence, judged


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
