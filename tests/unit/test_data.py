import csv
import hashlib
import http.server
import io
import os
import re
import socket
import stat
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import train.articles
import train.data
from commbench.errors import BadInput, CommprofError
from train.articles import download
from train.config import DataConfig, ModelConfig
from train.data import NUM_CLASSES, EncodedText, prepare_data
from train.synthetic import synthetic_articles

MODEL = ModelConfig(vocabulary=13, sequence_length=9)
TRAIN_CSV = b'"3","The dog","the DOG barks."\n"1","A second\\team","""Yes"", the cat"\n'
EVAL_CSV = b'"4","The","bird."\n"2","[PAD] [UNK]","dog"\n'


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    return csv_data(tmp_path, TRAIN_CSV, EVAL_CSV)


def csv_data(folder: Path, training: bytes, evaluation: bytes = EVAL_CSV) -> DataConfig:
    (folder / "train.csv").write_bytes(training)
    (folder / "test.csv").write_bytes(evaluation)
    return DataConfig(
        source="csv",
        train_csv=str(folder / "train.csv"),
        eval_csv=str(folder / "test.csv"),
        cache_dir=str(folder / "cache"),
    )


def cache_files(data: DataConfig) -> list[Path]:
    return sorted(Path(data.cache_dir).iterdir())


def digest(parts: tuple[EncodedText, EncodedText]) -> str:
    return hashlib.sha256(b"".join(part.tokens.tobytes() + part.labels.tobytes() for part in parts)).hexdigest()


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[ModelConfig]:
    """The calls that encoded articles rather than reading the cache."""
    calls: list[ModelConfig] = []
    encode = train.data._encode_articles

    def counted(articles: tuple, model: ModelConfig) -> tuple[EncodedText, EncodedText]:
        calls.append(model)
        return encode(articles, model)

    monkeypatch.setattr(train.data, "_encode_articles", counted)
    return calls


# What the rows say


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


def test_first_and_last_cut_one_file_into_two_parts(tmp_path: Path) -> None:
    lines = b"".join(b'"%d","word%d","word%d"\n' % (i % 4 + 1, i, i) for i in range(10))
    same = str(tmp_path / "train.csv")
    data = replace(csv_data(tmp_path, lines), eval_csv=same, train_first=6, eval_last=3)
    training, evaluation = prepare_data(data, ModelConfig(vocabulary=8, sequence_length=2))
    assert training.tokens.tolist() == [[i, i] for i in range(2, 8)]
    assert training.labels.tolist() == [0, 1, 2, 3, 0, 1]
    assert evaluation.tokens.tolist() == [[1, 1]] * 3
    assert evaluation.labels.tolist() == [3, 0, 1]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_reads_any_line_end_also_a_missing_one(tmp_path: Path, end: bytes) -> None:
    training, _ = prepare_data(csv_data(tmp_path, b'"1","one","two"' + end), ModelConfig(vocabulary=4))
    assert training.tokens[0, :4].tolist() == [2, 3, 0, 0]


