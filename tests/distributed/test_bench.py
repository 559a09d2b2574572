import json
import subprocess
import sys
from pathlib import Path

from commbench.records import CollectiveMeasurement
from commbench.rundir import read_info, read_records
from tests.distributed.conftest import DEADLINE_S, SCRIPT, Commprof


def test_two_ranks_measure_every_size_and_keep_every_sample(commprof: Commprof, tmp_path: Path) -> None:
    done = commprof("bench", "--nproc", "2", "-b", "1K", "-e", "4K", "-n", "7", "-w", "2", "--folder", "r")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line and not line.startswith("#")]
    assert [row[0] for row in rows] == ["1024", "2048", "4096"]
    assert all(len(row) == 13 and row[8] == row[12] == "0" for row in rows)
    measured = list(read_records(tmp_path / "r" / "collectives.jsonl", CollectiveMeasurement))
    assert [(m.message_bytes, m.in_place) for m in measured] == [(s, p) for s in (1024, 2048, 4096) for p in (False, True)]
    for m in measured:
        assert len(m.slowest_rank_s) == len(m.fastest_rank_s) == 7
        assert all(slow >= fast > 0 for slow, fast in zip(m.slowest_rank_s, m.fastest_rank_s, strict=True))
        assert m.num_wrong == 0
        assert m.cpu_s is not None
        assert m.cpu_s > 0
    info = read_info(tmp_path / "r")
    assert (info.status, info.world_size, info.backend, info.launcher) == ("completed", 2, "gloo", "torchrun")
    assert [rank.rank for rank in info.ranks] == [0, 1]


def test_torchrun_starts_it_as_well(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    done = subprocess.run(
        [*command, SCRIPT, "bench", "-e", "16", "-n", "2", "--json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
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
