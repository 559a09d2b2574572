from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from markupsafe import Markup

from commprof.train.config.types import DataConfig, ModelConfig
from commprof.train.text import dataset
from commprof.train.text.dataset import EncodedText
from tests.ag_news import EVAL_CSV, TRAIN_CSV, csv_data
from tests.report_runs import Page, add_study, report
from tests.unit.processes import no_process


@contextmanager
def _no_process_without_the_mark(item: pytest.Item) -> Iterator[None]:
    if item.get_closest_marker("processes") is None:
        with no_process():
            yield
    else:
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    with _no_process_without_the_mark(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with _no_process_without_the_mark(item):
        return (yield)


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    return csv_data(tmp_path, TRAIN_CSV, EVAL_CSV)


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[ModelConfig]:
    """The calls that encoded articles rather than reading the cache."""
    calls: list[ModelConfig] = []
    encode = dataset._encode_articles

    def counted(articles: tuple, model: ModelConfig) -> tuple[EncodedText, EncodedText]:
        calls.append(model)
        return encode(articles, model)

    monkeypatch.setattr(dataset, "_encode_articles", counted)
    return calls


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, made empty: where a report of runs goes."""
    folder = tmp_path / "working-directory"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages whose figures are made and not drawn, half of their time, for tests that ask what a page says or where it goes."""
    monkeypatch.setattr("commprof.analysis.report.page.html.inline_svg", lambda figure, name, alt: Markup("<svg></svg>"))


@pytest.fixture(scope="session")
def study_page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The report of a finished study."""
    return report(add_study(tmp_path_factory.mktemp("study") / "demo"))
