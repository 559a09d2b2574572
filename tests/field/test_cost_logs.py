"""The cost of an all-reduce, held against published logs: what the curve misses, and what it says of each log."""

from pathlib import Path

import pytest

from commprof.analysis.readers.as_run import measurements, read_text, understand
from commprof.analysis.readers.dialect import read_log
from commprof.analysis.wire.cost import fit_cost
from commprof.analysis.wire.results import CostModel

LOGS = Path(__file__).parents[2].parent / "shared/data/nccl_logs"
MIB = 2**20

pytestmark = [
    pytest.mark.field,
    pytest.mark.skipif(not LOGS.is_dir(), reason="the published tables are not in ../shared/data/nccl_logs"),
]


def fitted(path: Path) -> CostModel:
    (sweep,) = read_log(read_text(path))
    return fit_cost(list(measurements(understand(sweep, path.name, op=None, ranks=None))))


@pytest.fixture(scope="module")
def costs() -> dict[str, CostModel]:
    """Return the fit of every log by its number."""
    return {path.name[:2]: fitted(path) for path in LOGS.glob("*.txt") if path.name[:2] not in ("54", "60")}


def test_a_size_left_out_of_a_sound_all_reduce_is_met_within_4_percent(costs: dict[str, CostModel]) -> None:
    """Weighted by the sizes of each log from 1 to 256 MiB that have neighbours."""
    sound = [cost for cost in costs.values() if cost.op == "all_reduce" and cost.verdict.startswith("sound")]
    weights = [sum(MIB <= size <= 256 * MIB for size in cost.message_bytes[1:-1]) for cost in sound]
    total = sum(cost.curve_error * weight for cost, weight in zip(sound, weights, strict=True) if cost.curve_error is not None)
    assert total / sum(weights) <= 0.04
    assert len(sound) >= 24


def test_the_log_that_is_known_to_be_noisy_is_called_so(costs: dict[str, CostModel]) -> None:
    assert costs["42"].verdict.startswith("noisy: in and out of place")
    assert costs["16"].verdict == "sound"


def test_every_collective_can_be_fitted(costs: dict[str, CostModel]) -> None:
    assert {cost.op for cost in costs.values()} >= {
        "all_reduce",
        "all_gather",
        "reduce_scatter",
        "broadcast",
        "reduce",
        "all_to_all",
    }
    assert costs["20"].num_samples == 26  # an all-to-all has no in-place form; what nccl-tests prints there is left out


def test_a_disturbed_size_and_an_algorithm_that_takes_over_are_told_apart(costs: dict[str, CostModel]) -> None:
    """1 MiB of log 18 took 288 us in place and 114 us out of place; the DGX-2 gets faster from 32 MiB on in both."""
    assert [size.message_bytes for size in costs["18"].set_aside] == [MIB]
    assert [switch.message_bytes for switch in costs["57"].switches if switch.factor < 1] == [32 * MIB]
    assert costs["57"].set_aside == ()
