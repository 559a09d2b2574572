"""What the other series of a machine tell of one, which row to measure next, and how the verb says both."""

import math
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.analysis.scaling.extrapolate import extrapolate, extrapolate_all
from commprof.analysis.scaling.power_law import ALONE, GROWTH, Beyond, Slope, growth, told_beyond
from commprof.analysis.scaling.results import Refused
from commprof.analysis.scaling.series import Series
from commprof.cli import main
from tests.unit.analysis.scaling.rows import at, scaled, told


def test_other_series_of_a_machine_tell_the_hop() -> None:
    """Two others lose 30 and 20 % at the hop and 1 % inside, like everybody: 13.1, 9.1 and the usual 2 times as much."""
    machine = [scaled({8: 1.0, 16: cost}) for cost in (1.3, 1.2)]
    factors = [math.log(1.3) / 2 / 0.01, math.log(1.2) / 2 / 0.01, 2]
    alone = scaled({4: 1.0, 8: 1.0})
    one, helped = at(alone, 16), at(alone, 16, *machine)
    inside = growth({4: 1.0, 8: 1.0}, 8).inside.value
    assert told(helped)[1] == pytest.approx(16 / math.exp(2 * inside * sum(factors) / 3))
    assert told(one)[1] > told(helped)[1]
    assert any("2 other series of this machine" in note for note in helped.notes)


def test_by_machine_takes_series_of_the_same_machine_only() -> None:
    slow = scaled({8: 1.0, 16: 1.5})
    table = [
        replace(scaled({4: 1.0, 8: 1.0}), machine="a"),
        replace(slow, machine="a", name="slow"),
        replace(slow, machine="b", name="elsewhere"),
    ]
    others = "from 1 other series of this machine and"
    for by_machine, said in ((True, others), (None, others), (False, "from published")):
        first = extrapolate_all(table, [32], scaling="weak", by_machine=by_machine)[0]
        assert not isinstance(first, Refused)
        assert any(said in note for note in first.predictions[0].notes), first.predictions[0].notes
    unlike = extrapolate_all([table[0], replace(table[1], split="dp x tp 2")], [32], scaling="weak")[0]
    assert not isinstance(unlike, Refused)
    assert "from published" in " ".join(unlike.predictions[0].notes), "what crosses depends on how the model is split"
    table[0] = replace(table[0], machine="")  # not the machine that another one without a name is
    first = extrapolate_all([*table, replace(slow, name="nameless")], [32], scaling="weak", by_machine=True)[0]
    assert not isinstance(first, Refused)
    assert "from published" in " ".join(first.predictions[0].notes)


def test_a_machines_node_is_told_by_one_series_for_all() -> None:
    """The rows of one node do not tell how many ranks it has; another series of the machine has nodes of 4."""
    first = at(scaled({2: 1.0, 4: 1.0}, node=None), 8, scaled({4: 1.0, 8: 1.2}, node=4))
    assert any("no row beyond a node of 4" in note and "1 other series" in note for note in first.notes)
    assert not any("not given" in note for note in first.notes)


def test_other_series_of_a_machine_tell_what_a_later_doubling_costs_beside_the_first_hop() -> None:
    """Two others lose 10 and 20 % at the hop and as much again at 4 nodes, so h = (0.03 + 0.3) / (0.015 + 0.3) hops."""
    machine = [scaled({8: 1.0, 16: math.exp(hop), 32: math.exp(2 * hop)}) for hop in (0.1, 0.2)]
    one = scaled({8: 1.0, 16: 1.1})
    helped, alone = at(one, 32, *machine), at(one, 32)
    h = (2 * GROWTH.across + 0.3) / (GROWTH.across + 0.3)
    pool = reduce(lambda pool, own: pool.plus(own), (told_beyond(_costs(each), 8) for each in machine), ALONE)
    assert pool.first_hop(GROWTH) == pytest.approx(h)
    grown = growth({8: 1.0, 16: 1.1}, 8, machine=pool)
    assert (grown.first_hop, grown.at(32).reach, grown.at(16).reach) == (pytest.approx(h), "beside", "between")
    assert told(helped)[1] == pytest.approx(32 / math.exp(grown.at(32).log_cost)) and told(helped)[1] < told(alone)[1]
    assert any("a first hop costs 1.0 later doublings" in note for note in helped.notes)
    assert growth({16: 1.0, 32: 1.1}, 8, machine=pool).at(64).reach == "across", "no hop among its rows"


