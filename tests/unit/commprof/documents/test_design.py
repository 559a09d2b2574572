"""The house is drawn as it is, its rooms have no circles, and each module is known by one name."""

import re
from graphlib import CycleError, TopologicalSorter

import grimp
import pytest

from docs.drawing.design import PICTURE, check_plan, draw
from docs.drawing.house import docstring_of, first_words, read_house, reduced, room_of
from tests import ROOT

GRAPH = grimp.build_graph("commprof", cache_dir=None)
PACKAGES = sorted({module.rpartition(".")[0] for module in GRAPH.modules} - {""})
BEHIND_LINKS = ("analysis", "commbench", "train")
_OLD_IMPORT = re.compile(  # in strings as well, where a line's end is two letters
    r"from (?:{0})[\w.]* import|(?:^|\\n)\s*import (?:{0})\b".format("|".join(BEHIND_LINKS)), re.MULTILINE
)


def test_the_picture_is_the_import_graph_s() -> None:
    assert PICTURE.read_text() == draw(read_house()), "docs/design.svg shows an earlier house: make design"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_package_imports_in_a_circle(package: str) -> None:
    """Its modules, and its folders as wholes."""
    depth = package.count(".") + 1
    below: dict[str, set[str]] = {}
    for module in GRAPH.find_descendants(package):
        own = module.split(".")[depth]
        imported = (name for name in GRAPH.find_modules_directly_imported_by(module) if name.startswith(f"{package}."))
        below.setdefault(own, set()).update({name.split(".")[depth] for name in imported} - {own})
    TopologicalSorter(below).prepare()


def test_what_lies_behind_a_link_has_one_name() -> None:
    """With the repository's root on sys.path `analysis.wire` is found as well: a second copy, with types of its own."""
    folders = [*BEHIND_LINKS, "commprof", "benchmarks", "docs", "tests"]
    files = [path for folder in folders for path in (ROOT / folder).glob("**/*.py")]
    assert len(files) > len(GRAPH.modules)
    assert [str(path.relative_to(ROOT)) for path in files if _OLD_IMPORT.search(path.read_text())] == []


@pytest.mark.parametrize("room", [name for name in PACKAGES if "Called by" in docstring_of(name)])
def test_a_room_names_those_beside_it_that_call_it(room: str) -> None:
    """Rooms beside it; a verb's own module is "the verb", and one in backquotes is on another floor."""
    beside = GRAPH.find_children(room.rpartition(".")[0]) & set(PACKAGES) - {room}
    told = re.sub("`[^`]*`", "", docstring_of(room).partition("Called by ")[2].partition(".")[0])
    named = {name for name in beside if re.search(rf"\b{name.rpartition('.')[2]}\b", told)}
    callers = {name for name in beside if imports_directly(name, room)}
    if "every room" in told:
        named = beside - named
    assert named == callers


def imports_directly(package: str, other: str) -> bool:
    """Return whether any module of a package imports one of the other's."""
    return bool(GRAPH.find_matching_direct_imports(import_expression=f"{package}.** -> {other}.**"))


def test_what_a_longer_way_says_is_left_out() -> None:
    assert reduced([("a", "b"), ("b", "c"), ("a", "c"), ("d", "c")]) == {("a", "b"), ("b", "c"), ("d", "c")}
    with pytest.raises(CycleError):
        reduced([("a", "b"), ("b", "c"), ("c", "a")])


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ([["a"], ["b"]], r"floor differ: \['c'\]"),
        ([["c"], ["a"], ["b"]], "not in the order of the layers"),
        ([["a"], ["c"], ["b", "d"]], r"floor differ: \['d'\]"),
    ],
)
def test_a_plan_that_is_not_true_is_refused(plan: list[list[str]], message: str) -> None:
    check_plan([["a", "a"], ["b", "."], [".", "c"]], (("a",), ("b", "c")), "abc")
    with pytest.raises(AssertionError, match=message):
        check_plan(plan, (("a",), ("b",), ("c",)), "abc")


@pytest.mark.parametrize(
    ("module", "room"),
    [
        ("commprof", "door"),
        ("commprof.cli", "door"),
        ("commprof.study.plan", "study"),
        ("commprof.launch", "launch"),
        ("commprof.analysis", None),
        ("commprof.analysis.traces.one_rank.stream", "analysis.traces"),
        ("commprof.commbench.units", "commbench.units"),
    ],
)
def test_each_module_lies_in_a_room(module: str, room: str | None) -> None:
    assert room_of(module) == room


@pytest.mark.parametrize(
    ("docstring", "words"),
    [
        ("What does a message cost? Benches -> time.", "What does a message cost?"),
        ("The roof: one door.\n\nMore.", "The roof"),
        ("Reads `run.json` and\nother files. Writes none.", "Reads `run.json` and other files"),
    ],
)
def test_a_room_s_question_is_what_its_docstring_begins_with(docstring: str, words: str) -> None:
    assert first_words(docstring) == words
