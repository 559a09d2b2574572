import json
import subprocess
import sys
from pathlib import Path

import pytest

from commprof.commbench.machine.facts import HostInfo, TelemetrySample
from commprof.commbench.records.rundir import read_document, read_info, read_records
from commprof.commbench.records.types import BurstMeasurement, CollectiveMeasurement
from commprof.commbench.spread import relative_half_width
from tests.distributed.conftest import SCRIPT, Commprof, run_in
from tests.forked import Zygote

Swept = tuple[Path, "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """A sweep over three sizes on two ranks, in `r` below the folder."""
    folder = tmp_path_factory.mktemp("swept")
    words = ("bench", "--nproc", "2", "-b", "1K", "-e", "4K", "-n", "7", "-w", "2", "--folder", "r")
    return folder, run_in(folder, SCRIPT, *words)


def test_two_ranks_measure_every_size_and_keep_every_sample(
    swept: Swept,
) -> None:
    folder, done = swept
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line and not line.startswith("#")]
    assert [row[0] for row in rows] == ["1024", "2048", "4096"]
    assert all(len(row) == 13 and row[8] == row[12] == "0" for row in rows)
    measured = list(read_records(folder / "r" / "collectives.jsonl", CollectiveMeasurement))
    assert [(m.message_bytes, m.in_place) for m in measured] == [(s, p) for s in (1024, 2048, 4096) for p in (False, True)]
    for m in measured:
        assert len(m.slowest_rank_s) == len(m.fastest_rank_s) == 7
        assert all(slow >= fast > 0 for slow, fast in zip(m.slowest_rank_s, m.fastest_rank_s, strict=True))
        assert m.num_wrong == 0
        assert m.cpu_s is not None
        assert m.cpu_s > 0
    info = read_info(folder / "r")
    assert (info.status, info.world_size, info.backend, info.launcher) == ("completed", 2, "gloo", "commprof")
    assert [rank.rank for rank in info.ranks] == [0, 1]


def test_all_three_modes_in_one_run_stand_side_by_side(forked: Commprof, tmp_path: Path) -> None:
    modes = ("--mode", "isolated,pipelined,burst", "--buckets", "300K/128K", "--stats", "-d", "half", "-o", "avg")
    done = forked(2, "bench", "-b", "1K", "-e", "2K", "-n", "6", "-w", "2", *modes, "--folder", "r")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith(" ")]
    assert [len(row) for row in rows] == [5 + 4 * 9] * 2 + [4] * 3
    measured = list(read_records(tmp_path / "r" / "collectives.jsonl", CollectiveMeasurement))
    for m in measured:
        assert (m.dtype, m.reduction, m.num_wrong, len(m.slowest_rank_s)) == ("float16", "avg", 0, 6)
        assert m.cold_s is not None
        assert not m.hot
        assert m.num_buffers > 100
        assert m.calls_per_sample == 1 if m.mode == "isolated" else m.calls_per_sample > 1
    (burst,) = read_records(tmp_path / "r" / "bursts.jsonl", BurstMeasurement)
    assert burst.bucket_bytes == (128 * 1024, 128 * 1024, 44 * 1024)
    assert burst.num_wrong == 0
    assert all(list(done_s) == sorted(done_s) for done_s in burst.done_s)
    assert [done_s[-1] for done_s in burst.done_s] == list(burst.slowest_rank_s)


def test_a_size_ends_when_its_median_is_known(forked: Commprof, tmp_path: Path) -> None:
    done = forked(2, "bench", "-b", "1K", "-e", "1K", "--fast", "--seconds", "20", "--hot", "--folder", "r")
    assert done.returncode == 0, done.stderr
    for m in read_records(tmp_path / "r" / "collectives.jsonl", CollectiveMeasurement):
        assert relative_half_width(m.slowest_rank_s) <= 0.10
        assert (m.hot, m.num_buffers) == (True, 1)


def test_a_run_knows_its_hosts_and_how_they_fared(swept: Swept, zygote: Zygote) -> None:
    folder, done = swept
    assert done.returncode == 0, done.stderr
    (host,) = read_document(folder / "r" / "environment.json", list[HostInfo])
    assert host.cores_usable >= 1
    samples = list(read_records(folder / "r" / "telemetry.jsonl", TelemetrySample))
    assert len(samples) >= 2
    assert {"lo"} <= {interface.name for interface in samples[-1].interfaces}
    checked = zygote.run(folder, "commprof", "check", "r", "--json")
    assert checked.returncode in (0, 3), checked.stderr
    verdicts = {verdict["name"]: verdict["ok"] for verdict in json.loads(checked.stdout)}
    assert verdicts["ending"] is verdicts["results"] is True


def test_torchrun_starts_it_as_well(tmp_path: Path) -> None:
    """Beside a user's own modules, which come first on the path."""
    for name in ("train", "analysis", "commbench"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    done = run_in(tmp_path, *command, SCRIPT, "bench", "-e", "16", "-n", "2", "--json", PYTHONPATH=".")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [m["message_bytes"] for m in document["measurements"]] == [8, 8, 16, 16]
    assert Path(document["run"]).parent == tmp_path / "runs"


def test_one_process_is_a_world_of_its_own(commprof: Commprof) -> None:
    done = commprof("bench", "-e", "16", "-n", "2", "-c", "0")
    assert done.returncode == 0, done.stderr
    assert "not checked" in done.stdout


def test_a_taken_folder_is_refused_before_anything_starts(commprof: Commprof, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    for args in (("--nproc", "2"), ()):
        done = commprof("bench", *args, "-e", "16", "--folder", "r")
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].endswith("r already exists; a run never overwrites another, choose a new folder")