PLAIN_TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\n\r"), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(1, 4), PLAIN_TEXT, PLAIN_TEXT), min_size=1, max_size=5))
def test_reads_whatever_a_csv_writer_writes(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([*rows, (4, "some", "words")])
    data = csv_data(tmp_path_factory.mktemp("csv"), text.getvalue().encode())
    try:
        training, _ = prepare_data(data, ModelConfig(vocabulary=3))
    except BadInput as error:
        assert "the article has no text" in str(error)  # noqa: PT017  only blank articles are refused
        assert any(not f"{title} {description}".replace("\\", " ").strip() for _, title, description in rows)
    else:
        assert training.labels.tolist() == [*(number - 1 for number, _, _ in rows), 3]
        assert (training.tokens[:, 0] > 0).all()


# What is refused

BAD_LINES = {
    "two columns": (b'"1","title"\n', "the line has 2 columns"),
    "four columns": (b'"1","title","text","more"\n', "the line has 4 columns"),
    "blank line": (b"\n", "the line has 0 columns"),
    "class 0": (b'"0","title","text"\n', "the class is '0'"),
    "class 5": (b'"5","title","text"\n', "the class is '5'"),
    "header": (b'"Class Index","Title","Description"\n', "the class is 'Class Index'"),
    "long class": (b'"%s","title","text"\n' % (b"1" * 10000), "the class is '1{20}';"),
    "exotic digit": ('"\u0661","title","text"\n'.encode(), "the class is '\u0661'"),
    "byte order mark": (b'\xef\xbb\xbf"1","title","text"\n', r"','|the class is"),
    "latin-1": (b'"1","title","caf\xe9"\n', "'utf-8' codec can't decode byte 0xe9"),
    "NUL": (b'"1","title","te\0xt"\n', "a NUL byte"),
    "open quote": (b'"1","title","text\n', "a quote is not closed"),
    "single inner quote": (b'"1","ti"tle","te"xt"\n', "',' expected after '\"'"),
    "text after a quote": (b'"1","title"s,"text"\n', "',' expected after '\"'"),
    "long field": (b'"1","title","%s"\n' % (b"x" * 131073), "field larger than field limit"),
    "long line": (b'"1","title","%s"\n' % (b"x" * 2**20), "longer than 1 MiB"),
    "no text": (b'"1"," ","\\"\n', "the article has no text"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_names_file_and_line_of_what_is_not_ag_news(tmp_path: Path, case: str) -> None:
    line, reason = BAD_LINES[case]
    with pytest.raises(BadInput, match=rf"train\.csv:3: .*({reason}).*expected on one line, in UTF-8") as caught:
        prepare_data(csv_data(tmp_path, TRAIN_CSV + line + TRAIN_CSV), MODEL)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)
    assert not Path(tmp_path / "cache").exists()


def test_names_the_evaluation_file_too(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"test\.csv:1: the line has 1 columns"):
        prepare_data(csv_data(tmp_path, TRAIN_CSV, b"hello\n"), MODEL)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=st.binary(max_size=60) | st.text('"1,\\\n\r x', max_size=30).map(str.encode))
@example(content=b'1,"a\rb",c\n')
@example(content=b"1,a\rb,c\n")
def test_any_file_is_either_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    data = csv_data(tmp_path_factory.mktemp("hostile"), b'"1","some","words"\n' + content)
    try:
        training, _ = prepare_data(data, ModelConfig(vocabulary=3))
    except BadInput as error:
        assert re.search(r"train\.csv:\d+: .*expected on one line", str(error))  # noqa: PT017
    else:
        assert len(training.tokens) == 1 + content.count(b"\n") + (content[-1:] not in (b"\n", b""))


def test_refuses_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"train\.csv is empty"):
        prepare_data(csv_data(tmp_path, b""), MODEL)


@pytest.mark.parametrize(("key", "file_name"), [("train_csv", "train.csv"), ("eval_csv", "test.csv")])
def test_a_missing_file_comes_with_two_ways_out(data: DataConfig, key: str, file_name: str) -> None:
    Path(getattr(data, key)).unlink()
    with pytest.raises(BadInput, match=rf"{file_name} is missing; point data\.{key} at .* or set data\.download=true"):
        prepare_data(data, MODEL)


@pytest.mark.parametrize("path", [os.path.dirname(__file__), os.devnull])
def test_refuses_a_folder_and_a_device(data: DataConfig, path: str) -> None:
    with pytest.raises(BadInput, match=r"data\.train_csv: .* is not a file"):
        prepare_data(replace(data, train_csv=path), MODEL)


@pytest.mark.parametrize("path", ["a\0b", "x" * 300, __file__ + "/train.csv"])
def test_refuses_a_path_that_cannot_be(data: DataConfig, path: str) -> None:
    with pytest.raises(BadInput, match=r"data\.train_csv: cannot read '"):
        prepare_data(replace(data, train_csv=path), MODEL)


def test_refuses_a_file_over_one_gibibyte_without_reading_it(data: DataConfig) -> None:
    os.truncate(data.train_csv, 2**30 + 1)
    with pytest.raises(BadInput, match=r"train\.csv is larger than 1 GiB; point data\.train_csv at"):
        prepare_data(data, MODEL)


@pytest.mark.parametrize(("key", "file_name"), [("train_first", "train.csv"), ("eval_last", "test.csv")])
def test_refuses_more_articles_than_there_are(data: DataConfig, key: str, file_name: str) -> None:
    prepare_data(replace(data, **{key: 2}), ModelConfig(vocabulary=7))
    with pytest.raises(BadInput, match=rf"data\.{key}=3 is more than the 2 articles of .*{file_name}; use at most 2$"):
        prepare_data(replace(data, **{key: 3}), ModelConfig(vocabulary=7))


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


