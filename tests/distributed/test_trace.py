"""`commprof trace` on traces that real ranks just wrote: our own training's, and one with a rank that is known to be late."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chrome_trace import check_events, check_sums, read_events
from tests.distributed.conftest import DEADLINE_S, Commprof

SLEEP_S = 0.05


def document(commprof: Commprof, *paths: Path) -> dict[str, object]:
    merged = paths[0].with_suffix(".merged.json.gz")
    done = commprof("trace", *paths, "--json", "--perfetto", merged)
    assert done.returncode == 0, done.stderr
    events = read_events(merged)
    check_events(events)
    check_sums(events, within_ns=1000)
    found = json.loads(done.stdout)
    for budget in found["budgets"]:
        parts = sum(part for name, part in budget.items() if name.endswith("_s") and name != "wall_s")
        assert parts == pytest.approx(budget["wall_s"], abs=1e-9)
    return dict(found)


def test_our_own_training_is_understood_without_a_finding(commprof: Commprof, tmp_path: Path, tiny: Path) -> None:
    done = commprof("train", tiny, "--nproc", "2", "--folder", "r", "distributed.bucket_cap_mb=0.002")
    assert done.returncode == 0, done.stderr
    found = document(commprof, tmp_path / "r")
    assert found["findings"] == []
    assert found["unmatched"] == []
    assert [(own["rank"], own["step"]) for own in found["budgets"]] == [(0, 18), (0, 19), (1, 18), (1, 19)]  # type: ignore[attr-defined]
    assert {own["num_ranks"] for own in found["collectives"]} == {2}  # type: ignore[attr-defined]
    done = commprof("report", "r", "--out", "page.html")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page.html").read_text()
    share = f"{found['waiting_share']:.1%}"
    assert f"of the time in matched collectives {share} is waiting for the last rank" in page
    assert "2 traced steps of 2 of 2 ranks" in page
    assert page.count("<code>r/traces/rank00001.trace.json.gz</code>") == 2  # the budget's source and the collectives'
    recorded = json.loads((tmp_path / "r/gradients.json").read_text())["buckets"]
    expected = [(own["index"], own["num_bytes"]) for own in recorded]
    assert [(own["bucket"], own["message_bytes"]) for own in found["buckets"]] == expected  # type: ignore[attr-defined]
    assert len(expected) > 2
    for own in found["bucket_steps"]:  # type: ignore[attr-defined]
        assert own["named"]
        assert 0 < own["ready_s"] < own["launch_s"] <= own["start_s"] < own["end_s"]
    done = commprof("trace", "--reduce", tmp_path / "r", "--out", "r/reduced")
    assert done.returncode == 0, done.stderr
    assert document(commprof, tmp_path / "r/reduced") == found


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_a_rank_that_sleeps_is_named_with_its_time(commprof: Commprof, tmp_path: Path, num_ranks: int) -> None:
    script = Path(__file__).parent / "late_rank.py"
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_ranks), str(script),
         str(tmp_path), str(SLEEP_S)],
        capture_output=True, text=True, timeout=DEADLINE_S, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    native, compact = (document(commprof, tmp_path / layout) for layout in ("native", "compact"))
    assert native["budgets"] == compact["budgets"]
    assert native["collectives"] == compact["collectives"]
    late = native["stragglers"]
    assert (late["kind"], late["rank"]) == ("constant", num_ranks - 1)  # type: ignore[index]
    assert 0.6 * SLEEP_S < late["cost_s"] < 2.5 * SLEEP_S  # type: ignore[index]
    assert "time outside operators" in late["message"]  # type: ignore[index]
