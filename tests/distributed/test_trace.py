"""`commprof trace` on traces that real ranks just wrote, one of them known to be late; our own training's: test_train.py."""

import json
from pathlib import Path

import pytest

from tests.chrome_trace import check_events, check_sums, read_events
from tests.distributed.conftest import Commprof
from tests.forked import Zygote

SLEEP_S = 0.15  # many times what a busy machine delays another rank by


def document(commprof: Commprof, *paths: Path) -> dict[str, object]:
    merged = paths[0].with_suffix(".merged.json.gz")
    done = commprof("trace", *paths, "--json", "--perfetto", merged)
    assert done.returncode == 0, done.stderr
    events = read_events(merged)
    check_events(events)
    check_sums(events, within_ns=1000, within=5e-4)
    found = json.loads(done.stdout)
    for budget in found["budgets"]:
        parts = sum(part for name, part in budget.items() if name.endswith("_s") and name != "wall_s")
        assert parts == pytest.approx(budget["wall_s"], abs=1e-9)
    return dict(found)


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_a_rank_that_sleeps_is_named_with_its_time(commprof: Commprof, zygote: Zygote, tmp_path: Path, num_ranks: int) -> None:
    script = Path(__file__).parent / "late_rank.py"
    done = zygote.run(tmp_path, script, tmp_path, str(SLEEP_S), ranks=num_ranks)
    assert done.returncode == 0, done.stderr[-2000:]
    native, compact = (document(commprof, tmp_path / layout) for layout in ("native", "compact"))
    assert native["budgets"] == compact["budgets"]
    assert native["collectives"] == compact["collectives"]
    late = native["stragglers"]
    assert (late["kind"], late["rank"]) == ("constant", num_ranks - 1)  # type: ignore[index]
    assert 0.6 * SLEEP_S < late["cost_s"] < 2.5 * SLEEP_S  # type: ignore[index]
    assert "time outside operators" in late["message"]  # type: ignore[index]
