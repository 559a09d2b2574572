"""What the documents say of files and of each other is held against the code and the tree."""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.records.types import SCHEMA_VERSION
from tests import ROOT

FORMATS = (ROOT / "docs" / "formats.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
MODULES = [
    import_module(f"commprof.{name}")
    for name in (
        "commbench.records.types",
        "commbench.records.links",
        "commbench.records.contention",
        "commbench.records.sharding",
        "commbench.records.training",
        "commbench.machine.facts",
        "commbench.bench.plan",
        "analysis.wire.results",
        "analysis.step.results",
        "analysis.strategies.results",
        "analysis.study.results",
        "analysis.study.sharded",
        "analysis.health.results",
        "analysis.runs.interval",
        "analysis.runs.listing",
        "analysis.imports.cli",
        "analysis.report.page.document",
    )
]

PACKAGES = [ROOT / name for name in ("analysis", "commbench", "commprof", "train")]
INPUTS = {"presets.csv", "table.csv", "train.csv", "test.csv", "small.yaml"}  # read, not written
DERIVED = {"analysis/predictions.json", "analysis/report.html"}  # in a run's own analysis/
_DATA_FILE = re.compile(r'"([a-z_]+\.(?:jsonl?|csv|html|tex|yaml))"')
_OWN_FILE = re.compile(r"`((?:analysis|commbench|commprof|train|tests|benchmarks|slurm|configs)/[\w./-]+\.\w+)`")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def record_types(module: ModuleType) -> Iterator[type]:
    for own in vars(module).values():
        if isinstance(own, type) and is_dataclass(own) and own.__module__ == module.__name__:
            yield own


def paragraph(name: str) -> str:
    """Return what the document says of a type: from its name in bold to the next empty line."""
    found = re.search(rf"^\*\*{name}\*\*(.*?)(?=\n\n|\Z)", FORMATS, re.MULTILINE | re.DOTALL)
    assert found, f"docs/formats.md has no paragraph that begins with **{name}**"
    return found[1]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_formats_names_every_field_of_every_record_in_its_order(module: ModuleType) -> None:
    documented = {own.__name__: re.findall(r"`([^`]+)`", paragraph(own.__name__)) for own in record_types(module)}
    assert documented == {own.__name__: [field.name for field in fields(own)] for own in record_types(module)}


def test_formats_names_no_type_that_is_gone() -> None:
    known = {own.__name__ for module in MODULES for own in record_types(module)}
    assert set(re.findall(r"^\*\*(\w+)\*\*", FORMATS, re.MULTILINE)) == known
    assert f"`schema_version` (now {SCHEMA_VERSION})" in FORMATS


def test_formats_names_every_file_that_the_code_names() -> None:
    named = {name for package in PACKAGES for path in package.glob("**/*.py") for name in _DATA_FILE.findall(path.read_text())}
    assert {name for name in named - INPUTS if name not in FORMATS} == set()


def test_method_gives_each_collective_its_own_factor() -> None:
    """Of the table's row `busbw = algbw x 2(n-1)/n (NAMES), (n-1)/n (NAMES), 1 (others)`."""
    row = re.search(r"^\| bus bandwidth \| busbw = algbw x (.*?) \|", (ROOT / "docs" / "method.md").read_text(), re.MULTILINE)
    assert row is not None
    twice, once = re.findall(r"n-1\)/n \(([a-z_, ]+)\)", row[1])
    told = dict.fromkeys(OPERATIONS, 1.0) | dict.fromkeys(once.split(", "), 0.75) | dict.fromkeys(twice.split(", "), 1.5)
    assert told == {name: operation.bus_factor(4) for name, operation in OPERATIONS.items()}


def test_design_names_every_room_of_analysis_and_none_that_is_gone() -> None:
    text = (ROOT / "docs" / "design.md").read_text()
    named = re.findall(r"^\| `(\w+)` \|", text[text.index("| room |") :], re.MULTILINE)
    assert sorted(named) == sorted(path.parent.name for path in (ROOT / "analysis").glob("*/__init__.py"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_of_this_project_that_a_document_names_are_there(document: Path) -> None:
    named = _OWN_FILE.findall(document.read_text())
    assert [name for name in named if "NAME" not in name and not (ROOT / name).exists() and name not in DERIVED] == []


def test_the_index_of_results_has_a_row_for_each_with_its_date() -> None:
    folder = ROOT / "docs" / "results"
    rows = re.findall(r"\]\(([\w-]+\.md)\) \| `[^`]+` \| (\d{4}-\d\d-\d\d) \|", (folder / "README.md").read_text())
    results = [path for path in folder.glob("*.md") if path.name != "README.md"]
    assert dict(rows) == {path.name: re.findall(r"^- date: ([\d-]+)", path.read_text(), re.MULTILINE)[0] for path in results}


def test_the_index_of_results_names_every_benchmark_there_is() -> None:
    targets = set(re.findall(r"^(benchmark-[\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make (benchmark-[\w-]+)`", (ROOT / "docs" / "results" / "README.md").read_text())) == targets


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives a document's headings."""
    text = _FENCE.sub("", document.read_text())
    titles = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    wrong = []
    for link in _LINK.findall(_FENCE.sub("", document.read_text())):
        target, _, anchor = link.partition("#")
        if "://" in link:
            good = re.fullmatch(r"https://[\w.-]+\.\w+(/[^\s]*)?", link) is not None  # its form: no test reads the network
        else:
            file = document if not target else document.parent / target
            good = file.exists() and ROOT in file.resolve().parents and (not anchor or anchor in anchors(file))
        wrong += [] if good else [link]
    assert wrong == []
