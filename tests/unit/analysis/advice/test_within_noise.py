"""A saving that two runs would not tell from none is named after all that they would, and says so, wherever advice is shown."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import commprof as cp
from commprof.analysis.advice.predict import predict_runs
from commprof.analysis.report.sections.predicted import change_section
from commprof.analysis.runs.load import load_runs
from commprof.cli import main
from tests.paper_study import study, verdict

Floats = NDArray[np.float64]
LATENCY_S = 0.045  # accumulating saves some 47 ms of it, two bytes a gradient 5


def apart_by(spread_s: float) -> Callable[[Floats, Floats, float, float], Floats]:
    """Return what two runs show of a saving where they differ by so much for their own pace."""

    def saved(now_s: Floats, then_s: Floats, _drift: float, _between: float) -> Floats:
        own_s = np.linspace(-spread_s, spread_s, len(now_s))
        own_s[0] = 0.0
        told_s: Floats = now_s - then_s + own_s
        return told_s

    return saved


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return study(tmp_path, latency_s=LATENCY_S)


def test_a_saving_that_is_not_told_from_none_comes_last_and_says_so(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("commprof.analysis.advice.changes.saved", apart_by(0.03))
    runs = load_runs(folders)
    found = predict_runs(runs).changes
    doubtful = [change.within_noise for change in found]
    assert doubtful == sorted(doubtful) and set(doubtful) == {False, True}
    small = found[-1]
    assert main(["advise", *map(str, folders)]) == 0
    told, _, rest = " ".join(capsys.readouterr().out.split()).partition("perhaps no saving")
    assert small.what not in told
    assert f"{small.what} (within noise)" in rest and "cannot be told from no saving" in rest
    table = change_section(predict_runs(runs)).tables[-1]
    assert (table.title, len(table.rows)) == ("Within noise: not told from no saving", sum(doubtful))
    answer = cp.advise(folders)
    assert answer.to_frame().within_noise.tolist()[: len(doubtful)] == doubtful
    assert f"on 2: {found[0].what}" in answer.headline()
    assert small.what not in verdict(predict_runs(runs), [], runs)[-1]


def test_of_savings_all_within_noise_none_is_advised(folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commprof.analysis.advice.changes.saved", apart_by(0.2))
    runs = load_runs(folders)
    cure = verdict(predict_runs(runs), [], runs)[-1]
    assert cure.startswith("Try first: measure again, longer or on a quieter machine; no change's saving can be told from none")
    assert "(all within noise)" in cure
    assert "no saving can be told from none" in cp.advise(folders).headline()
