"""A wire says what it is in its name, and what it cannot be in one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.commbench.errors import BadInput
from commprof.commbench.machine.wire import Wire, parse_delay, parse_loss, parse_rate, parse_wire

rates = st.floats(1e3, 1e12).map(lambda rate: float(f"{rate:.6g}"))
wires = st.builds(
    Wire,
    lines_bits_per_s=st.lists(rates, min_size=1, max_size=8).map(tuple),
    inside_bits_per_s=st.none() | rates,
    spine_bits_per_s=st.none() | rates,
    delay_s=st.integers(0, 1_000_000).map(lambda microseconds: microseconds / 1e6),
    loss=st.integers(0, 999_999).map(lambda share: float(f"{share / 1e4:.6g}") / 100),
)


@given(wires)
def test_a_name_tells_the_whole_wire(wire: Wire) -> None:
    assert parse_wire(wire.name) == wire


def test_names_are_those_of_the_flags() -> None:
    assert parse_wire("1000mbit").name == "1gbit"
    assert parse_wire("1gbit+500 us").name == "1gbit+500us"
    whole = parse_wire("1gbit,200mbit+5ms+loss0.1%+inside10gbit+spine2gbit")
    assert whole == Wire(lines_bits_per_s=(1e9, 2e8), inside_bits_per_s=1e10, spine_bits_per_s=2e9, delay_s=0.005, loss=0.001)
    assert [whole.line_bits_per_s(host) for host in range(2)] == [1e9, 2e8]
    assert whole.payload_bytes_per_s == pytest.approx(2e8 / 8 * 1460 / 1538)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1gbit+spine2gbit+inside10gbit", "each once"),
        ("1gbit+5ms+6ms", "each once"),
        ("1gbit+slow", "each once"),
        ("1gbit,", "rate '' is not a number"),
        ("1gb", "rate '1gb' is not a number"),
        ("0.1kbit", "1kbit to 1000gbit"),
        ("1gbit+spine2000gbit", "1kbit to 1000gbit"),
        ("1gbit+2s", "delayed by 1 s at most"),
        ("1gbit+loss100%", "below 100%"),
        ("1gbit+loss-1%", "from 0%"),
        ("1gbit+loss0.1", "not a number with %"),
    ],
)
def test_what_no_wire_is_is_said_in_one_line(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as error:
        parse_wire(text)
    assert "\n" not in str(error.value)


def test_each_part_keeps_the_digits_that_its_name_has() -> None:
    assert parse_rate("1.234567gbit") == 1.23457e9
    assert parse_delay("0.4us") == 0.0
    assert parse_loss("12.3456789%") == pytest.approx(0.123457)
    with pytest.raises(BadInput, match="us, ms or s"):
        parse_delay("5 minutes")