# The cache


def test_encodes_once(data: DataConfig, encodings: list[ModelConfig]) -> None:
    first = prepare_data(data, MODEL)
    second = prepare_data(data, MODEL)
    assert len(encodings) == 1
    assert digest(first) == digest(second)
    assert all(array.flags.writeable for part in second for array in (part.tokens, part.labels))
    assert [stat.S_IMODE(path.stat().st_mode) for path in cache_files(data)] == [0o644]


def test_encodes_again_when_content_or_options_differ(data: DataConfig, encodings: list[ModelConfig]) -> None:
    small = replace(MODEL, vocabulary=5)
    for model in (MODEL, small, replace(MODEL, sequence_length=8)):
        prepare_data(data, model)
    prepare_data(replace(data, train_first=1), small)
    prepare_data(replace(data, eval_last=1), small)
    Path(data.eval_csv).write_bytes(EVAL_CSV + EVAL_CSV)
    prepare_data(data, small)
    Path(data.train_csv).write_bytes(TRAIN_CSV + TRAIN_CSV)
    _, evaluation = prepare_data(data, small)
    assert len(encodings) == 7 == len(cache_files(data))
    assert len(evaluation.labels) == 4


def test_the_place_of_a_file_does_not_matter(data: DataConfig, encodings: list[ModelConfig], tmp_path: Path) -> None:
    prepare_data(data, MODEL)
    Path(data.train_csv).rename(tmp_path / "elsewhere.csv")
    prepare_data(replace(data, train_csv=str(tmp_path / "elsewhere.csv")), MODEL)
    assert len(encodings) == 1


def save(path: Path, **changes: object) -> None:
    with np.load(path) as arrays:
        np.savez(path, **{**arrays, **changes})


def change_zip_headers(path: Path, offset: int, bits: int) -> None:
    """Flip bits of the first array's entry, in its own header and in the archive's directory (two bytes further on)."""
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x03\x04") + offset] ^= bits
    raw[raw.index(b"PK\x01\x02") + offset + 2] ^= bits
    path.write_bytes(raw)


def call_compressed(path: Path) -> None:
    change_zip_headers(path, 8, 8)
    path.write_bytes(path.read_bytes().replace(b"\x93NUMPY", b"\xff" * 6))


def claim_huge_array(path: Path) -> None:
    header = "{'descr': '<i4', 'fortran_order': False, 'shape': (1000000000000000, 9), }".ljust(117) + "\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("training_tokens.npy", b"\x93NUMPY\x01\x00" + bytes([118, 0]) + header.encode())


def replace_member(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for part in ("training", "evaluation"):
            archive.writestr(f"{part}_tokens.npy", b"not an array")
            archive.writestr(f"{part}_labels.npy", b"not an array")


def flip_a_bit(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"NUMPY") + 130] ^= 1
    path.write_bytes(raw)


def write_bare_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


SPOILED: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "text": lambda path: path.write_text("hello"),
    "bare array": write_bare_array,
    "flipped bit": flip_a_bit,
    "encrypted": lambda path: change_zip_headers(path, 6, 1),
    "called compressed": call_compressed,
    "huge shape": claim_huge_array,
    "not arrays": replace_member,
    "pickle": lambda path: save(path, training_tokens=np.array([print, None], dtype=object)),
    "missing array": lambda path: np.savez(path, training_tokens=np.zeros((2, 9), dtype=np.int32)),
    "token beyond the vocabulary": lambda path: save(path, training_tokens=np.full((2, 9), 13, dtype=np.int32)),
    "negative token": lambda path: save(path, evaluation_tokens=np.array([[1] * 8 + [-1]] * 2, dtype=np.int32)),
    "row of padding": lambda path: save(path, training_tokens=np.zeros((2, 9), dtype=np.int32)),
    "label 4": lambda path: save(path, training_labels=np.array([0, 4])),
    "negative label": lambda path: save(path, training_labels=np.array([0, -1])),
    "float tokens": lambda path: save(path, training_tokens=np.ones((2, 9))),
    "narrow labels": lambda path: save(path, training_labels=np.zeros(2, dtype=np.int32)),
    "labels in two dimensions": lambda path: save(path, training_labels=np.zeros((2, 1), dtype=np.int64)),
    "short rows": lambda path: save(path, training_tokens=np.ones((2, 8), dtype=np.int32)),
    "more rows than labels": lambda path: save(path, training_tokens=np.ones((3, 9), dtype=np.int32)),
    "no rows": lambda path: save(
        path, training_tokens=np.ones((0, 9), dtype=np.int32), training_labels=np.zeros(0, dtype=np.int64)
    ),
}


