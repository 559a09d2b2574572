"""What the page's what-if is given to compute with: curves, places, and what is left out of them."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.browser import chromium, visit
from commprof.analysis.report.explorer.curve import Curve, curve_of
from commprof.analysis.report.explorer.page_data import page_data, sharded_page_data
from commprof.analysis.report.sections.build import write_report
from commprof.analysis.runs.load import load_runs
from commprof.analysis.step.gather import gather
from commprof.analysis.wire.cost import cost_s
from commprof.commbench.errors import UnusableData
from tests.factory import (
    step,
    timeline,
    workload,
    write_training_run,
)
from tests.unit.analysis.health.machines import add_surroundings, samples
from tests.unit.analysis.report.explorer.explorer_studies import PARAMETERS, folders, shard, study
from tests.unit.analysis.strategies.sharded_steps import BY_ITSELF_S, plain, sharding, write_benches, write_sharded_run


def test_sharded_runs_alone_have_a_page_too(tmp_path: Path) -> None:
    """Without a plain profile there is no DDP to choose; what was benched on no rank's number is offered, and not spoken of."""
    shard(tmp_path)
    runs = load_runs(folders(tmp_path))
    data = sharded_page_data(runs, [2, 4])
    assert [(place.world_size, place.spoken, place.ddp) for place in data.places] == [(2, False, None), (4, True, None)]
    assert {own.strategy for place in data.places for own in place.strategies} == {"fsdp", "zero2"}, "no all-reduce was benched"
    source = write_report(folders(tmp_path), tmp_path / "report.html").page.read_text()
    assert '<option value="fsdp">fsdp</option>' in source and '<option value="ddp">' not in source


def test_steps_of_several_ranks_alone_are_compared_with_no_rank(tmp_path: Path) -> None:
    """The page's speedups are over one rank, whose step nobody measured."""
    shape = {"world_size": 4, "synchronised": False, "starts_together": True}
    beside = write_sharded_run(tmp_path / "beside", sharding(num_shards=4, waits=True), BY_ITSELF_S, **shape)  # type: ignore[arg-type]
    with pytest.raises(UnusableData, match="no run on one rank"):
        sharded_page_data(load_runs([beside, write_benches(tmp_path / "b4", 4)]), [4])


def test_sharded_steps_are_compared_with_one_rank_as_it_is(tmp_path: Path) -> None:
    """As the verdict's speedups are: 103 ms, not the 149 that sharding over itself takes."""
    paths = [plain(tmp_path / "plain"), write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S)]
    (place,) = sharded_page_data(load_runs([*paths, write_benches(tmp_path / "b4", 4)]), [4]).places
    assert place.work_s == pytest.approx(4 * 0.103)


def test_of_disturbed_runs_the_page_knows_it(tmp_path: Path) -> None:
    shard(tmp_path)
    assert not sharded_page_data(load_runs(folders(tmp_path)), [4]).disturbed
    add_surroundings(tmp_path / "sharded", samples(*[(0.5, 0.5)] * 5))
    assert sharded_page_data(load_runs(folders(tmp_path)), [4]).disturbed


def read(curve: Curve, size: float) -> float:
    piece = min(np.searchsorted(curve.knots, np.log(size), side="right") - 1, len(curve.coefficients) - 1)
    start, stop = curve.knots[piece : piece + 2]
    return float(np.exp(np.polyval(curve.coefficients[piece], (np.log(size) - start) / (stop - start))))


def test_a_curve_is_the_cost_below_between_and_beyond_the_measured_sizes(tmp_path: Path) -> None:
    (inputs,) = gather(load_runs(folders(study(tmp_path, "gloo", workload()))), [2]).at
    cost = inputs.cost
    curve = curve_of(cost, 16, 2**30)
    for size in np.exp(np.random.default_rng(0).uniform(np.log(16), np.log(2**30), 300)):
        assert read(curve, size) == pytest.approx(cost_s(cost, size), rel=1e-5)


def test_a_shared_out_batch_is_only_asked_of_sizes_that_were_run(tmp_path: Path) -> None:
    runs = load_runs(folders(study(tmp_path, "gloo", workload(scaling="strong"))))
    assert [place.world_size for place in page_data(runs, (2,)).places] == [2]


@pytest.mark.processes
def test_of_a_machine_too_disturbed_the_page_gives_no_interval_either(tmp_path: Path) -> None:
    if chromium() is None:
        pytest.skip("no Chromium; apt-get install chromium")
    root = study(tmp_path / "study", "gloo", workload())
    stretches = [step(i, forward_s=0.03 if i < 14 else 0.12) for i in range(20)]
    given: dict[str, Any] = {"gradients": timeline(PARAMETERS, backward_s=0.08), "backend": "gloo", "cores": 4}
    shutil.rmtree(root / "profile")
    write_training_run(root / "profile", stretches, workload=workload(), **given)
    assert {place.ddp.draws for place in page_data(load_runs(folders(root)), (2, 4)).places if place.ddp} == {None}
    written = write_report(folders(root), tmp_path / "report.html").page
    visited = visit(written, 'return document.querySelector("#what-if [role=status]").innerText;')
    assert visited.console == ()
    assert "without an interval: too disturbed to give one on 4 ranks: a step takes" in str(visited.value)
