"""`import commprof as cp`: whatever form runs, numbers and tables come in they mean the same, or are refused by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import commprof as cp
from commprof.commbench.errors import BadInput


@pytest.mark.parametrize("n", [[2.5], "4", b"4", 1, True, None, [2, 70_000], [None], [[2]]])
def test_numbers_of_ranks_are_whole_and_above_one(study: Path, n: Any) -> None:  # noqa: ANN401
    with pytest.raises(cp.BadInput, match="n"):
        cp.predict(study, n=n)


@pytest.mark.parametrize("n", [np.array([2, 4]), np.array(4), np.int32(4), pd.Series([2, 4]), range(2, 5), {4}])
def test_numbers_of_ranks_may_come_from_any_library(study: Path, n: Any) -> None:  # noqa: ANN401
    assert cp.predict(study, n=n)[4].world_size == 4


def test_runs_may_be_one_run_or_several_loads(study: Path) -> None:
    bench, profile = cp.load(study / "bench-n2"), cp.load(study / "profile-n1")
    assert cp.check(bench[0]).ok
    assert cp.predict([bench, profile[0]])[2].step_s == cp.predict([study / "bench-n2", study / "profile-n1"])[2].step_s


@pytest.mark.parametrize("what", [None, 3, b"runs", [None], [3], []])
def test_what_is_no_path_is_refused(what: Any) -> None:  # noqa: ANN401
    for read in (cp.load, cp.trace):
        with pytest.raises(cp.BadInput, match=r"no path|no list of paths|none is named"):
            read(what)
    with pytest.raises(cp.BadInput):
        cp.predict(what)


def test_odd_arguments_are_refused_by_name(study: Path) -> None:
    table = pd.DataFrame({"n": [1, 2], "step_s": [1.0, 1.1]})
    bench, budget = study / "bench-n2", cp.Budget(price_per_gpu_hour=-1, samples_per_epoch=None, epochs=1, deadline_s=None)
    asked: list[tuple[str, Callable[[], object]]] = [
        ("scaling='Strong'", lambda: cp.extrapolate(table, 4, scaling="Strong")),  # type: ignore[arg-type]
        ("anchors='12'", lambda: cp.extrapolate(table, 4, anchors="12")),  # type: ignore[arg-type]
        ("neither a CSV file", lambda: cp.extrapolate({"n": [1]}, 4)),  # type: ignore[arg-type]
        ("tolerance=5", lambda: cp.check(bench, baseline=bench, tolerance=5)),
        ("tolerance=nan", lambda: cp.check(bench, tolerance=float("nan"))),
        ("nodes=0", lambda: cp.fit(bench, 4, nodes=0)),
        ("message_bytes=-1", lambda: cp.fit(bench).time_s(-1, 2)),
        ("message_bytes=nan", lambda: cp.fit(bench).time_s(float("nan"), 2)),
        ("price_per_gpu_hour=-1", lambda: cp.advise(study, 2, budget=budget)),
        ("of='steps'", lambda: cp.load(bench).samples("steps")),  # type: ignore[arg-type]
    ]
    for words, ask in asked:
        with pytest.raises(cp.BadInput, match=words):
            ask()


def test_what_pandas_did_to_a_table_of_throughputs_does_not_matter() -> None:
    steps = {"series": ["a"] * 3 + ["b"] * 3, "n": [1, 2, 4] * 2, "step_s": [1.0, 1.1, 1.2, 2.0, 2.1, 2.2]}
    table = pd.DataFrame({**steps, "interconnect": "nvlink"})
    told = cp.extrapolate(table, n=8).to_frame().value.to_list()
    gap = pd.DataFrame([dict.fromkeys(table.columns)])
    for same in (
        table.set_index("series"),
        table.set_index(["series", "n"]),
        table.convert_dtypes(),
        table.astype({"series": "category", "n": "category"}),
        table.astype({"n": float}),
        pd.concat([table, gap]),
    ):
        assert cp.extrapolate(same, n=8).to_frame().value.to_list() == told
    with pytest.raises(cp.BadInput, match="several columns step_s"):
        cp.extrapolate(pd.concat([table, table[["step_s"]] * 2], axis=1), n=8)


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 2500, "*" + "x" * 300, "a\0b", "no\x1b[31mrun"])
def test_a_name_that_no_file_has_is_one_printable_line(name: str) -> None:
    with pytest.raises(BadInput) as caught:
        cp.load(name)
    assert "\x1b" not in str(caught.value) and "\n" not in str(caught.value)
