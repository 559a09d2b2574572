import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commprof.analysis.scaling.extrapolate import extrapolate
from commprof.analysis.scaling.laws import fit_laws
from commprof.analysis.scaling.overhead_mix import PRIOR, jump, mixed, noise
from commprof.analysis.scaling.series import Interconnect, Measure, Series
from commprof.analysis.scaling.speedup import ScalingKind
from commprof.analysis.scaling.table import parse_series
from commprof.analysis.scaling.text import extrapolation_sheet
from commprof.cli import main
from commprof.commbench.display.sheet import plain_text
from commprof.commbench.errors import UnusableData

SHAPES: Mapping[str, Callable[[int], float]] = {
    "constant": lambda n: 0.1,
    "ring bandwidth": lambda n: 0.1 * 2 * (n - 1) / n,
    "ring + latency": lambda n: 0.1 * 2 * (n - 1) / n + 0.01 * (n - 1),
    "Amdahl": lambda n: 0.02 * (n - 1),
    "Gustafson": lambda n: 0.2 * (n - 1) / (n - 0.2 * (n - 1)),
    "USL": lambda n: 0.02 * (n - 1) + 0.003 * n * (n - 1),
}


def weak(overhead: Callable[[int], float], *ranks: int, interconnect: Interconnect = "nvlink") -> Series:
    """A series of 100 samples per second and rank that loses eps(N)."""
    values = {n: 100 * n / (1 + (overhead(n) if n > 1 else 0)) for n in ranks}
    return Series(name="s", measure="throughput", values=values, interconnect=interconnect)


@pytest.mark.parametrize("name", SHAPES)
def test_a_law_is_found_again(name: str) -> None:
    eps = {n: SHAPES[name](n) for n in (2, 4, 8)}
    laws = {law.law.name: law for law in fit_laws(eps, "weak", noise(eps))}
    assert laws[name].overhead(32) == pytest.approx(SHAPES[name](32), rel=1e-6)
    assert sum(law.weight for law in laws.values()) == pytest.approx(1)


def test_evidence_tells_laws_apart() -> None:
    flat, steep = ({n: SHAPES[name](n) for n in (2, 4, 8)} for name in ("constant", "USL"))
    assert fit_laws(flat, "weak", noise(flat))[0].law.name == "constant"
    assert fit_laws(steep, "weak", noise(steep))[0].law.name == "USL"


def test_strong_scaling_has_its_own_amdahl() -> None:
    """T_N = T_1 (s + (1-s)/N), s = 0.1: eps = T_N/T_1 - 1/N = s (1 - 1/N); 64 ranks give 1/(0.1 + 0.9/64)."""
    series = Series(name="", measure="step_s", values={n: 0.1 + 0.9 / n for n in (1, 2, 4)}, interconnect="nvlink")
    told = extrapolate(series, [64], scaling="strong")
    amdahl = next(law for law in told.laws if law.name == "Amdahl")
    assert amdahl.values[64] == pytest.approx(0.1 + 0.9 / 64)
    assert "Gustafson" not in {law.name for law in told.laws}
    (eight,) = extrapolate(series, [8], scaling="strong").predictions
    assert eight.speedup == pytest.approx(1 / (0.1 + 0.9 / 8), rel=0.1)
    assert eight.value == pytest.approx(1 / eight.speedup)


@pytest.mark.parametrize("name", ["constant", "ring bandwidth", "ring + latency"])
def test_the_points_of_a_ring_give_the_next(name: str) -> None:
    (one,) = extrapolate(weak(SHAPES[name], 1, 2, 4, 8), [16], scaling="weak").predictions
    true = 1600 / (1 + SHAPES[name](16))
    assert one.value == pytest.approx(true, rel=0.04)
    assert one.low is not None
    assert one.high is not None
    assert one.low < true < one.high
    assert not one.guess


def test_one_point_is_shared_out_as_the_prior_says() -> None:
    """eps_2 = 0.1; at 4: 0.0637 + 0.0343 * 1.5 + 0.002 * 3, and 0.003 for the doubling."""
    (one,) = extrapolate(weak(lambda n: 0.1, 1, 2), [4], scaling="weak").predictions
    assert one.overhead == pytest.approx(0.0637 + 0.05145 + 0.006 + 0.003)
    assert one.speedup == pytest.approx(4 / 1.12415)


def test_faster_than_linear_counts_as_no_loss_yet() -> None:
    (one,) = extrapolate(weak(lambda n: -0.03, 1, 2), [8], scaling="weak").predictions
    assert one.overhead == pytest.approx(2 * PRIOR.rise)
    (odd,) = extrapolate(weak(lambda n: -0.08, 1, 2), [8], scaling="weak").predictions
    assert (len(one.notes), odd.notes[0]) == (0, "2 ranks are 8% faster than linear: is one of the points wrong?")


