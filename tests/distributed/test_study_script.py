"""`commprof study --script`: the whole question about a training that is not ours, in real processes."""

import csv
from datetime import datetime
from pathlib import Path

from commprof.analysis.step.results import PredictionSet
from commprof.commbench.records.rundir import read_document, read_info
from tests.distributed.conftest import FORK, Commprof

# Ranks that share cores are slower than one by more than any noise here; a cap of its own gives it two buckets.
TRAINING = """
import os, sys, time, torch, torch.distributed as dist, torch.nn as nn
ranks = int(os.environ["WORLD_SIZE"])
model = nn.Sequential(nn.Linear(8, 512), nn.ReLU(), nn.Linear(512, 4))
if ranks > 1:
    dist.init_process_group("gloo")
    model = nn.parallel.DistributedDataParallel(model, bucket_cap_mb=0.005)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
while True:
    optimizer.zero_grad()
    loss = model(torch.ones(4, 8)).sum()
    time.sleep(0.02 * ranks)
    loss.backward()
    optimizer.step()
"""


def test_a_script_is_predicted_then_checked_and_reported_and_then_there_is_nothing_left_to_do(
    commprof: Commprof, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(TRAINING)
    words = (
        *("study", "--script", f"{' '.join(FORK)} {{n}} mine.py --api-token SECRET", "--max-steps", "16", "name=s"),
        *("contention.rounds=0", "bench.min_bytes=64K", "bench.max_bytes=8M", "bench.seconds=2", "--world-sizes", "1", "2"),
    )
    done = commprof(*words)
    assert done.returncode == 0, done.stderr
    study = tmp_path / "runs" / "s"
    said = done.stderr.splitlines()
    assert said[0].startswith("[1/4] bench-n2: bench on 2 ranks, about "), "the first line says how long it will take"
    assert done.stdout.startswith("Verdict: ")
    assert done.stdout.rstrip().endswith("report.html") and (study / "analysis" / "report.html").exists()

    predictions = study / "analysis" / "predictions.json"
    check = read_info(study / "forked_ranks-train-n2")
    assert predictions.stat().st_mtime < datetime.fromisoformat(check.started_at).timestamp()
    assert (check.status, check.world_size) == ("completed", 2)
    silent = read_info(study / "forked_ranks-compute-n2").workload
    assert silent is not None and not silent.synchronised
    (schedule,) = read_document(predictions, PredictionSet).schedules
    assert len(schedule.buckets) == 2, "the script's own caps are known before it sends anything"
    rows = list(csv.DictReader((study / "analysis" / "study.csv").read_text().splitlines()))
    assert [row["world_size"] for row in rows] == ["1", "2"]
    assert float(rows[1]["predicted_step_s"]) > 0.03

    texts = [path.read_bytes() for path in study.rglob("*") if path.is_file()]
    assert not any(b"SECRET" in text for text in texts)

    before = predictions.stat().st_mtime_ns
    again = commprof(*words)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("already measured") == 4 and len(again.stderr.splitlines()) == 4
    assert predictions.stat().st_mtime_ns == before
    assert {path.name for path in tmp_path.iterdir()} == {"mine.py", "runs"}
