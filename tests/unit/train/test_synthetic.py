"""Synthetic articles have the shape of AG News and depend on their seed alone."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from commprof.commbench.errors import BadInput
from commprof.train.config.types import DataConfig, ModelConfig
from commprof.train.text.dataset import NUM_CLASSES, EncodedText, prepare_data
from commprof.train.text.synthetic import synthetic_articles


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> tuple[EncodedText, EncodedText]:
    """The default data with the vocabulary of the largest model."""
    data = DataConfig(cache_dir=str(tmp_path_factory.mktemp("cache")))
    return prepare_data(data, ModelConfig(vocabulary=27000))


def test_the_default_articles_fill_the_largest_vocabulary(synthetic: tuple[EncodedText, EncodedText]) -> None:
    training, evaluation = synthetic
    assert training.tokens.shape == (16000, 128)
    assert evaluation.tokens.shape == (1600, 128)
    assert training.tokens.max() == 26999
    assert np.bincount(training.labels).tolist() == [4000] * NUM_CLASSES
    assert np.bincount(evaluation.labels).tolist() == [400] * NUM_CLASSES
    assert 0 < (evaluation.tokens == 1).mean() < 0.01


def naive_bayes_accuracy(training: EncodedText, evaluation: EncodedText) -> float:
    size = training.tokens.max() + 1
    counts = np.bincount((training.labels[:, None] * size + training.tokens).ravel(), minlength=NUM_CLASSES * size)
    weights = counts.reshape(NUM_CLASSES, size) + 1.0
    weights[:, 0] = 1  # padding says nothing
    scores = np.log(weights / weights.sum(1, keepdims=True))[:, evaluation.tokens].sum(2)
    return float((scores.argmax(0) == evaluation.labels).mean())


def test_classes_can_be_learned_but_not_without_mistakes(synthetic: tuple[EncodedText, EncodedText]) -> None:
    assert 0.85 < naive_bayes_accuracy(*synthetic) < 0.95


@pytest.mark.parametrize("seed", [0, 1])
def test_synthetic_articles_have_the_shape_of_ag_news(seed: int) -> None:
    texts, labels = synthetic_articles(7600, seed, 0)
    articles = [re.findall(r"\w+|[^\w\s]+", text.lower()) for text in texts]
    lengths = np.array([len(article) for article in articles])
    assert lengths.mean() == pytest.approx(46.3, rel=0.03)
    assert np.median(lengths) == pytest.approx(45, abs=1)
    assert lengths.std() == pytest.approx(15.1, rel=0.15)
    assert np.log(lengths).std() == pytest.approx(0.29, rel=0.05)
    assert 120 < lengths.max() <= 195
    words = Counter(word for article in articles for word in article)
    counts = sorted(words.values(), reverse=True)
    measured = {1: 12983, 10: 4419, 100: 337, 1000: 44, 5000: 7}
    assert {rank: counts[rank - 1] for rank in measured} == pytest.approx(measured, rel=0.25)
    assert counts[9999] == 2
    assert len(words) == pytest.approx(22006, rel=0.05)
    assert np.mean([len(word) for word in words]) == pytest.approx(6.9, rel=0.08)
    assert np.bincount(labels).tolist() == [1900] * 4
    neighbours: NDArray[np.bool_] = labels[1:] == labels[:-1]
    assert neighbours.mean() == pytest.approx(0.25, abs=0.03), "classes come in random order"


def test_synthetic_articles_depend_on_their_arguments_only() -> None:
    texts, labels = synthetic_articles(50, 7, 0)
    again, labels_again = synthetic_articles(50, 7, 0)
    assert texts == again
    assert (labels == labels_again).all()
    assert not set(texts) & set(synthetic_articles(50, 8, 0)[0])
    assert not set(texts) & set(synthetic_articles(50, 7, 1)[0])


@pytest.mark.parametrize("count", [1, 100])
def test_few_synthetic_articles_are_still_evaluated_on_a_hundred_others(tmp_path: Path, count: int) -> None:
    data = DataConfig(synthetic_articles=count, cache_dir=str(tmp_path))
    training, evaluation = prepare_data(data, ModelConfig(vocabulary=10))
    assert (len(training.labels), len(evaluation.labels)) == (count, 100)
    assert not {row.tobytes() for row in training.tokens} & {row.tobytes() for row in evaluation.tokens}


def test_the_seed_and_the_number_decide_the_cache(tmp_path: Path, encodings: list[ModelConfig]) -> None:
    data = DataConfig(synthetic_articles=20, cache_dir=str(tmp_path))
    for changed in (data, replace(data, synthetic_seed=1), replace(data, synthetic_articles=21)):
        prepare_data(changed, ModelConfig(vocabulary=10))
    assert len(encodings) == 3


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"synthetic_articles": 10**15}, r"data\.synthetic_articles=10{15} is too many; use at most 500000"),
        ({"synthetic_seed": -1}, r"data\.synthetic_seed=-1 must not be negative"),
        ({"synthetic_articles": 20}, r"12000 .*\(\d+ words in data\.synthetic_articles=20, .*\); use at most \d+$"),
    ],
)
def test_refuses_synthetic_articles_that_cannot_be(tmp_path: Path, change: dict[str, int], expected: str) -> None:
    with pytest.raises(BadInput, match=expected):
        prepare_data(replace(DataConfig(cache_dir=str(tmp_path)), **change), ModelConfig())
