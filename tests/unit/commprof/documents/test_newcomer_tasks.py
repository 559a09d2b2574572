"""Each command that a document names is one: its verb and its flags exist; and what the README shows is what there is."""

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.examples import MOST_BYTES
from commprof.cli import VERBS, verb_named

DOCS = Path(__file__).parents[4] / "docs"
OF_OTHER_TIMES = {"decisions.md", "formats.md"}  # what was, and names of files' schemas
PAGES = (
    *(page for page in sorted(DOCS.glob("*.md")) if page.name not in OF_OTHER_TIMES),
    DOCS / "results" / "newcomer-tasks.md",
    DOCS.parent / "README.md",
    DOCS.parent / "CONTRIBUTING.md",
)
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINE = re.compile(r"^[^#:\n]*?\bcommprof ([a-z][^#\n]*?)(?= +#| *\)\"| *&&|$)", re.MULTILINE)


def commands(page: Path) -> Iterator[str]:
    """Yield what follows `commprof` in a page's lines of code, and in its sentences."""
    text = page.read_text("utf-8")
    for language, block in _FENCE.findall(text):
        yield from _LINE.findall(block.replace("\\\n", " ")) if not language else ()
    yield from re.findall(r"`commprof ([a-z][^`\n&]*?) *(?:&&[^`]*)?`", _FENCE.sub("", text))


COMMANDS = sorted({words for page in PAGES for words in commands(page)})


@pytest.mark.parametrize("command", COMMANDS)
def test_verb_and_flags_exist(command: str) -> None:
    name, *words = shlex.split(command)
    assert name in VERBS
    parser = argparse.ArgumentParser()
    verb_named(name).add_arguments(parser)
    own = words[: words.index("--")] if "--" in words else words
    flags = {word for word in own if word.startswith("-")}
    assert flags <= set(parser._option_string_actions)


def test_readme_shows_the_six_lines_of_the_example_it_pictures() -> None:
    shown = (DOCS.parent / "README.md").read_text().partition("```text\n")[2].partition("```")[0].splitlines()
    page = re.sub(r"<[^>]+>", " ", (DOCS / "examples" / "scales.html").read_text()).replace("&#39;", "'")
    said = " ".join(page.split())
    assert [line.partition(":")[0] for line in shown] == ["Verdict", "Why", "How sure", "Cost", "Change", "Next"]
    assert [line for line in shown if line.removesuffix(" ...") not in said] == []


def test_the_readme_is_read_in_a_few_minutes() -> None:
    text = (DOCS.parent / "README.md").read_text()
    assert len(text.splitlines()) < 90
    assert len(text.split()) < 700


def test_the_list_of_examples_says_what_their_pages_say() -> None:
    rows = re.findall(r"\| \[[^\]]+\]\(([\w-]+\.html)\) \| ([^|]+) \|", (DOCS / "examples" / "README.md").read_text())
    assert len(rows) == 3
    for page, said in rows:
        figures = re.findall(r"\d[\d.]*", said)
        assert [figure for figure in figures if figure not in (DOCS / "examples" / page).read_text()] == []


def test_examples_are_small_enough_to_keep() -> None:
    assert {page.name for page in (DOCS / "examples").glob("*.html")} == {
        "scales.html",
        "does-not-scale.html",
        "log-import.html",
    }
    assert max(page.stat().st_size for page in (DOCS / "examples").glob("*.html")) <= MOST_BYTES
