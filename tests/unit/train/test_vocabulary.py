"""Which number each word gets."""

from dataclasses import replace

import numpy as np
import pytest

from commprof.commbench.errors import BadInput
from commprof.train.config.types import DataConfig, ModelConfig
from commprof.train.text.dataset import prepare_data
from tests.ag_news import MODEL


def test_numbers_words_by_frequency_then_alphabet(data: DataConfig) -> None:
    training, evaluation = prepare_data(data, MODEL)
    # the 2, dog 3, then the words that occur once: " 4  ", 5  . 6  a 7  barks 8  cat 9  second 10  team 11  yes 12
    assert training.tokens.tolist() == [[2, 3, 2, 3, 8, 6, 0, 0, 0], [7, 10, 11, 4, 12, 5, 2, 9, 0]]
    assert training.labels.tolist() == [2, 0]
    assert evaluation.labels.tolist() == [3, 1]
    assert training.tokens.dtype == np.int32
    assert training.labels.dtype == np.int64


def test_the_words_pad_and_unk_in_an_article_are_words_and_not_padding(data: DataConfig) -> None:
    _, evaluation = prepare_data(data, MODEL)
    assert evaluation.tokens.tolist() == [[2, 1, 6, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 3, 0, 0]]


def test_words_outside_the_vocabulary_are_unknown_and_long_articles_are_cut(data: DataConfig) -> None:
    training, _ = prepare_data(data, ModelConfig(vocabulary=7, sequence_length=6))
    assert training.tokens.tolist() == [[2, 3, 2, 3, 1, 6], [1, 1, 1, 4, 1, 5]]


@pytest.mark.parametrize("vocabulary", [14, 10**12, 10**30])
def test_refuses_a_vocabulary_that_the_articles_do_not_have(data: DataConfig, vocabulary: int) -> None:
    expected = rf"vocabulary={vocabulary} is larger .*\(11 words in 2 articles of .*train\.csv, .*\); use at most 13$"
    with pytest.raises(BadInput, match=expected):
        prepare_data(data, replace(MODEL, vocabulary=vocabulary))


def test_counts_the_vocabulary_of_the_first_articles_only(data: DataConfig) -> None:
    with pytest.raises(BadInput, match=r"\(4 words in 1 articles of .*\); use at most 6$"):
        prepare_data(replace(data, train_first=1), MODEL)
    prepare_data(replace(data, train_first=1), replace(MODEL, vocabulary=6))


def test_refuses_rows_that_no_memory_holds(data: DataConfig) -> None:
    with pytest.raises(BadInput, match=r"model\.sequence_length=10{15} needs too much memory; use at most \d+$"):
        prepare_data(data, replace(MODEL, sequence_length=10**15))
