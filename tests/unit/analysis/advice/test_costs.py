"""What an epoch costs on 1 and on N ranks, and where a deadline is met for the least."""

from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.advice.advise import advise
from commprof.analysis.advice.results import Budget, Costs
from commprof.analysis.runs.load import load_runs
from tests.unit.analysis.advice.test_advise import COMM_S, STEP_S, write_study


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_study(tmp_path_factory.mktemp("study"))


def costs(folders: list[Path], **budget: object) -> Costs:
    asked = Budget(price_per_gpu_hour=2.5, samples_per_epoch=120_000, epochs=10, deadline_s=None)
    found = advise(load_runs(folders), [2], replace(asked, **budget)).costs  # type: ignore[arg-type]
    assert found is not None
    return found


def test_an_epoch_costs_its_steps_times_the_ranks(folders: list[Path]) -> None:
    one, both = costs(folders).rows
    assert one.epoch_s == pytest.approx(3750 * STEP_S)
    assert both.epoch_s == pytest.approx(1875 * (STEP_S + COMM_S), rel=1e-4)
    assert one.cost == pytest.approx(2.5 * 3750 * STEP_S / 3600)
    assert both.cost_per_added_rank == pytest.approx(both.cost - one.cost)
    assert both.cost == pytest.approx(2.5 * 2 * both.epoch_s / 3600)
    assert both.cost_interval is not None and both.cost_interval.low < both.cost < both.cost_interval.high
    unknown = costs(folders, samples_per_epoch=None, price_per_gpu_hour=None)
    assert unknown.rows[0].cost == pytest.approx(1e6 / 32 * STEP_S / 3600)  # GPU-hours for a million samples


@pytest.mark.parametrize(
    ("deadline_s", "cheapest", "surely"), [(None, 1, 1), (4000.0, 1, 1), (3600.0, 2, 2), (3000.0, 2, None), (60.0, None, None)]
)
def test_the_cheapest_in_time(folders: list[Path], deadline_s: float | None, cheapest: int | None, surely: int | None) -> None:
    """Ten epochs take 3862 s on one rank and 2916 s on two, by the interval up to 3.1 thousand."""
    found = costs(folders, deadline_s=deadline_s)
    assert (found.cheapest, found.surely_cheapest) == (cheapest, surely)
