"""nccl-tests' JSON documents, all versions: what was written comes back, secrets stay behind, what is not whole is refused."""

import json
from pathlib import Path

import pytest

from commprof.analysis.readers.dialect import read_log
from commprof.analysis.runs.load import load_run
from commprof.cli import main
from commprof.commbench.errors import UnusableData
from tests.unit.analysis.readers.test_foreign_logs import BANDWIDTH, LATENCY_S, SIZES


def document(version: int) -> dict[str, object]:
    results = []
    for size in SIZES:
        seconds = LATENCY_S + size / BANDWIDTH
        body = {"time": seconds * 1e6, "alg_bw": size / seconds / 1e9, "bus_bw": size / seconds / 1e9 * 1.75, "nwrong": 0.0}
        result = {"size": size, "count": size // 4, "type": "float", "redop": "sum", "root": "    -1"}
        results.append(result | {"out_of_place": body, "in_place": body | {"nwrong": None}, "actual_iterations": 20})
    device = {
        "rank": 0,
        "group": 0,
        "pid": 1,
        "hostname": "node0",
        "device": 0,
        "device_hex": "0000:1b:00",
        "device_info": "H100",
    }
    config = {
        "nthreads": 1,
        "ngpus": 8,
        "warmup_iters": 1,
        "iterations": 20,
        "aggregated_iterations": 1,
        "validation": 1,
        "graph": 0,
    }
    config |= {"blocking_collectives": "false", "parallel_init": "false", "devices": [device]}
    spelling = "average_bus_bandwidith" if version == 1 else "average_bus_bandwidth"
    return {
        "version": version,
        "args": ["./build/all_reduce_perf", "-g", "8"],
        "env": ["SECRET=hunter2"],
        "nccl_version": 22703,
        "config": config,
        "results": results,
        "out_of_bounds": {"count": 0, "okay": "true"},
        spelling: {"bandwidth": "nan", "okay": "unchecked"},
    }


@pytest.mark.parametrize("version", [1, 2, 3])
def test_json_of_all_versions_without_its_secrets(version: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`-g 8` lists one device of eight, so the devices alone would say one rank."""
    log = tmp_path / "log.json"
    log.write_text(json.dumps(document(version)))
    assert main(["import", str(log), "--folder", str(tmp_path / "run")]) == 0
    run = load_run(tmp_path / "run")
    assert (run.world_size, run.info.software.nccl, len(run.collectives)) == (8, "2.27.3", 2 * len(SIZES))
    assert run.collectives[-1].median_s == pytest.approx(LATENCY_S + SIZES[-1] / BANDWIDTH)
    assert "hunter2" not in (tmp_path / "run/run.json").read_text() + capsys.readouterr().out


@pytest.mark.parametrize("damage", [lambda text: text[:-200], lambda text: text.replace('"version": 3', '"version": 9')])
def test_json_that_is_cut_or_from_the_future_is_refused(damage) -> None:  # noqa: ANN001
    with pytest.raises(UnusableData, match=r"whole nccl-tests JSON|version 9"):
        read_log(damage(json.dumps(document(3))))
