from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.commbench.errors import BadInput, CommprofError, Interrupted, RunFailed, UnusableData
from commprof.commbench.units import (
    format_bytes,
    format_estimate,
    format_number,
    format_rate,
    format_seconds,
    parse_bytes,
    parse_duration,
    printable,
    sweep_sizes,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("8", 8), ("64M", 64 * 2**20), ("1.5G", 3 * 2**29), ("2k", 2048), ("1KiB", 1024), (" 4T ", 4 * 2**40), ("0", 0)],
)
def test_sizes_are_read_as_nccl_tests_reads_them(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["12Q", "", "M", "-8", "1e6", "64 M B", "0x10", "9" * 40, "8\n9"])
def test_a_size_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadInput, match="write for example 64M"):
        parse_bytes(text)


@given(st.integers(1, 2**20), st.integers(1, 2**30), st.integers(2, 10))
def test_a_sweep_by_factor_starts_at_the_smallest_and_stays_within(smallest: int, extent: int, factor: int) -> None:
    sizes = list(sweep_sizes(smallest, smallest + extent, factor=factor))
    assert sizes[0] == smallest
    assert all(later == factor * earlier for earlier, later in pairwise(sizes))
    assert sizes[-1] <= smallest + extent < sizes[-1] * factor


def test_a_sweep_by_step_includes_both_ends() -> None:
    assert list(sweep_sizes(4, 12, step_bytes=4)) == [4, 8, 12]


def test_figures_for_people() -> None:
    assert format_bytes(25 * 2**20) == "25 MiB"
    assert format_bytes(1536) == "1.5 KiB"
    assert format_seconds(12.34e-6) == "12.3 us"
    assert format_seconds(0.4567) == "457 ms"
    assert format_seconds(0.9999) == "1 s"
    assert format_seconds(-1.4e-18) == format_seconds(0.0) == "0 us"
    assert format_seconds(1234.6) == "1235 s"
    assert format_rate(12.5e9) == "12.5 GB/s"
    assert format_rate(94.9e6 / 8) == "11.9 MB/s"


def test_an_estimate_has_one_unit_with_its_interval() -> None:
    assert format_estimate(0.0123, 0.0081, 0.0152) == "12.3 ms (8.1 to 15.2)"
    assert format_estimate(0.0009, -0.0002, 0.0012) == "0.9 ms (-0.2 to 1.2)"


@pytest.mark.parametrize(("text", "seconds"), [("2h", 7200), ("90min", 5400), ("90m", 5400), ("1.5d", 129600), (" 30S ", 30)])
def test_durations_have_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["2", "0h", "h", "-1h", "1e3s", "2 weeks", "1h30", "9" * 40 + "s"])
def test_a_duration_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="write for example 2h"):
        parse_duration(text)


@given(st.text())
def test_nothing_printable_moves_the_cursor(text: str) -> None:
    shown = printable(text)
    assert not any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in shown)


def test_an_escape_sequence_becomes_visible() -> None:
    assert printable("\x1b[31mred") == "\\x1b[31mred"


def test_counts_have_no_exponent() -> None:
    shown = [format_number(number) for number in (0.0, 8.5, 870.24, 999.9, 999.99, 55_981.2, 3.1e7)]
    assert shown == ["0", "8.5", "870.2", "999.9", "1,000", "55,981", "31,000,000"]


@pytest.mark.parametrize("kind", [CommprofError, BadInput, UnusableData, RunFailed, Interrupted])
def test_an_error_s_text_steers_no_terminal(kind: type[CommprofError]) -> None:
    """Also where Python shows it, as in a notebook, and not the command line."""
    assert str(kind("no run named \x1b[31m\u202ered\nnew")) == r"no run named \x1b[31m\x202ered\x0anew"
