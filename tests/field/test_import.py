"""`commprof import` over the published logs: what INDEX.csv says of each must come out of the log alone."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import pytest

from commprof.analysis.readers.as_run import Understood, measurements, read_text, understand
from commprof.analysis.readers.dialect import read_log
from commprof.analysis.runs.load import load_run
from commprof.cli import main
from commprof.commbench.errors import UnusableData

LOGS = Path(__file__).parents[2].parent / "shared/data/nccl_logs"
REFUSED = {
    "54_h200_b200_nvls_vs_ring_by_n_mleng.txt": "has no message sizes",
    "60_rtx4090_x8_p2pBandwidthLatencyTest_before_after.txt": "copies between two GPUs",
}

pytestmark = [
    pytest.mark.field,
    pytest.mark.skipif(not LOGS.is_dir(), reason="the published tables are not in ../shared/data/nccl_logs"),
]


def index() -> Iterator[dict[str, str]]:
    if LOGS.is_dir():
        with (LOGS / "INDEX.csv").open() as file:
            yield from csv.DictReader(file)


def read(name: str, shown_as: str) -> Understood:
    (sweep,) = read_log(read_text(LOGS / name))
    return understand(sweep, shown_as, op=None, ranks=None)


USABLE = [row for row in index() if row["file"] not in REFUSED]


@pytest.mark.parametrize("truth", USABLE, ids=lambda truth: truth["file"][:2])
def test_collective_ranks_and_nodes_are_those_of_the_index(truth: dict[str, str], tmp_path: Path) -> None:
    assert main(["import", str(LOGS / truth["file"]), "--folder", str(tmp_path / "run")]) == 0
    run = load_run(tmp_path / "run")
    (op,) = {m.op for m in run.collectives}
    assert op.replace("_to_", "to") == truth["collective"].split()[0]
    assert run.world_size == int(truth["n_gpus"])
    assert not any(m.num_wrong for m in run.collectives)
    if run.info.ranks:
        assert (len(run.info.ranks), run.info.num_nodes) == (run.world_size, int(truth["nodes"]))
        named = truth["gpu"].removeprefix("Tesla ").split()[0].split("-")[0]
        assert all(named in rank.device_name for rank in run.info.ranks)
    if op == "all_reduce":
        assert main(["fit", str(run.path)]) == 0


@pytest.mark.parametrize("truth", USABLE, ids=lambda truth: truth["file"][:2])
def test_without_its_name_a_log_is_understood_alike_or_refused(truth: dict[str, str]) -> None:
    try:
        found = read(truth["file"], "log.txt")
    except UnusableData as refusal:
        assert "say which with --op" in str(refusal)  # noqa: PT017
        assert truth["collective"] == "all_gather"
    else:
        assert found.ranks.value == int(truth["n_gpus"])
        assert found.op.replace("_to_", "to") == truth["collective"].split()[0]


@pytest.mark.parametrize("truth", USABLE, ids=lambda truth: truth["file"][:2])
def test_every_printed_rate_comes_out_again(truth: dict[str, str]) -> None:
    """Rates are worked out from size, time and n alone; the printed ones, and their printed mean, are the check."""
    found = read(truth["file"], truth["file"])
    records = {(m.message_bytes, m.in_place): m for m in measurements(found)}
    assert len(records) == len(found.sweep.times)
    for time in found.sweep.times:
        assert time.busbw is not None
        slack = time.busbw.slack + 0.006 * time.busbw.value
        assert records[time.message_bytes, time.in_place].busbw_bytes_per_s == pytest.approx(time.busbw.value, abs=slack)
    text = (LOGS / truth["file"]).read_text()
    if footer := re.search(r"Avg bus bandwidth *: *([\d.]+)", text):
        empty = 2 * len(re.findall(r"^\W*0 +0 +float", text, re.MULTILINE))
        mean = fmean([*(m.busbw_bytes_per_s for m in records.values()), *([0.0] * empty)])
        assert mean == pytest.approx(float(footer[1]) * 1e9, rel=2e-3)


@pytest.mark.parametrize("name", REFUSED)
def test_what_holds_no_sweep_is_refused(name: str) -> None:
    if LOGS.is_dir():
        with pytest.raises(UnusableData, match=REFUSED[name]):
            read_log(read_text(LOGS / name))


@pytest.mark.parametrize(("name", "note"), [("01", "4 times of zero"), ("01", "validation was off"), ("40", "16 KiB (11.8x)")])
def test_traps_are_named(name: str, note: str) -> None:
    (path,) = LOGS.glob(f"{name}_*")
    assert any(note in said for said in read(path.name, path.name).notes)
