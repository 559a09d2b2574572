"""One quantity, one value: the rank table, the bucket table, --against, the report and the JSON take it from one place."""

import json
import re
from pathlib import Path

import pytest

from commprof.cli import main
from tests.report_runs import add_train, report
from tests.traces import event, gloo_all_reduce, header, profiler_step, write_trace

pytestmark = pytest.mark.usefixtures("undrawn")

AUTOGRAD = "autograd::engine::evaluate_function: MmBackward0"
# By step and rank: when the bucket's all-reduce begins and ends, in ms after the step; all compute until 60.
COLLECTIVES = [
    ((20, 51), (22, 50)),
    ((30, 70), (25, 71)),
    ((21, 40), (39, 41)),
    ((50, 90), (20, 90)),
    ((33, 44), (34, 52)),
    ((20, 30), (21, 32)),
    ((41, 66), (40, 67)),
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = add_train(tmp_path / "train", 2, 0.1)
    for rank in range(2):
        events = []
        for step, spans in enumerate(COLLECTIVES):
            base = 1e6 * step
            start, end = (base + 1e3 * own for own in spans[rank])
            events += [
                profiler_step(step, base, base + 1e5 + 1e3 * step),
                event("cpu_op", AUTOGRAD, base + 1e4, base + 1.1e4),
                event("cpu_op", "aten::mm", base, base + 6e4),
                event("user_annotation", "bucket 0", base + 1.5e4, base + 1.6e4),
                event("cpu_op", "c10d::allreduce_", base + 1.55e4, base + 1.58e4, **{"Input Dims": [[[1000]]]}),
                gloo_all_reduce(start, end),
                event("cpu_op", AUTOGRAD, base + 9.5e4, base + 9.6e4),
            ]
        write_trace(run / "traces" / f"rank{rank:05d}.trace.json.gz", events, header(rank, 2, host_name="a"))
    return run


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main([*map(str, words)]) == 0
    return capsys.readouterr().out


def test_a_transfer_has_one_value_in_all_tables(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each step's transfer, from the last arrival to a rank's end, by hand: mean over ranks, median over steps."""
    hidden_ms, exposed_ms = [], []
    for spans in COLLECTIVES:
        ready = max(start for start, _ in spans)
        hidden_ms.append(sum(max(0, min(end, 60) - ready) for _, end in spans) / 2)
        exposed_ms.append(sum(max(0, end - max(ready, 60)) for _, end in spans) / 2)
    hidden_s, transfer_ms = sorted(hidden_ms)[3] / 1e3, sorted(map(sum, zip(hidden_ms, exposed_ms, strict=True)))[3]
    document = json.loads(printed(capsys, "trace", run, "--json"))
    *by_rank, of_all = document["parts"]
    assert [own["rank"] for own in (*by_rank, of_all)] == [0, 1, None]
    assert of_all["transfer_hidden_s"] == pytest.approx(hidden_s)
    (bucket,) = document["buckets"]
    assert bucket["transfer_s"] == pytest.approx(transfer_ms / 1e3)
    assert bucket["hidden_share"] * bucket["transfer_s"] == pytest.approx(hidden_s)
    against = json.loads(printed(capsys, "trace", run, "--against", run, "--json"))
    after_s = {own["part"]: own["after_s"] for own in against["differences"]}
    assert {name: of_all[f"{name}_s"] for name in after_s if name != "step"} == {
        name: after_s[name] for name in after_s if name != "step"
    }
    assert after_s["step"] == of_all["wall_s"]


def test_a_reader_finds_the_same_number_in_print_and_on_the_page(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "trace", run)
    table = [line.split() for line in text.splitlines() if re.match(r" *(0|1|all) .*%.*%.*%", line)]
    page = report(run)
    assert len(table) == 3
    for own in table:
        assert page.row(f"train {' '.join(own)}" + (f" rank0000{own[0]}.trace.json.gz" if own[0] != "all" else ""))
    assert "medians over 7 steps" in text
    assert "All: the mean over ranks of each step, as --against compares it." in " ".join(text.split())


def test_waiting_is_until_the_last_arrival_everywhere(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ranks leave at different times, which is no waiting: of all time in collectives the share that the budgets call so."""
    document = json.loads(printed(capsys, "trace", run, "--json"))
    spent = {"waiting": 0.0, "transfer": 0.0}
    for own in document["budgets"]:
        for name in spent:
            spent[name] += own[f"{name}_hidden_s"] + own[f"{name}_exposed_s"]
    share = spent["waiting"] / sum(spent.values())
    assert document["waiting_share"] == pytest.approx(share)
    assert [own["waiting_share"] for own in document["collectives"]] == [pytest.approx(share)]
