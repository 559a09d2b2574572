"""The classifier learns from real articles: small, 4,800 to train, 1,000 to evaluate, at least 0.80 right."""

from pathlib import Path

import pytest

from commprof.commbench.records.rundir import read_records
from commprof.commbench.records.training import EvaluationMeasurement
from tests.forked import Zygote

REPO = Path(__file__).parents[2]
ARTICLES = REPO.parent / "shared" / "data" / "ag_news_csv" / "test.csv"

pytestmark = [
    pytest.mark.field,
    pytest.mark.skipif(not ARTICLES.exists(), reason="real AG News articles are not at ../shared/data/ag_news_csv"),
]


def test_small_learns_ag_news(zygote: Zygote, tmp_path: Path) -> None:
    where = [f"data.train_csv={ARTICLES}", f"data.eval_csv={ARTICLES}", f"data.cache_dir={tmp_path / 'cache'}"]
    data = ["data.source=csv", "data.train_first=6600", "data.eval_last=1000"]
    # Seconds, not a minute: one narrow layer reads 40 words; 50 steps at eight times the rate reach 0.83, chance is 0.25.
    short = [
        "model.vocabulary=4000",
        "model.sequence_length=40",
        "model.layers=1",
        "model.d_model=64",
        "model.feed_forward=128",
        "training.learning_rate=8e-3",
        "training.max_steps=50",
        "profiling.trace_steps=0",
    ]
    done = zygote.run(
        tmp_path, "commprof", "train", REPO / "configs" / "small.yaml", "--folder", "run", *data, *where, *short, ranks=2
    )
    assert done.returncode == 0, done.stderr
    *_, last = read_records(tmp_path / "run" / "evaluations.jsonl", EvaluationMeasurement)
    assert last.num_samples == 1000
    assert last.accuracy >= 0.80
