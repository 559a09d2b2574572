"""The classifier learns from real articles: small, 6,600 to train, 1,000 to evaluate, at least 0.80 right."""

import subprocess
import sys
from pathlib import Path

import pytest

from commprof.commbench.records.rundir import read_records
from commprof.commbench.records.training import EvaluationMeasurement

REPO = Path(__file__).parents[2]
ARTICLES = REPO.parent / "shared" / "data" / "ag_news_csv" / "test.csv"
TIME_LIMIT_S = 240

pytestmark = [
    pytest.mark.field,
    pytest.mark.skipif(not ARTICLES.exists(), reason="real AG News articles are not at ../shared/data/ag_news_csv"),
]


def test_small_learns_ag_news(tmp_path: Path) -> None:
    where = [f"data.train_csv={ARTICLES}", f"data.eval_csv={ARTICLES}", f"data.cache_dir={tmp_path / 'cache'}"]
    done = subprocess.run(
        [Path(sys.executable).parent / "commprof", "train", REPO / "configs" / "small.yaml", "--nproc", "2", "--folder", "run",
         "data.source=csv", "data.train_first=6600", "data.eval_last=1000", *where],
        cwd=tmp_path, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *_, last = read_records(tmp_path / "run" / "evaluations.jsonl", EvaluationMeasurement)
    assert last.num_samples == 1000
    assert last.accuracy >= 0.80