@settings(deadline=None)
@given(st.floats(-0.05, 3), st.floats(0, 1), st.sampled_from([4, 8, 64]))
def test_more_overhead_never_predicts_more_throughput(eps: float, more: float, target: int) -> None:
    less = mixed({2: eps}, PRIOR).overhead(target)
    assert mixed({2: eps + more}, PRIOR).overhead(target) >= less


@settings(deadline=None)
@given(st.floats(0.001, 1), st.floats(0.5, 2.5), st.floats(1, 3))
def test_more_of_all_overheads_never_predicts_more_throughput(eps: float, growth: float, times: float) -> None:
    seen = {2: eps, 4: eps * growth}
    less = mixed(seen, PRIOR).overhead(16)
    assert mixed({n: value * times for n, value in seen.items()}, PRIOR).overhead(16) >= less - 1e-9


@settings(deadline=None)
@given(st.floats(1e-6, 1e6), st.floats(0, 0.5))
def test_the_unit_does_not_matter(unit: float, eps: float) -> None:
    series = weak(lambda n: eps * n / 2, 1, 2, 4)
    scaled = Series(
        name="s", measure="throughput", values={n: v * unit for n, v in series.values.items()}, interconnect="nvlink"
    )
    (one,), (other,) = (extrapolate(each, [8], scaling="weak").predictions for each in (series, scaled))
    assert one.value is not None
    assert other.value == pytest.approx(one.value * unit, rel=1e-6)
    assert other.overhead == pytest.approx(one.overhead, rel=1e-6, abs=1e-9)


def test_beyond_a_node_an_interval_tells_that_no_row_is_there() -> None:
    (series,) = parse_series("n_gpus,nodes,throughput\n1,1,10\n8,1,70\n16,2,110\n")
    (one,) = extrapolate(series, [16], scaling="weak").predictions
    assert one.value is not None and one.low is not None and one.high is not None
    assert one.low < 110 < one.value < one.high
    assert one.measured == 110
    assert "no row beyond a node of 8" in one.notes[0]


def test_points_beyond_a_node_do_not_spoil_those_inside() -> None:
    (series,) = parse_series("n_gpus,nodes,throughput\n1,1,10\n2,1,19\n16,2,40\n")
    assert extrapolate(series, [4], scaling="weak").anchors == {1: 10, 2: 19}
    with pytest.raises(UnusableData, match="1 rank alone of a node of 8"):
        extrapolate(series, [2, 4], scaling="weak")


@pytest.mark.parametrize(
    ("link", "reason"),
    [("pcie", "PCIe beyond 4 ranks, often another root complex"), ("unknown", "name it with --interconnect")],
)
def test_beyond_a_root_complex_the_answer_is_withheld_unless_a_point_lies_there(link: Interconnect, reason: str) -> None:
    series = weak(SHAPES["ring bandwidth"], 1, 2, 4, interconnect=link)
    three, eight = extrapolate(series, [3, 8], scaling="weak").predictions
    assert (three.guess, eight.guess) == (False, True)
    assert (eight.value, eight.low, eight.high, eight.speedup) == (None, None, None, None)
    assert eight.notes[0].startswith("withheld (") and reason in eight.notes[0]
    further = weak(SHAPES["ring bandwidth"], 1, 4, 8, interconnect=link)
    assert [one.value is None for one in extrapolate(further, [6, 16], scaling="weak").predictions] == [False, True]
    (told,) = extrapolate(weak(SHAPES["ring bandwidth"], 1, 2, 4), [8], scaling="weak").predictions
    assert told.value is not None


def test_no_law_tells_what_is_withheld() -> None:
    series = weak(SHAPES["ring bandwidth"], 1, 2, 4, interconnect="pcie")
    assert {tuple(law.values) for law in extrapolate(series, [3, 8], scaling="weak").laws} == {(3,)}
    nothing = extrapolate(series, [8], scaling="weak")
    assert not any(law.values for law in nothing.laws)
    assert "law alone" not in plain_text(extrapolation_sheet([nothing]))


@pytest.mark.parametrize("link", ["pcie", "nvlink"])
def test_after_a_jump_in_the_points_the_answer_is_withheld(link: Interconnect) -> None:
    """An RTX 3090 server: the overhead on 2 and 4 ranks is 18 % and 105 %, more than three times as much."""
    assert jump({2: 0.18, 4: 1.05}) == (2, 4)
    assert jump({2: 0.18, 4: 0.54}) is None
    assert jump({2: 0.0, 4: 0.03}) is None  # within the noise
    (one,) = extrapolate(weak({2: 0.18, 4: 1.05}.__getitem__, 1, 2, 4, interconnect=link), [8], scaling="weak").predictions
    assert (one.guess, one.value) == (True, None)
    assert "jumps between 2 and 4 ranks" in one.notes[0]


TABLE = """group_id,n_gpus,throughput,interconnect
a,1,100,NVLink
a,2,190,NVLink
a,8,700,NVLink
b,2,190,PCIe
c,1,100,PCIe
c,2,191,PCIe
\x1b[2Jd,1,100,
\x1b[2Jd,2,150,
"""


