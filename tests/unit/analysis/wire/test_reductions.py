"""Which reductions are fitted, and what is said of a run that holds others."""

from pathlib import Path

import pytest

from commprof.analysis.runs.load import load_run
from commprof.analysis.wire.fit import fit_wire
from commprof.cli import main
from commprof.commbench.errors import CommprofError

HEADER = "op,ranks,size,time_us,redop"
SIZES = (2**20, 2**22, 2**24)


def imported(folder: Path, *redops: str, op: str = "all_reduce") -> Path:
    rows = [f"{op},4,{size},{20 + size / 1e4:.1f},{redop}" for redop in redops for size in SIZES]
    log = folder / "log.csv"
    log.write_text("\n".join([HEADER, *rows]))
    assert main(["import", str(log), "--folder", str(folder / "run")]) == 0
    return folder / "run"


def test_a_run_of_another_reduction_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(CommprofError, match=r"all_reduce of float32 with redop max; sum and avg are fitted"):
        fit_wire([load_run(imported(tmp_path, "max"))])


def test_beside_a_sum_other_reductions_are_no_loss(tmp_path: Path) -> None:
    found = fit_wire([load_run(imported(tmp_path, "sum", "max"))])
    assert [(cost.op, cost.num_samples) for cost in found.costs] == [("all_reduce", 3)]
    assert found.unusable == ()


def test_beside_another_collective_the_reduction_that_is_left_out_is_named(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    runs = [load_run(imported(folders[0], "sum")), load_run(imported(folders[1], "min", "max", op="reduce"))]
    found = fit_wire(runs)
    assert [cost.op for cost in found.costs] == ["all_reduce"]
    assert [(u.op, u.reason) for u in found.unusable] == [("reduce", "redop max and min; sum and avg are fitted (-o sum)")]