@pytest.mark.parametrize("damage", SPOILED)
def test_a_damaged_cache_is_built_again(data: DataConfig, encodings: list[ModelConfig], damage: str) -> None:
    intact = prepare_data(data, MODEL)
    (path,) = cache_files(data)
    SPOILED[damage](path)
    assert digest(prepare_data(data, MODEL)) == digest(intact)
    assert digest(prepare_data(data, MODEL)) == digest(intact)
    assert len(encodings) == 2
    assert cache_files(data) == [path]


@pytest.mark.parametrize("folder", [__file__, __file__ + "/cache", "a\0b", "~nobody-by-this-name/cache"])
def test_a_cache_that_cannot_be_written_is_named(data: DataConfig, folder: str) -> None:
    with pytest.raises(BadInput, match=r"data\.cache_dir.*; name a folder you may write to"):
        prepare_data(replace(data, cache_dir=folder), MODEL)


def test_a_full_disk_leaves_nothing_half_written(data: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fill)
    with pytest.raises(BadInput, match=r"data\.cache_dir: cannot write .*No space left"):
        prepare_data(data, MODEL)
    assert cache_files(data) == []


def test_the_cache_lies_in_the_home_that_the_tilde_names(
    data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    prepare_data(replace(data, cache_dir="~/deep/cache"), MODEL)
    assert len(list((tmp_path / "home/deep/cache").iterdir())) == 1


# Several processes

IN_A_PROCESS = """
import hashlib, sys, time
from pathlib import Path
import train.data
from train.config import DataConfig, ModelConfig

folder, index, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
save = train.data._save_encoded

def save_together(*arguments):
    (folder / f"ready{index}").touch()
    deadline = time.monotonic() + 30
    while len(list(folder.glob("ready*"))) < count and time.monotonic() < deadline:
        time.sleep(0.005)
    save(*arguments)

train.data._save_encoded = save_together
data = DataConfig(synthetic_articles=300, cache_dir=str(folder / "cache"))
parts = train.data.prepare_data(data, ModelConfig(vocabulary=1500))
assert "torch" not in sys.modules
print(hashlib.sha256(b"".join(part.tokens.tobytes() + part.labels.tobytes() for part in parts)).hexdigest())
"""


def test_processes_that_encode_at_once_agree_and_leave_one_cache(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", IN_A_PROCESS, str(tmp_path), str(index), "3"],
            env={**os.environ, "PYTHONHASHSEED": str(index)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(3)
    ]
    digests = {process.communicate(timeout=60)[0].strip() for process in processes}
    data = DataConfig(synthetic_articles=300, cache_dir=str(tmp_path / "cache"))
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(list(tmp_path.glob("ready*"))) == 3, "every process encoded for itself"
    assert len(cache_files(data)) == 1
    assert digests == {digest(prepare_data(replace(data, cache_dir=str(tmp_path)), ModelConfig(vocabulary=1500)))}


# Downloads


@dataclass
class Server:
    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


class Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, server: Server, *arguments: object) -> None:
        self.state = server
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self.state.requests.append(self.path)
        if self.path.startswith("/to-a-file"):
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname")
            self.end_headers()
            return
        content = self.state.files.get(self.path.removeprefix("/cut"))
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.path.startswith("/cut") else content)

    def log_message(self, *_: object) -> None:
        """A test's server says nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    state = Server(url="")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, state)) as listener:
        state.url = f"http://127.0.0.1:{listener.server_address[1]}"
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        yield state
        listener.shutdown()
        thread.join()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


def test_downloads_a_file_with_the_right_sum(server: Server, tmp_path: Path) -> None:
    server.files["/train.csv"] = TRAIN_CSV * 5000
    download(f"{server.url}/train.csv", tmp_path / "new/train.csv", md5(TRAIN_CSV * 5000))
    assert files_below(tmp_path) == [tmp_path / "new/train.csv"]
    assert (tmp_path / "new/train.csv").read_bytes() == TRAIN_CSV * 5000


def test_missing_files_are_downloaded_once_when_asked_for(
    server: Server, data: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files |= {"/ag/train.csv": TRAIN_CSV, "/ag/test.csv": EVAL_CSV}
    sums = {"train_csv": ("train.csv", md5(TRAIN_CSV)), "eval_csv": ("test.csv", md5(EVAL_CSV))}
    monkeypatch.setattr(train.articles, "_PUBLISHED", sums)
    expected = digest(prepare_data(data, MODEL))
    for path in (data.train_csv, data.eval_csv):
        Path(path).unlink()
    wanted = replace(data, download=True, url=f"{server.url}/ag/")
    assert digest(prepare_data(wanted, MODEL)) == expected
    assert digest(prepare_data(wanted, MODEL)) == expected
    assert server.requests == ["/ag/train.csv", "/ag/test.csv"]


def test_the_published_sums_are_those_of_ag_news(server: Server, data: DataConfig) -> None:
    server.files["/train.csv"] = TRAIN_CSV
    Path(data.train_csv).unlink()
    with pytest.raises(BadInput, match="the published file has b1a00f826fdfbd249f79597b59e1dc12; try again"):
        prepare_data(replace(data, download=True, url=server.url), MODEL)
    assert not Path(data.train_csv).exists()
    server.files["/test.csv"] = EVAL_CSV
    Path(data.train_csv).write_bytes(TRAIN_CSV)
    Path(data.eval_csv).unlink()
    with pytest.raises(BadInput, match="the published file has d52ea96a97a2d943681189a97654912d; try again"):
        prepare_data(replace(data, download=True, url=server.url), MODEL)


@pytest.mark.parametrize(
    ("path", "kind", "reason"),
    [
        ("/cut/train.csv", BadInput, rf"has MD5 sum \w+, the published file has {md5(TRAIN_CSV)}; try again"),
        ("/other.csv", BadInput, rf"has MD5 sum {md5(EVAL_CSV)}, the published"),
        ("/none.csv", CommprofError, "HTTP Error 404: Not Found; check data.url"),
        ("/to-a-file", CommprofError, "check data.url"),
        ("/large.csv", BadInput, "is larger than 1000 B"),
        ("/caf\u00e9.csv", CommprofError, "check data.url"),
        (":x/train.csv", CommprofError, "check data.url"),
    ],
)
def test_a_download_that_fails_leaves_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, kind: type[CommprofError], reason: str
) -> None:
    server.files |= {"/train.csv": TRAIN_CSV, "/other.csv": EVAL_CSV, "/large.csv": b"x" * 1001}
    monkeypatch.setattr(train.articles, "_MAX_DOWNLOAD_BYTES", 1000)
    with pytest.raises(CommprofError, match=reason) as caught:
        download(server.url + path, tmp_path / "train.csv", md5(TRAIN_CSV))
    assert type(caught.value) is kind
    assert server.url in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "train.csv") in str(caught.value) or kind is BadInput
    assert files_below(tmp_path) == []


def test_a_failed_download_keeps_the_file_that_was_there(server: Server, tmp_path: Path) -> None:
    server.files["/train.csv"] = TRAIN_CSV
    (tmp_path / "train.csv").write_bytes(b"old")
    with pytest.raises(BadInput, match="MD5"):
        download(f"{server.url}/train.csv", tmp_path / "train.csv", md5(EVAL_CSV))
    assert (tmp_path / "train.csv").read_bytes() == b"old"


def test_a_server_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/train.csv"
    with pytest.raises(CommprofError, match=rf"cannot download {url}: .*refused.*; check data\.url and the network"):
        download(url, tmp_path / "train.csv", md5(TRAIN_CSV))
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/train.csv", "data:,x", "/etc/hostname", ""])
def test_only_http_is_fetched(tmp_path: Path, url: str) -> None:
    with pytest.raises(BadInput, match=r"data\.url: .* is not an http:// or https:// address"):
        download(url, tmp_path / "train.csv", md5(b""))
    assert files_below(tmp_path) == []


# Synthetic articles


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
