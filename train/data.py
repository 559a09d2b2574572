"""What the classifier reads: articles as rows of word numbers, from AG News' own CSV files or from synthetic text.

    title + " " + description -> lower case -> words and runs of punctuation -> numbers -> rows of one length

Number 0 is padding and 1 is any word outside the vocabulary. The others are the most frequent words of the training
articles, the alphabet deciding between equally frequent ones, so that all ranks number them alike.

Encoding happens once: the rows are kept in `data.cache_dir` under a digest of everything they depend on. The cache is
read as untrusted.
"""

import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from commbench.errors import BadInput
from commbench.rundir import replacing
from train.articles import Articles, read_articles, source_identity
from train.config import DataConfig, ModelConfig
from train.synthetic import NUM_CLASSES

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["NUM_CLASSES", "EncodedText", "prepare_data"]

_CACHE_FORMAT = 1  # raise it when the same source and options give other rows than before
_PADDING, _UNKNOWN = "[PAD]", "[UNK]"
_MAX_ROWS_BYTES = 4 * 2**30
_ENCODE_BATCH = 1024  # an article takes some 10 kB while the tokenizer works on it; AG News at once would take 1.2 GB
# What numpy and zipfile raise on a file that is not, or no longer, what was saved.
_DAMAGED = (OSError, ValueError, KeyError, EOFError, RuntimeError, MemoryError, TypeError, BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedText:
    """Articles as the model takes them: tokens [articles, sequence_length], 0 padding; labels [articles], from 0."""

    tokens: NDArray[np.int32]
    labels: NDArray[np.int64]


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
    tokenizer = _train_tokenizer(training, model)
    return _encode(tokenizer, training, model), _encode(tokenizer, evaluation, model)


def _train_tokenizer(training: Articles, model: ModelConfig) -> "Tokenizer":
    """Build a tokenizer with exactly `model.vocabulary` entries; raise BadInput where there are not so many words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    def word_tokenizer(words: models.WordLevel) -> Tokenizer:
        tokenizer = Tokenizer(words)
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # \w+|[^\w\s]+
        return tokenizer

    size = min(model.vocabulary, np.iinfo(np.int32).max)
    trainer = trainers.WordLevelTrainer(vocab_size=size, special_tokens=[_PADDING, _UNKNOWN], show_progress=False)
    counter = word_tokenizer(models.WordLevel(unk_token=_UNKNOWN))
    counter.train_from_iterator(training.texts, trainer)
    vocabulary = counter.get_vocab()
    if (found := len(vocabulary)) < model.vocabulary:
        words = f"{found - 2:,} words in {training.origin}, plus padding and unknown"
        raise BadInput(f"model.vocabulary={model.vocabulary} is larger than the data give ({words}); use at most {found}")
    # A second tokenizer, for the first one would read "[PAD]" in an article as padding.
    tokenizer = word_tokenizer(models.WordLevel(vocab=vocabulary, unk_token=_UNKNOWN))
    tokenizer.enable_truncation(model.sequence_length)
    return tokenizer


def _encode(tokenizer: "Tokenizer", articles: Articles, model: ModelConfig) -> EncodedText:
    tokens = np.zeros((len(articles.texts), model.sequence_length), dtype=np.int32)
    for start in range(0, len(tokens), _ENCODE_BATCH):
        batch = tokenizer.encode_batch_fast(articles.texts[start : start + _ENCODE_BATCH])
        for row, encoding in enumerate(batch, start):
            tokens[row, : len(encoding)] = encoding.ids
    return EncodedText(tokens=tokens, labels=articles.labels)


def _cache_folder(data: DataConfig) -> Path:
    try:
        return Path(data.cache_dir).expanduser()
    except RuntimeError as error:
        raise BadInput(f"data.cache_dir={data.cache_dir}: {error}; name a folder you may write to") from None


def _load_encoded(path: Path, model: ModelConfig) -> tuple[EncodedText, EncodedText] | None:
    """Read the cache; None where there is none or where it is damaged, for encoding again mends both."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            training, evaluation = (
                EncodedText(tokens=np.asarray(arrays[f"{part}_tokens"]), labels=np.asarray(arrays[f"{part}_labels"]))
                for part in ("training", "evaluation")
            )
    except _DAMAGED:
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
