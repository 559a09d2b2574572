from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commprof.analysis.health.baseline import compare, compare_times
from commprof.analysis.health.evidence import Evidence
from commprof.analysis.health.results import Verdict
from commprof.analysis.runs.load import Run
from commprof.commbench.errors import BadInput
from commprof.commbench.records.types import CollectiveMeasurement, SoftwareInfo
from tests.factory import collective, run_info

SIZES = [2**k for k in range(3, 28)]


def evidence(measurements: list[CollectiveMeasurement], **info: object) -> Evidence:
    fields = {"run_id": "base", **info}
    run = Run(path=Path("runs/it"), info=run_info(**fields), collectives=tuple(measurements), steps={}, gradients=None)  # type: ignore[arg-type]
    return Evidence(run=run, hosts=None, telemetry=None, bursts=(), links=())


def sweep(
    seed: int, *, noise: float = 0.02, factor: float = 1.0, only: int | None = None, count: int = 20
) -> list[CollectiveMeasurement]:
    rng = np.random.default_rng(seed)
    return [
        collective(
            size,
            (20e-6 + size / 1e10) * np.exp(noise * rng.standard_normal(count)) * (factor if only in (None, size) else 1),
        )
        for size in SIZES
    ]


def verdicts(ours: Evidence, theirs: Evidence, tolerance: float = 0.05) -> dict[str, Verdict]:
    found = {verdict.name: verdict for verdict in compare(ours, theirs, tolerance)}
    label = "all_reduce, isolated, in place"
    return {
        "changes": found["changes"],
        "typical": found[f"baseline {label}"],
        "sizes": found.get(f"baseline sizes {label}", found[f"baseline {label}"]),
    }


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.floats(1e-7, 10.0), min_size=6, max_size=30), min_size=1, max_size=12))
def test_a_run_is_never_slower_than_itself(samples: list[list[float]]) -> None:
    run = evidence([collective(8 << i, times) for i, times in enumerate(samples)])
    assert all(verdict.ok for verdict in compare(run, run, 0.0))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31), noise=st.floats(1e-4, 0.03))
def test_a_run_30_percent_slower_always_fails(seed: int, noise: float) -> None:
    found = verdicts(evidence(sweep(seed, noise=noise, factor=1.3)), evidence(sweep(seed + 1, noise=noise)))
    assert found["typical"].ok is False
    assert found["typical"].measured == pytest.approx(1.3, rel=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_noise_alone_is_no_difference(seed: int) -> None:
    found = verdicts(evidence(sweep(seed, noise=0.1)), evidence(sweep(seed + 100, noise=0.1)), tolerance=0.0)
    assert found["typical"].ok
    assert found["sizes"].ok
    assert "no difference over 25 sizes" in found["typical"].message


def test_a_band_wider_than_the_tolerance_says_what_it_cannot_exclude() -> None:
    noisy = verdicts(evidence(sweep(1, noise=0.5)), evidence(sweep(2, noise=0.5)))["typical"]
    assert (noisy.ok, noisy.note) == (True, True)
    assert "is not excluded" in noisy.message
    quiet = verdicts(evidence(sweep(1)), evidence(sweep(2)))["typical"]
    assert (quiet.ok, quiet.note) == (True, False)


def test_one_slow_size_is_named_and_the_others_are_cleared() -> None:
    found = verdicts(evidence(sweep(1, factor=1.5, only=2**20)), evidence(sweep(2)))
    assert found["typical"].ok
    assert found["sizes"].ok is False
    assert "1 slower beyond 5% (1 MiB 1.49x" in found["sizes"].message
    assert "24 without a difference" in found["sizes"].message


def test_a_slowdown_within_the_tolerance_is_noted() -> None:
    found = verdicts(evidence(sweep(1, factor=1.1, noise=0.005)), evidence(sweep(2, noise=0.005)), tolerance=0.2)
    assert (found["typical"].ok, found["typical"].note) == (True, True)


def test_disturbed_windows_of_single_sizes_fail_nothing() -> None:
    """Every size is disturbed for all of its samples by something like 10 %: within a size nothing shows it."""
    rng = np.random.default_rng(3)

    def disturbed(measurements: list[CollectiveMeasurement]) -> list[CollectiveMeasurement]:
        shifts = np.exp(0.1 * rng.standard_normal(len(measurements)))
        return [
            replace(m, slowest_rank_s=tuple(s * shift for s in m.slowest_rank_s))
            for m, shift in zip(measurements, shifts, strict=True)
        ]

    found = verdicts(evidence(disturbed(sweep(1))), evidence(disturbed(sweep(2))))
    assert found["sizes"].ok


def test_the_interval_of_two_constants_is_their_ratio() -> None:
    ((typical, size),) = compare_times([[([2e-6] * 6, [1e-6] * 6)]], [[8]])
    assert (typical.value, typical.interval.low, typical.interval.high) == pytest.approx((2, 2, 2))
    assert size.message_bytes == 8


def test_too_few_samples_are_no_verdict() -> None:
    found = verdicts(evidence(sweep(1, factor=9, count=5)), evidence(sweep(2)))
    assert found["typical"].ok is None


def test_changed_versions_stand_beside_the_slowdown() -> None:
    before = SoftwareInfo(python="3.11", torch="2.1", nccl="2.18.5", driver="550")
    after = replace(before, nccl="2.20.5", driver=None)
    ours = evidence(sweep(1, factor=1.5), software=after, environ={"NCCL_ALGO": "Tree"})
    found = verdicts(ours, evidence(sweep(2), software=before))
    assert "Changed since: NCCL 2.18.5 -> 2.20.5, NCCL_ALGO unset -> Tree" in found["typical"].message
    assert found["changes"].note


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (evidence(sweep(1), backend="nccl"), "has backend gloo, the baseline runs/it nccl"),
        (evidence(sweep(1), world_size=4), "has world_size 2"),
        (evidence([replace(m, op="broadcast") for m in sweep(1)]), "share no size measured in the same way"),
        (evidence([replace(m, hot=False) for m in sweep(1)]), r"all_reduce, isolated, in place, rotating buffers \(8 B to"),
    ],
)
def test_what_cannot_be_compared_is_refused(other: Evidence, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        compare(evidence(sweep(1)), other, 0.05)