def test_the_verb_prints_a_table_of_eighty_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text(TABLE)
    assert main(["extrapolate", str(tmp_path / "t.csv"), "-n", "8", "16", "--gpus-per-node", "8"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "\x1b" not in shown
    assert "b: left out: a row of 2 ranks alone tells nothing of others" in shown
    assert "16 ranks: no row beyond a node of 8" in shown
    assert "ring bandwidth" in shown


def test_json_is_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text(TABLE)
    assert main(["extrapolate", str(tmp_path / "t.csv"), "--world-sizes", "8", "--anchors", "1", "2", "--json"]) == 0
    a, b, *_ = json.loads(capsys.readouterr().out)
    (one,) = a["predictions"]
    assert a["anchors"] == {"1": 100.0, "2": 190.0}
    assert one["measured"] == 700
    assert one["relative_error"] == pytest.approx(one["value"] / 700 - 1)
    assert b["reason"].startswith("--anchors 1: no such row")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--world-sizes", "8", "99999"], "--world-sizes 99999: a job has 1 to 65536 ranks"),
        (["--world-sizes", "1", "8"], "--world-sizes 1"),
        (["--world-sizes", "8", "--anchors", "0"], "--anchors 0"),
        (["--world-sizes", "8", "--gpus-per-node", "0"], "--gpus-per-node 0"),
        (["--world-sizes", "8"], "t.csv: there is no such file"),
    ],
)
def test_wrong_flags_are_answered(words: list[str], answer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extrapolate", str(tmp_path / "t.csv"), *words]) == 2
    assert answer in capsys.readouterr().err


def test_a_table_without_a_usable_series_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("n,throughput\n2,3\n8,5\n")
    assert main(["extrapolate", str(tmp_path / "t.csv"), "--world-sizes", "8"]) == 2
    assert "t.csv: a row of 2 ranks alone tells nothing of others" in capsys.readouterr().err


def test_by_machine_needs_a_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("n,throughput\n8,80\n16,150\n")
    assert main(["extrapolate", str(tmp_path / "t.csv"), "-n", "32", "--by", "machine"]) == 2
    assert "t.csv: no series names its machine; add a column machine" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "words", "first"),
    [
        ("1,100\n2,190\n4,370\n", ("8", "--interconnect", "nvlink"), "Use 8 ranks. 8: yes, "),
        # of a row that was asked for, its own speedup: 370 over 100
        ("1,100\n2,190\n4,370\n", ("4", "--interconnect", "nvlink"), "Use 4 ranks. 4: yes, 3.70x (predicted "),
        ("1,100\n2,80\n4,75\n", ("8", "--interconnect", "nvlink"), "Stay with one rank until a gain is sure. 8: perhaps, "),
        # the largest row is better than what was asked for
        ("1,100\n2,190\n4,120\n", ("8", "--interconnect", "nvlink"), "Use 2 ranks. 8: cannot be told: the overhead jumps"),
        ("1,100\n2,190\n4,370\n", ("8",), "Use 4 ranks. 8: cannot be told: if it is PCIe, beyond 4 ranks often another "),
        ("16,100\n32,190\n64,360\n", ("128",), "Use 128 ranks. 128: yes, "),
        ("16,100\n32,90\n64,80\n", ("128",), "Stay with 16 ranks. 128: no, "),
    ],
)
def test_the_decision_comes_first(
    rows: str, words: tuple[str, ...], first: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.csv").write_text(f"n_gpus,throughput\n{rows}")
    assert main(["extrapolate", str(tmp_path / "t.csv"), "-n", *words]) == 0
    assert " ".join(capsys.readouterr().out.split()).startswith(first)


@given(st.sampled_from(["throughput", "throughput_per_rank", "step_s"]), st.sampled_from(["weak", "strong"]))
def test_a_row_has_the_speedup_that_an_extrapolation_to_it_would_have(measure: Measure, scaling: ScalingKind) -> None:
    costs = {1: 0.1, 2: 0.11, 4: 0.12}
    shares = {n: (1 if scaling == "weak" else 1 / n) for n in costs}
    values = {n: cost * shares[n] if measure == "step_s" else n / cost for n, cost in costs.items()}
    if measure == "throughput_per_rank":
        values = {n: value / n for n, value in values.items()}
    series = Series(name="s", measure=measure, values=values, interconnect="nvlink")
    told = extrapolate(series, [8], scaling=scaling)
    assert told.speedup_of(4, values[4]) == pytest.approx(4 * 0.1 / 0.12)
    (eight,) = told.predictions
    span = told.speedup_interval(eight)
    assert eight.value is not None and span is not None
    assert told.speedup_of(8, eight.value) == pytest.approx(eight.speedup)
    assert span.low < told.speedup_of(8, eight.value) < span.high
