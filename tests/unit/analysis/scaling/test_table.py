"""Published tables: what their columns mean, and what is refused in one line."""

from pathlib import Path

import pytest

from commprof.analysis.scaling.extrapolate import extrapolate, extrapolate_all
from commprof.analysis.scaling.results import Refused
from commprof.analysis.scaling.series import Series
from commprof.analysis.scaling.table import interconnect_of, parse_series, read_series
from commprof.commbench.errors import BadInput, UnusableData


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("NVSwitch (DGX A100, NVLink3)", "nvlink"),
        ("NVLink2 hybrid cube-mesh (DGX-1)", "nvlink"),
        ("PCIe + NVLink bridges (pairs)", "pcie"),
        ("no NVLink reported", "unknown"),
        ("", "unknown"),
    ],
)
def test_links_are_told_from_their_description(words: str, kind: str) -> None:
    assert interconnect_of(words) == kind


def test_tables_say_the_same_in_other_words(tmp_path: Path) -> None:
    """Repeats count by their median; a step of 10 ms on one rank."""
    (tmp_path / "t.csv").write_text("\ufeffWorld_Size;step_ms;gpus_per_node\n1;10\n2;11;8\n2;30;8\n2;12;8\n")
    (series,) = read_series(tmp_path / "t.csv")
    assert series.values == {1: pytest.approx(0.010), 2: pytest.approx(0.012)}
    assert series.ranks_per_node == 8
    (one,) = extrapolate(series, [4], scaling="weak").predictions
    assert one.value is not None
    assert one.value > 0.012


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column of ranks"),
        ("n,speed\n1,2\n", "line 1: nothing measured; name a column throughput"),
        ("n,throughput\n", "line 1 is its last"),
        ("n,throughput\n1,10\n2,x\n", "line 3: throughput 'x' is no number above 0"),
        ("n,throughput\n1,nan\n", "line 2: throughput 'nan'"),
        ("n,throughput\n1,1e999\n", "line 2: throughput '1e999'"),
        ("n,throughput\n1,-3\n", "line 2: throughput '-3'"),
        ("n,throughput\n1\n", "line 2: throughput ''"),
        ("n,throughput\n1.5,3\n", "line 2: ranks '1.5' is no whole number"),
        ("n,throughput\n99999999,3\n", "line 2: ranks '99999999'"),
        ("n,throughput\n\u0661,3\n", "line 2: ranks"),
        ("n,throughput\n1,3,4\n", "line 2 has 3 cells, the header 2"),
        ("n,nodes,throughput\n1,0,3\n", "line 2: nodes '0'"),
        ("n,throughput\n1,\0\n", "NUL bytes"),
        ('n,throughput\n1,"' + "9" * 200_000 + '"\n', "is no CSV"),
    ],
)
def test_a_malformed_table_names_the_line_and_the_mend(text: str, words: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_series(text)
    assert words in str(refused.value)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("values", "anchors", "words"),
    [
        ({2: 1.0, 8: 7.0}, [], "2 ranks alone tells nothing of others"),
        ({8: 7.0}, [], "every row is asked for"),
        ({1: 1.0, 8: 7.0}, [], "1 rank alone tells nothing of others"),
        ({1: 1.0, 2: 2.0}, [1, 3], "--anchors 3: no such row; it has 1, 2 ranks"),
    ],
)
def test_a_series_that_tells_nothing_is_refused(values: dict[int, float], anchors: list[int], words: str) -> None:
    with pytest.raises(UnusableData, match=words):
        extrapolate(Series(name="", measure="throughput", values=values), [8], scaling="weak", anchors=anchors)


@pytest.mark.parametrize(("row", "words"), [("16,,b,2", "throughput '' is no number"), (",3,b,2", "ranks '' is no whole")])
def test_a_gap_leaves_its_series_out_in_one_line(row: str, words: str) -> None:
    """A table of several series is told but for the one with the gap."""
    a, b = extrapolate_all(parse_series(f"n_gpus,throughput,series,nodes\n8,80,a,1\n16,150,a,2\n{row}\n"), [32], scaling="weak")
    assert isinstance(b, Refused)
    assert not isinstance(a, Refused)
    assert f"line 4: {words}" in b.reason


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("8,2,step_time,s\n16,0.5,mfu,s\n", "'mfu s' and 'step_time s' in one series; keep one metric and unit"),
        ("8,2,step_time,s\n16,2100,step_time,ms\n", "'step_time ms' and 'step_time s' in one series"),
        ("8,2,step_time,s\n16,0.5,loss,\n", "line 3: metric 'loss' is not known"),
        ("8,2,step_time,h\n16,3,step_time,h\n", "line 2: metric 'step_time h' is not known; use step_time in s or ms"),
        ("8,2,step_time,s\n16,2,step_time,s\n16,3,step_time,s\n", "2 rows of 16 ranks, 2 to 3, are no repeats"),
    ],
)
def test_mixed_metrics_units_and_repeats_are_refused_in_one_line(rows: str, reason: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_series("n_gpus,value,metric,unit\n" + rows)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("metric", "unit", "values", "measure"),
    [
        ("step_time", "s (derived)", (2.0, 2.1), "step_s"),
        ("step_time", "ms", (2000, 2100), "step_s"),
        ("steps_per_second", "1/s", (0.5, 1 / 2.1), "step_s"),
        ("throughput", "tok/s", (80.0, 160 / 1.05), "throughput"),
        ("throughput_per_gpu", "tok/s/GPU", (10.0, 10 / 1.05), "throughput_per_rank"),
        ("mfu", "%", (50.0, 50 / 1.05), "mfu"),
    ],
)
def test_a_table_may_name_its_metric_in_each_row(metric: str, unit: str, values: tuple[float, float], measure: str) -> None:
    rows = "".join(f"{n},{value},{metric},{unit}\n" for n, value in zip((8, 16), values, strict=True))
    (series,) = parse_series("n_gpus,value,metric,unit\n" + rows)
    assert series.measure == measure
    assert series.cost(16, "weak") / series.cost(8, "weak") == pytest.approx(1.05)


def test_long_names_that_begin_alike_stay_apart() -> None:
    rows = "".join(f"{'x' * 70}/{name},{n},{n}\n" for name in "ab" for n in (1, 2))
    first, second = parse_series("series,n,throughput\n" + rows)
    assert len(first.name) <= 60 and first.name.endswith("/a") and second.name.endswith("/b")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("4,8,,10", "line 2: 4 ranks on 8 nodes"),
        ("32,2,8,10", "line 2: 32 ranks on 2 nodes of 8"),
    ],
)
def test_ranks_that_nodes_cannot_hold_are_refused_in_one_line(row: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        parse_series(f"n,nodes,gpus_per_node,throughput\n{row}\n")


@pytest.mark.parametrize(
    ("header", "cells", "machine"),
    [
        ("machine,gpu", "juwels,A100", "juwels"),
        ("cluster", "lumi", "lumi"),
        ("gpu,interconnect", "A100,InfiniBand", "A100 InfiniBand"),
        ("gpu", "A100", "A100"),
        ("interconnect", "InfiniBand", ""),
        ("machine,gpu", ",A100", "A100"),
    ],
)
def test_a_machine_is_named_or_its_card_and_wire_are(header: str, cells: str, machine: str) -> None:
    (series,) = parse_series(f"n,throughput,{header}\n8,80,{cells}\n")
    assert series.machine == machine
