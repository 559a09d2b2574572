import json
from itertools import permutations
from pathlib import Path

import pytest

from commprof.commbench.records.links import LinkMeasurement
from commprof.commbench.records.rundir import read_info, read_records
from tests.distributed.conftest import Commprof


@pytest.mark.parametrize("ranks", [2, 3])
def test_every_ordered_pair_is_measured_at_every_size(commprof: Commprof, forked: Commprof, tmp_path: Path, ranks: int) -> None:
    words = ("-b", "8", "-e", "4096", "-f", "512", "-n", "7", "-w", "1", "--backend", "gloo", "--folder", "r")
    done = commprof("links", "--nproc", "2", *words) if ranks == 2 else forked(ranks, "links", *words)
    assert done.returncode == 0, done.stderr
    measured = [m for m in read_records(tmp_path / "r" / "links.jsonl", LinkMeasurement) if m.kind == "send_recv"]
    pairs = [(f"rank{a}", f"rank{b}") for a, b in permutations(range(ranks), 2)]
    assert [(m.source, m.target, m.message_bytes) for m in measured] == [(*pair, size) for pair in pairs for size in (8, 4096)]
    assert all(len(m.samples_s) == 7 and min(m.samples_s) > 0 and m.timer == "perf_counter" for m in measured)
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("rank")]
    assert [row[0] for row in rows] == [f"rank{rank}" for rank in range(ranks)] * 2
    assert all(
        row[1 + index % ranks] == "-" and row.count("-") == 1 and len(row) == ranks + 1 for index, row in enumerate(rows)
    )
    assert ("only one link" in done.stdout) == (ranks == 2)
    info = read_info(tmp_path / "r")
    assert (info.kind, info.status, info.world_size) == ("links", "completed", ranks)


def test_json_is_one_document(forked: Commprof) -> None:
    done = forked(2, "links", "-e", "16", "-n", "2", "--backend", "gloo", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [(m["source"], m["target"]) for m in document["measurements"]] == [("rank0", "rank1"), ("rank1", "rank0")]
    assert "-links-n2-" in Path(document["run"]).name


def test_one_rank_without_a_gpu_has_no_link(commprof: Commprof, tmp_path: Path) -> None:
    done = commprof("links", CUDA_VISIBLE_DEVICES="")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "one rank and no GPU" in done.stderr
    assert not (tmp_path / "runs").exists()
