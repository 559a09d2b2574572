"""AG News' CSV: what is read, and what is refused with file and line."""

import csv
import io
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from commprof.commbench.errors import BadInput
from commprof.train.config.types import DataConfig, ModelConfig
from commprof.train.text import articles
from commprof.train.text.dataset import prepare_data
from tests.ag_news import MODEL, TRAIN_CSV, csv_data


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


def test_a_byte_order_mark_is_no_part_of_the_first_class(tmp_path: Path) -> None:
    training, _ = prepare_data(csv_data(tmp_path, b"\xef\xbb\xbf" + TRAIN_CSV), MODEL)
    assert training.labels.tolist() == [2, 0]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_quote_may_hold_line_ends(tmp_path: Path, end: bytes) -> None:
    text = b'"1","one%stwo","%sthree""%s"%s"4","four","five"%s' % ((end,) * 5)
    training, _ = prepare_data(csv_data(tmp_path, text), ModelConfig(vocabulary=8))
    assert [(row != 0).sum() for row in training.tokens] == [4, 2]
    assert training.labels.tolist() == [0, 3]


OPEN = b'"2","one\ntwo","three\n""four"", five\n'  # the quote that stays open is on the second line

LINES_OF_RECORDS = {
    "after records of several lines": (b'"1","a\n\nb","c"\n' * 2 + b'"9","t","x"\n', 7, "the class is '9'"),
    "a record's first line": (b'"1","a\nb","c","d"\n', 1, "the line has 4 columns"),
    "a byte inside a record": (b'"1","a\nb\xe9","c"\n', 2, "'utf-8' codec can't decode byte 0xe9"),
    "the quote at the file's end": (OPEN, 2, "a quote is not closed"),
    "the quote that would swallow the rest": (OPEN + b"more\n" * 10000 + b'"\n', 2, "a quote is not closed"),
    "one line too many": (b'"1","' + b"\n" * 64 + b'a","b"\n', 1, "a quote is not closed"),
    "a text too long": (b'"1","' + (b"x" * 2**18 + b"\n") * 5 + b'a","b"\n', 1, "a quote is not closed"),
}


@pytest.mark.parametrize("case", LINES_OF_RECORDS)
def test_the_line_is_exact_where_records_have_several(tmp_path: Path, case: str) -> None:
    content, number, reason = LINES_OF_RECORDS[case]
    with pytest.raises(BadInput, match=rf"train\.csv:{number}: {reason}"):
        prepare_data(csv_data(tmp_path, content), MODEL)


def test_an_open_quote_is_noticed_within_64_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    lines = articles._lines
    monkeypatch.setattr(articles, "_lines", lambda *args: (read.append(line) or line for line in lines(*args)))
    with pytest.raises(BadInput, match=r"train\.csv:1: a quote is not closed"):
        prepare_data(csv_data(tmp_path, b'"1","title","text\n' + TRAIN_CSV * 10000), MODEL)
    assert len(read) == 64


PLAIN_TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), min_size=1, max_size=40)


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
    with pytest.raises(BadInput, match=rf"train\.csv:3: .*({reason}).*expected in UTF-8") as caught:
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
        assert re.search(r"train\.csv:\d+: .*expected in UTF-8", str(error))  # noqa: PT017
    else:
        records = list(csv.reader(io.StringIO(content.decode(), newline=""), strict=True))
        assert training.labels.tolist() == [0, *(int(number) - 1 for number, _, _ in records)]


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


@pytest.mark.parametrize(
    ("source", "path", "name"),
    [
        ("synthetic", "x/train.csv", "synthetic"),
        ("csv", "data/ag_news_csv/train.csv", "ag_news"),
        ("csv", "/imdb/a.csv", "imdb"),
    ],
)
def test_a_data_set_is_called_after_its_folder(source: str, path: str, name: str) -> None:
    assert articles.dataset_name(DataConfig(source=source, train_csv=path)) == name
