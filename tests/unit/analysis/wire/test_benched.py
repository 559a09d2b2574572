"""Several benches of one collective are one pool where they agree, and named with their disagreement where they do not."""

from pathlib import Path

import pytest

from commprof.analysis.runs.load import load_runs
from commprof.analysis.wire.benched import fit_costs, wire_costs
from commprof.commbench.errors import UnusableData
from tests.factory import write_bench_run


def test_benches_that_agree_are_one_pool_with_the_samples_of_both(tmp_path: Path) -> None:
    for name, bandwidth in (("monday", 1e9), ("tuesday", 1.1e9)):
        write_bench_run(tmp_path / name, 50e-6, bandwidth)
    cost = fit_costs(load_runs([tmp_path / "monday", tmp_path / "tuesday"]))[2]
    alone = fit_costs(load_runs([tmp_path / "monday"]))[2]
    assert cost.num_samples == 2 * alone.num_samples
    assert 1e9 < cost.bandwidth_bytes_per_s < 1.1e9


def test_benches_that_disagree_are_named_with_what_each_says_and_which_to_measure_again(tmp_path: Path) -> None:
    for name, bandwidth in (("quiet", 1e9), ("busy", 0.4e9)):
        write_bench_run(tmp_path / name, 50e-6, bandwidth)
    runs = load_runs([tmp_path / "quiet", tmp_path / "busy"])
    said = r"not comparable, because the all-reduce of 128 MiB .*busy 336 ms, quiet 134 ms.*measure .*busy again"
    with pytest.raises(UnusableData, match=said) as raised:
        fit_costs(runs)
    fitted, (refused,) = wire_costs(runs)
    assert (fitted, refused.reason) == ([], str(raised.value)), "fit and predict say the same"


def test_a_slower_start_of_small_messages_is_no_disagreement(tmp_path: Path) -> None:
    for name, latency_s in (("early", 50e-6), ("late", 90e-6)):
        write_bench_run(tmp_path / name, latency_s, 1e9)
    assert set(fit_costs(load_runs([tmp_path / "early", tmp_path / "late"]))) == {2}
