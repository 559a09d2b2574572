import argparse

import pytest
import torch

from commbench import table
from commbench.cli import BENCH, bench_sizes
from commbench.collectives import expected_sum, rank_input
from commbench.errors import BadInput
from commbench.hardware import Ceiling
from tests.factory import collective, run_info


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    BENCH.add_arguments(parser)
    return parser.parse_args(words)


def test_sizes_follow_nccl_tests_letters() -> None:
    assert bench_sizes(parse("-b", "1M", "-e", "8M", "-f", "2")) == [2**20, 2**21, 2**22, 2**23]
    assert bench_sizes(parse("-b", "1K", "-e", "3K", "-i", "1K")) == [1024, 2048, 3072]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-b", "12Q"], "size '12Q'"),
        (["-b", "1M", "-e", "1K"], "0 < smallest size <= largest size"),
        (["-b", "0"], "0 < smallest size"),
        (["-f", "1"], "-f 1 never reaches"),
        (["-i", "0"], "-i 0 makes over"),
        (["-i", "1", "-e", "1G"], "use a larger step"),
        (["-n", "0"], "at least 1 timed"),
        (["-w", "-1"], "0 untimed"),
        (["--timeout", "0"], "above 0 seconds"),
        (["--nproc", "0"], "--nproc 0 starts nothing"),
        (["--backend", "gloo", "-e", "900T"], "lower -e"),
    ],
)
def test_a_sweep_that_cannot_be_measured_is_refused_before_anything_starts(words: list[str], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        BENCH.check(parse(*words))
    assert message in str(caught.value)


@pytest.mark.parametrize("world_size", [1, 2, 7])
def test_the_expected_sum_is_the_sum_of_the_inputs(world_size: int) -> None:
    device = torch.device("cpu")
    inputs = [rank_input(rank, 1000, device) for rank in range(world_size)]
    assert torch.equal(torch.stack(inputs).sum(0), expected_sum(world_size, 1000, device))


def test_inputs_differ_by_rank_and_position() -> None:
    first, second = (rank_input(rank, 254, torch.device("cpu")) for rank in (0, 1))
    assert not (first == second).any()
    assert first[:127].unique().numel() == 127


def test_a_sum_stays_exact_in_float32_for_very_many_ranks() -> None:
    assert expected_sum(1000, 127, torch.device("cpu")).max() < 2**24


def test_the_bus_carries_what_nccl_tests_says() -> None:
    measured = collective(10**9, [0.01, 0.02, 0.03], world_size=4)
    assert measured.algbw_bytes_per_s == pytest.approx(50e9)
    assert measured.busbw_bytes_per_s == pytest.approx(75e9)


def test_the_table_has_nccl_tests_thirteen_columns() -> None:
    text = table.row(collective(2**20, [28.06e-6], num_wrong=None), collective(2**20, [27.36e-6], world_size=4))
    assert text.split() == [
        "1048576",
        "262144",
        "float",
        "sum",
        "-1",
        "28.06",
        "37.37",
        "37.37",
        "N/A",
        "27.36",
        "38.33",
        "57.49",
        "0",
    ]
    units = table.COLUMNS.splitlines()[-1]
    assert units.split() == ["#", "(B)", "(elements)", "(us)", "(GB/s)", "(GB/s)", "(us)", "(GB/s)", "(GB/s)"]


def test_times_of_any_length_keep_their_columns_apart() -> None:
    for seconds in (9.9999e-6, 0.0099999, 0.01, 87.072):
        assert len(table.row(collective(8, [seconds]), collective(8, [seconds])).split()) == 13


def test_the_header_shows_a_hostile_host_name_harmlessly() -> None:
    header = table.header(run_info(hostname="a\x1b[2Jb"), Ceiling(bytes_per_s=25e9, reason="PCIe"))
    assert "\x1b" not in header
    assert "25 GB/s busbw: PCIe" in header


def test_one_wrong_element_fails_the_table() -> None:
    assert "1 FAILED" in table.footer([collective(8, [1e-5]), collective(8, [1e-5], num_wrong=1)])
    assert "0 OK" in table.footer([collective(8, [1e-5])])
    assert "not checked" in table.footer([collective(8, [1e-5], num_wrong=None)])
