"""The classifier learns from real articles: small, 4,800 to train, 1,000 to evaluate, at least 0.80 right."""

from pathlib import Path

import pytest

from commprof.commbench.records.rundir import read_records
from commprof.commbench.records.training import EvaluationMeasurement
from tests.distributed.conftest import FORK, run_in

REPO = Path(__file__).parents[2]
ARTICLES = REPO.parent / "shared" / "data" / "ag_news_csv" / "test.csv"

pytestmark = [
    pytest.mark.field,
    pytest.mark.skipif(not ARTICLES.exists(), reason="real AG News articles are not at ../shared/data/ag_news_csv"),
]


def test_small_learns_ag_news(tmp_path: Path) -> None:
    where = [f"data.train_csv={ARTICLES}", f"data.eval_csv={ARTICLES}", f"data.cache_dir={tmp_path / 'cache'}"]
    data = ["data.source=csv", "data.train_first=6600", "data.eval_last=1000"]
    # Seconds rather than a minute: 64 words hold most articles, and 75 steps at twice the rate reach 0.84, chance is 0.25.
    short = ["model.sequence_length=64", "training.learning_rate=2e-3", "training.max_steps=75", "profiling.trace_steps=0"]
    train = ["commprof", "train", REPO / "configs" / "small.yaml", "--folder", "run"]
    done = run_in(tmp_path, *FORK, "2", *train, *data, *where, *short)
    assert done.returncode == 0, done.stderr
    *_, last = read_records(tmp_path / "run" / "evaluations.jsonl", EvaluationMeasurement)
    assert last.num_samples == 1000
    assert last.accuracy >= 0.80