@given(st.lists(st.floats(0, 100), min_size=1, max_size=9), st.integers(0, 8), st.floats(0, 0.3))
def test_a_series_own_factor_is_not_in_its_machines_pool(factors: list[float], index: int, slope: float) -> None:
    own, inside = factors[index % len(factors)], Slope(value=slope, variance=slope**2)
    every, others = (
        reduce(lambda pool, factor: pool.plus(_beyond(factor)), some, ALONE) for some in (factors, _less(factors, own))
    )
    one, other = every.plus(_beyond(own), -1).across(inside, GROWTH), others.across(inside, GROWTH)
    assert (one.value, one.variance) == pytest.approx((other.value, other.variance), abs=1e-9)
    assert other.value == pytest.approx(slope * np.mean([GROWTH.hop, *_less(factors, own)]))


def _beyond(factor: float) -> Beyond:
    return Beyond(factor=factor, hop=0.0, later=0.0)


def _costs(one: Series) -> dict[int, float]:
    return {n: one.cost(n, "weak") for n in one.values}


def _less(factors: list[float], own: float) -> list[float]:
    rest = list(factors)
    rest.remove(own)
    return rest


def test_the_next_row_to_measure_narrows_the_farthest_answer_most() -> None:
    one = scaled({8: 1.0, 16: 1.1})
    found = extrapolate(one, [32, 256], scaling="weak")
    assert found.next_row is not None and found.next_row.half_width is not None
    assert (found.next_row.world_size, found.next_row.target) == (128, 256)
    low, value, high = told(found.predictions[1])
    assert found.next_row.half_width == pytest.approx((high - low) / 2 / value)
    assert found.next_row.half_width_then < found.next_row.half_width / 2
    grown = told(at(scaled({8: 1.0, 16: 1.1, 128: math.exp(growth({8: 1.0, 16: 1.1}, 8).at(128).log_cost)}), 256))
    assert (grown[2] - grown[0]) / 2 / grown[1] == pytest.approx(found.next_row.half_width_then)


def test_the_next_row_may_bring_an_answer_that_is_withheld() -> None:
    """2 and 4 ranks on an unnamed link are not carried to a node of 8; a row of the whole node would be."""
    found = extrapolate(scaled({2: 1.0, 4: 1.1}), [16], scaling="weak")
    assert found.predictions[0].value is None
    assert found.next_row is not None
    assert (found.next_row.world_size, found.next_row.half_width) == (8, None)


def test_no_row_is_named_where_none_narrows_the_interval() -> None:
    assert extrapolate(scaled({32: 1.0, 16: 1.0, 8: 1.0}), [33], scaling="weak").next_row is None


def test_the_verb_answers_without_one_rank_and_says_what_to_measure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("n_gpus,nodes,tokens_per_second\n16,2,100\n32,4,197\n64,8,385\n")
    assert main(["extrapolate", str(tmp_path / "t.csv"), "-n", "256"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "speedup over 16 ranks" in shown and "E_N/T_16" in shown
    assert "next to measure: 128 ranks would narrow the interval on 256" in shown


def test_series_left_out_for_one_reason_share_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"s{index},8,1,1\n" for index in range(40))
    (tmp_path / "t.csv").write_text(f"series,n,nodes,mfu\na,8,1,50\na,16,2,49\n{rows}")
    assert main(["extrapolate", str(tmp_path / "t.csv"), "-n", "32"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "s0, s1, s2 and 37 more: left out: a row of 8 ranks alone tells nothing" in shown


@pytest.mark.parametrize(
    ("rows", "words", "said"),
    [
        (
            "n_gpus,gpus_per_node,throughput\n8,8,100\n16,4,190\n",
            (),
            "nodes of 4 and of 8 ranks in one series; tell",
        ),
        ("n_gpus,nodes,throughput\n8,1,100\n12,2,140\n16,2,190\n", (), "nodes of 6 and of 8 ranks in one series"),
        (
            "n_gpus,throughput\n8,100\n16,190\n",
            ("--gpus-per-node", "3"),
            "8 ranks do not fill nodes of 3; give the ranks",
        ),
    ],
)
def test_nodes_that_the_ranks_do_not_fit_are_one_line(
    tmp_path: Path, rows: str, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.csv").write_text(rows)
    assert main(["extrapolate", str(tmp_path / "t.csv"), "-n", "64", *words]) == 2
    shown = capsys.readouterr().err
    assert said in shown and shown.count("\n") == 1
