"""AG News' own test.csv, cut in two: 6,600 articles to train on, 1,000 to evaluate."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from commprof.commbench.errors import BadInput
from commprof.train.config.types import DataConfig, ModelConfig
from commprof.train.text.dataset import EncodedText, prepare_data

REAL_CSV = Path(__file__).parents[2].parent / "shared/data/ag_news_csv/test.csv"

pytestmark = [
    pytest.mark.field,
    pytest.mark.skipif(not REAL_CSV.is_file(), reason="AG News' test.csv is not in ../shared/data/ag_news_csv"),
]


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    return DataConfig(
        source="csv",
        train_csv=str(REAL_CSV),
        eval_csv=str(REAL_CSV),
        train_first=6600,
        eval_last=1000,
        cache_dir=str(tmp_path),
    )


def lengths(text: EncodedText) -> np.ndarray:
    return (text.tokens != 0).sum(axis=1)


def test_every_article_is_there_with_its_class(data: DataConfig) -> None:
    training, evaluation = prepare_data(data, ModelConfig(vocabulary=12000, sequence_length=200))
    assert training.tokens.shape == (6600, 200)
    assert evaluation.tokens.shape == (1000, 200)
    lines = REAL_CSV.read_bytes().splitlines()
    assert training.labels.tolist() == [int(line[1:2]) - 1 for line in lines[:6600]]
    assert evaluation.labels.tolist() == [int(line[1:2]) - 1 for line in lines[-1000:]]
    all_lengths = np.concatenate([lengths(training), lengths(evaluation)])
    assert all_lengths.mean() == pytest.approx(46.2, abs=0.1)
    assert (np.median(all_lengths), all_lengths.max()) == (45, 195)
    assert 0.02 < (evaluation.tokens == 1).sum() / lengths(evaluation).sum() < 0.06


def test_the_most_frequent_words_come_first(data: DataConfig) -> None:
    training, _ = prepare_data(replace(data, train_first=None, eval_last=None), ModelConfig(sequence_length=200))
    counts = np.bincount(training.tokens.ravel())[2:]
    assert (np.diff(counts) <= 0).all()
    assert counts[[0, 9, 99, 999, 4999]].tolist() == [12983, 4419, 337, 44, 7]


def test_the_vocabulary_ends_where_the_words_do(data: DataConfig) -> None:
    with pytest.raises(BadInput, match=r"\(20,622 words in 6,600 articles of .*test\.csv, .*\); use at most 20624$"):
        prepare_data(data, ModelConfig(vocabulary=27000))
    training, evaluation = prepare_data(data, ModelConfig(vocabulary=20624, sequence_length=200))
    assert training.tokens.max() == 20623
    assert (training.tokens != 1).all()
    assert (evaluation.tokens == 1).any()
