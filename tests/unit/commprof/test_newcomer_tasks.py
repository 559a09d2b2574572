"""Each command that the list of a newcomer's tasks or the index by question names is one: its verb and its flags exist."""

import argparse
import re
import shlex
from pathlib import Path

import pytest

from benchmarks.examples import MOST_BYTES
from commprof.cli import VERBS, verb_named

DOCS = Path(__file__).parents[3] / "docs"
PAGES = ("results/newcomer-tasks.md", "README.md")
COMMANDS = sorted({words for page in PAGES for words in re.findall(r"`commprof ([a-z][^`]*)`", (DOCS / page).read_text())})


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


def test_examples_are_small_enough_to_keep() -> None:
    assert {page.name for page in (DOCS / "examples").glob("*.html")} == {
        "scales.html",
        "does-not-scale.html",
        "log-import.html",
    }
    assert max(page.stat().st_size for page in (DOCS / "examples").glob("*.html")) <= MOST_BYTES
