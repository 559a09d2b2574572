"""Where the articles come from: AG News' own CSV files, fetched where that is wanted, or synthetic text of their shape.

A CSV record is `"class from 1","title","description"`, quotes doubled (readme.txt of the data set). It fills a line in the
published files; as RFC 4180 has it, quotes may hold line ends, which is bounded so that an open quote cannot swallow a file.
Files and downloads are read as untrusted.
"""

import csv
import hashlib
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.error import HTTPError

import numpy as np
from numpy.typing import NDArray

from commprof.commbench.errors import BadInput, CommprofError
from commprof.commbench.records.rundir import replacing
from commprof.commbench.units import format_bytes, printable
from commprof.train.config.types import DataConfig
from commprof.train.text.synthetic import synthetic_articles

_MIN_EVALUATION_ARTICLES = 100
_MAX_CSV_BYTES = 2**30
_MAX_LINE_BYTES = 2**20  # and what the lines of one record may hold together
_MAX_RECORD_LINES = 64
_MAX_DOWNLOAD_BYTES = 256 * 2**20
_DOWNLOAD_TIMEOUT_S = 30
# The published files and their MD5 sums (torchtext/datasets/ag_news.py).
_PUBLISHED = {
    "train_csv": ("train.csv", "b1a00f826fdfbd249f79597b59e1dc12"),
    "eval_csv": ("test.csv", "d52ea96a97a2d943681189a97654912d"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Articles:
    """Articles as people read them, and where they came from, for error messages."""

    texts: Sequence[str]
    labels: NDArray[np.int64]
    origin: str


def source_identity(data: DataConfig) -> str:
    """Return what decides which articles a configuration gives: the files' content and cuts, or the generator's options.

    Downloads missing files where the user wants that. Raises BadInput naming a file that cannot be used.
    """
    if data.source == "csv":
        return f"csv {_csv_identity(data)}"
    return f"synthetic {data.synthetic_articles} {data.synthetic_seed}"


def dataset_name(data: DataConfig) -> str:
    """Return what a run's record calls its articles: `synthetic`, or the folder of the training file without `_csv`."""
    if data.source != "csv":
        return data.source
    return Path(data.train_csv).absolute().parent.name.removesuffix("_csv") or Path(data.train_csv).stem


def read_articles(data: DataConfig) -> tuple[Articles, Articles]:
    """Return the training and the evaluation articles that the configuration asks for."""
    if data.source == "csv":
        first, last = data.train_first, data.eval_last
        training = _read_csv(Path(data.train_csv), "data.train_first", first, slice(first))
        evaluation = _read_csv(Path(data.eval_csv), "data.eval_last", last, slice(-last if last else None, None))
        return training, evaluation
    num_training = data.synthetic_articles
    counts = (num_training, max(_MIN_EVALUATION_ARTICLES, num_training // 10))
    training, evaluation = (
        Articles(texts=texts, labels=labels, origin=f"data.synthetic_articles={num_training}")
        for texts, labels in (synthetic_articles(count, data.synthetic_seed, part) for part, count in enumerate(counts))
    )
    return training, evaluation


def download(url: str, path: Path, md5: str) -> None:
    """Fetch a file of at most 256 MiB by http or https; `path` appears with the right MD5 sum or not at all.

    Raises BadInput for any other kind of URL and for a file with another sum, CommprofError where the transfer fails.
    """
    if not url.startswith(("http://", "https://")):
        raise BadInput(f"data.url: {url} is not an http:// or https:// address; give one that serves AG News' CSV files")
    by_hand = f"or put the file at {path} yourself"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent) as nameless:  # so that a download that is killed leaves nothing
            found = _stream(url, nameless)
            if found != md5:
                raise BadInput(f"{url} has MD5 sum {found}, the published file has {md5}; try again, {by_hand}")
            nameless.seek(0)
            with replacing(path) as file:
                shutil.copyfileobj(nameless, file)
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        reason = printable(str(error))
        raise CommprofError(f"cannot download {url}: {reason}; check data.url and the network, {by_hand}") from None


def _stream(url: str, file: IO[bytes]) -> str:
    """Copy a URL's content into an open file and return its MD5 sum."""
    digest = hashlib.md5(usedforsecurity=False)
    num_bytes = 0
    with urllib.request.urlopen(url, timeout=_DOWNLOAD_TIMEOUT_S) as response:  # noqa: S310  the caller checked the scheme
        while chunk := response.read(2**16):
            num_bytes += len(chunk)
            if num_bytes > _MAX_DOWNLOAD_BYTES:
                raise BadInput(f"{url} is larger than {format_bytes(_MAX_DOWNLOAD_BYTES)}; data.url does not serve AG News")
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _csv_identity(data: DataConfig) -> str:
    """Return what decides which articles two CSV files give: their content and where they are cut."""
    digests = " ".join(_csv_digest(data, key) for key in _PUBLISHED)
    return f"{digests} {data.train_first} {data.eval_last}"


def _csv_digest(data: DataConfig, key: str) -> str:
    """Return the SHA-256 of one of the CSV files, downloaded first where it is missing and the user wants that."""
    path = Path(getattr(data, key))
    if data.download and not os.path.exists(path):
        file_name, md5 = _PUBLISHED[key]
        download(f"{data.url.rstrip('/')}/{file_name}", path, md5)
    try:
        if path.exists() and not path.is_file():
            raise BadInput(f"data.{key}: {path} is not a file; name AG News' CSV file")
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > _MAX_CSV_BYTES:
                raise BadInput(f"{path} is larger than {format_bytes(_MAX_CSV_BYTES)}; point data.{key} at AG News' CSV file")
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise BadInput(f"{path} is missing; point data.{key} at your copy, or set data.download=true") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"data.{key}: cannot read {str(path)!r}: {error}") from None


def _read_csv(path: Path, key: str, count: int | None, part: slice) -> Articles:
    """Read a file of AG News' format and keep a part of it, `count` articles long as asked for by `key`.

    Raises BadInput naming file and line where the format is not kept, and the key where there are too few articles.
    """
    articles: list[tuple[str, int]] = []
    with path.open("rb") as file:
        for number, record in _records(file, path):
            try:
                articles.append(_parse_record(record))
            except (ValueError, csv.Error) as error:
                raise _refusal(path, number, str(error)) from None
    if not articles:
        raise BadInput(f"{path} is empty; restore AG News' CSV file")
    if count is not None and count > len(articles):
        raise BadInput(f"{key}={count} is more than the {len(articles)} articles of {path}; use at most {len(articles)}")
    texts, labels = zip(*articles[part], strict=True)
    return Articles(texts=texts, labels=np.array(labels, dtype=np.int64), origin=f"{len(texts):,} articles of {path}")


def _records(file: IO[bytes], path: Path) -> Iterator[tuple[int, str]]:
    """Yield each record and the number of its first line. Quotes that are not doubled open and close by turns."""
    lines: list[str] = []
    openers: list[int] = []  # after each of these lines, the number of the line whose quote is open
    for number, line in _lines(file, path):
        lines.append(line)
        quotes = line.replace('""', "").count('"')
        if bool(openers) == bool(quotes % 2):
            yield number + 1 - len(lines), "".join(lines)
            lines, openers = [], []
            continue
        openers.append(number if quotes else openers[-1])
        if len(lines) >= _MAX_RECORD_LINES or sum(map(len, lines)) >= _MAX_LINE_BYTES:
            break
    if openers:
        raise _refusal(path, _culprit(lines, openers), "a quote is not closed, or one inside the text is not doubled")


def _culprit(lines: Sequence[str], openers: Sequence[int]) -> int:
    """Return the line whose quote keeps lines from being a record: the one open where they break the rules, or at the end."""
    reader = csv.reader(lines, strict=True)
    try:
        next(reader)
    except csv.Error as error:
        if "end of data" not in str(error):
            return openers[max(0, reader.line_num - 2)]
    return openers[reader.line_num - 1]


def _lines(file: IO[bytes], path: Path) -> Iterator[tuple[int, str]]:
    """Yield each line with its number, from 1, without a byte order mark."""
    number = 0
    while line := file.readline(_MAX_LINE_BYTES):
        number += 1
        if len(line) >= _MAX_LINE_BYTES:
            raise _refusal(path, number, f"the line is longer than {format_bytes(_MAX_LINE_BYTES)}")
        if b"\0" in line:
            raise _refusal(path, number, "the line has a NUL byte")
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise _refusal(path, number, str(error)) from None


def _refusal(path: Path, number: int, reason: str) -> BadInput:
    return BadInput(f'{path}:{number}: {reason}; expected in UTF-8: "class from 1 to 4","title","description"')


def _parse_record(record: str) -> tuple[str, int]:
    """Return an article's text and its label from 0; raise ValueError or csv.Error saying what is wrong."""
    columns = next(csv.reader((record,), strict=True))
    if len(columns) != 3:
        raise ValueError(f"the line has {len(columns)} columns")
    number, title, description = columns
    if number not in {"1", "2", "3", "4"}:
        raise ValueError(f"the class is {number[:20]!r}")
    text = f"{title} {description}".replace("\\", " ")  # a backslash is an escaped line end: 'a second\team'
    if not text.strip():
        raise ValueError("the article has no text")  # a row of nothing but padding makes attention NaN
    return text, int(number) - 1
