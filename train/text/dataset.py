"""What the classifier reads: articles as rows of word numbers, from AG News' own CSV files or from synthetic text.

    title + " " + description -> lower case -> words and runs of punctuation -> numbers -> rows of one length

Number 0 is padding and 1 is any word outside the vocabulary. The others are the most frequent words of the training
articles, the alphabet deciding between equally frequent ones, so that all ranks number them alike.

Encoding happens once: the rows are kept in `data.cache_dir` under a digest of everything they depend on. The cache is
read as untrusted.
"""

import hashlib
import re
import zlib
from array import array
from collections import defaultdict
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from commprof.commbench.errors import BadInput
from commprof.commbench.records.reading import open_regular
from commprof.commbench.records.rundir import replacing
from commprof.train.config.types import DataConfig, ModelConfig
from commprof.train.text.articles import Articles, read_articles, source_identity
from commprof.train.text.synthetic import NUM_CLASSES

__all__ = ["NUM_CLASSES", "EncodedText", "prepare_data"]

_CACHE_FORMAT = 2  # raise it when the same source and options give other rows than before
_PADDING, _UNKNOWN, _FIRST_NUMBER = 0, 1, 2
_WORDS = re.compile(r"\w+|[^\w\s]+").findall
_MAX_ROWS_BYTES = 4 * 2**30
# What numpy and zipfile raise on a file that is not, or no longer, what was saved.
_DAMAGED = (OSError, ValueError, KeyError, EOFError, RuntimeError, MemoryError, TypeError, BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedText:
    """Articles as the model takes them: tokens [articles, sequence_length], 0 padding; labels [articles], from 0."""

    tokens: NDArray[np.int32]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReadWords:
    """Every word of some articles as its place in the list of words; article i ends before `ends[i + 1]`."""

    places: NDArray[np.int32]
    ends: NDArray[np.int64]


def prepare_data(data: DataConfig, model: ModelConfig) -> tuple[EncodedText, EncodedText]:
    """Return the training and the evaluation articles, encoded or taken from the cache.

    Several processes may call this at once. Raises BadInput naming the file and line, or the key, that cannot be used,
    and CommprofError where a download fails.
    """
    identity = f"{_CACHE_FORMAT} {source_identity(data)} {model.vocabulary} {model.sequence_length}"
    cache = _cache_folder(data) / f"{data.source}-{hashlib.sha256(identity.encode()).hexdigest()[:32]}.npz"
    encoded = _load_encoded(cache, model)
    if encoded is None:
        encoded = _encode_articles(read_articles(data), model)
        _save_encoded(cache, *encoded)
    return encoded


def _encode_articles(articles: tuple[Articles, Articles], model: ModelConfig) -> tuple[EncodedText, EncodedText]:
    """Number the words of both parts by the vocabulary of the first."""
    largest = _MAX_ROWS_BYTES // (4 * max(len(part.texts) for part in articles))
    if model.sequence_length > largest:
        raise BadInput(f"model.sequence_length={model.sequence_length} needs too much memory; use at most {largest}")
    training, evaluation = articles
    places = defaultdict[str, int](count().__next__)  # a word's place is where it was first seen
    read = _read_words(training, places)
    numbers = _number_words(list(places), np.bincount(read.places), training.origin, model)
    read_too = _read_words(evaluation, places)
    more_words = np.full(len(places) - len(numbers), _UNKNOWN, dtype=np.int32)
    rows = _rows(read, numbers, model), _rows(read_too, np.append(numbers, more_words), model)
    return EncodedText(tokens=rows[0], labels=training.labels), EncodedText(tokens=rows[1], labels=evaluation.labels)


def _read_words(articles: Articles, places: defaultdict[str, int]) -> _ReadWords:
    """Look up every word of some articles; words that are new get the places that follow."""
    found, ends = array("i"), array("q", [0])
    for text in articles.texts:
        found.extend([places[word] for word in _WORDS(text.lower())])
        ends.append(len(found))
    return _ReadWords(places=np.frombuffer(found, dtype=np.int32), ends=np.frombuffer(ends, dtype=np.int64))


def _number_words(words: list[str], counts: NDArray[np.int64], origin: str, model: ModelConfig) -> NDArray[np.int32]:
    """Return the number of each word, 1 outside the vocabulary; raise BadInput where there are not so many words."""
    if (found := len(words) + _FIRST_NUMBER) < model.vocabulary:
        known = f"{len(words):,} words in {origin}, plus padding and unknown"
        raise BadInput(f"model.vocabulary={model.vocabulary} is larger than the data give ({known}); use at most {found}")
    frequent = sorted(range(len(words)), key=lambda place: (-counts[place], words[place]))
    frequent = frequent[: model.vocabulary - _FIRST_NUMBER]
    numbers = np.full(len(words), _UNKNOWN, dtype=np.int32)
    numbers[frequent] = np.arange(_FIRST_NUMBER, _FIRST_NUMBER + len(frequent))
    return numbers


def _rows(read: _ReadWords, numbers: NDArray[np.int32], model: ModelConfig) -> NDArray[np.int32]:
    """Return a row for each article, cut or padded to the model's length."""
    rows = np.full((len(read.ends) - 1, model.sequence_length), _PADDING, dtype=np.int32)
    for row, (begin, end) in zip(rows, pairwise(read.ends.tolist()), strict=True):
        kept = numbers[read.places[begin : min(end, begin + model.sequence_length)]]
        row[: len(kept)] = kept
    return rows


def _cache_folder(data: DataConfig) -> Path:
    try:
        return Path(data.cache_dir).expanduser()
    except RuntimeError as error:
        raise BadInput(f"data.cache_dir={data.cache_dir}: {error}; name a folder you may write to") from None


def _load_encoded(path: Path, model: ModelConfig) -> tuple[EncodedText, EncodedText] | None:
    """Read the cache; None where there is none or where it is damaged, for encoding again mends both."""
    try:
        with open_regular(path) as file, np.load(file, allow_pickle=False) as arrays:
            training, evaluation = (
                EncodedText(tokens=np.asarray(arrays[f"{part}_tokens"]), labels=np.asarray(arrays[f"{part}_labels"]))
                for part in ("training", "evaluation")
            )
    except (*_DAMAGED, BadInput):
        return None
    return (training, evaluation) if _is_usable(training, model) and _is_usable(evaluation, model) else None


def _is_usable(text: EncodedText, model: ModelConfig) -> bool:
    """Tell whether a cached part has the shape, the types and the ranges that the model relies on."""
    tokens, labels = text.tokens, text.labels
    return (
        tokens.dtype == np.int32
        and labels.dtype == np.int64
        and tokens.shape == (labels.size, model.sequence_length)
        and labels.shape == (labels.size,)
        and labels.size > 0
        and bool(tokens.min() >= 0 and tokens.max() < model.vocabulary and tokens[:, 0].min() > 0)
        and bool(labels.min() >= 0 and labels.max() < NUM_CLASSES)
    )


def _save_encoded(path: Path, training: EncodedText, evaluation: EncodedText) -> None:
    try:
        with replacing(path) as file:
            np.savez(
                file,
                training_tokens=training.tokens,
                training_labels=training.labels,
                evaluation_tokens=evaluation.tokens,
                evaluation_labels=evaluation.labels,
            )
    except (OSError, ValueError) as error:
        raise BadInput(f"data.cache_dir: cannot write {str(path)!r}: {error}; name a folder you may write to") from None
