"""What does the import graph say of the house? Rooms with their questions, their verbs and who imports whom.

A room is a folder of `analysis`, `train` or `commbench`, or a module that lies there by itself. The roof has `study`, `testbed`
and `launch`; whatever else lies there is the door. The layers are those that import-linter holds.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import grimp

from commprof.cli import VERBS

ROOT = Path(__file__).resolve().parents[2]
ROOF = ("door", "launch", "study", "testbed")
FLOORS = ("analysis", "train", "commbench")

Edge = tuple[str, str]  # who imports, what is imported
Layers = tuple[tuple[str, ...], ...]  # top first; what stands together sees nothing of each other


@dataclass(frozen=True)
class Room:
    """A box of the picture. A folder's own `__init__` holds words only and is not counted among its modules."""

    name: str
    question: str
    num_modules: int
    verbs: tuple[str, ...]
    is_folder: bool


@dataclass(frozen=True)
class House:
    """All rooms by name (`analysis.wire`), each pair of which one imports the other, and the layers of each package."""

    rooms: Mapping[str, Room]
    imports: frozenset[Edge]
    layers: Mapping[str, Layers]

    def on(self, floor: str) -> dict[str, Room]:
        """Return a floor's rooms by their names there."""
        return {room.name: room for name, room in self.rooms.items() if floor_of(name) == floor}

    def inside(self, floor: str) -> frozenset[Edge]:
        """Return who imports whom among the rooms of one floor."""
        own = (edge for edge in self.imports if floor_of(edge[0]) == floor_of(edge[1]) == floor)
        return frozenset((a.rpartition(".")[2], b.rpartition(".")[2]) for a, b in own)


def read_house() -> House:
    """Build the import graph of the code as it lies there, and look at it room by room."""
    graph = grimp.build_graph("commprof", cache_dir=None)
    folders = {module.rpartition(".")[0] for module in graph.modules}
    counts = Counter(room for module in graph.modules - folders if (room := room_of(module)))
    imports = {
        (mine, theirs)
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
        if (mine := room_of(module)) and (theirs := room_of(imported)) and mine != theirs
    }
    rooms = {name: _room(name, count, f"commprof.{name}" in folders) for name, count in sorted(counts.items())}
    return House(rooms, frozenset(imports), _layers())


def room_of(module: str) -> str | None:
    """Return the room that a module lies in; a floor's own `__init__` lies in none."""
    match module.split(".")[1:]:
        case [floor, *rest] if floor in FLOORS:
            return f"{floor}.{rest[0]}" if rest else None
        case [name, *_] if name in ROOF:
            return name
        case _:
            return "door"


def floor_of(room: str) -> str:
    """Return the floor that a room is on."""
    floor = room.partition(".")[0]
    return floor if floor in FLOORS else "roof"


def reduced(edges: Iterable[Edge]) -> frozenset[Edge]:
    """Leave out each edge that a longer way says as well. Raises graphlib.CycleError where the edges run in a circle."""
    edges = set(edges)
    below: dict[str, set[str]] = {}
    for a, b in edges:
        below.setdefault(a, set()).add(b)
    reach: dict[str, set[str]] = {}
    for name in TopologicalSorter(below).static_order():
        reach[name] = {far for near in below.get(name, ()) for far in (near, *reach[near])}
    return frozenset((a, b) for a, b in edges if not any(b in reach[other] for other in below[a] - {b}))


def first_words(docstring: str) -> str:
    """Return what a docstring begins with, up to the first mark that ends a thought."""
    return re.split(r"(?<=\?)|[.:;](?=\s)", " ".join(docstring.split()), maxsplit=1)[0].rstrip(".:;")


def docstring_of(module: str) -> str:
    """Return a module's docstring, which each module of this project has."""
    text = import_module(module).__doc__
    assert text is not None, f"{module} has no docstring"
    return text


def _room(name: str, num_modules: int, is_folder: bool) -> Room:
    module = "commprof.cli" if name == "door" else f"commprof.{name}"
    verbs = tuple(verb for verb, (place, _) in VERBS.items() if room_of(f"commprof.{place}") == name)
    return Room(name.rpartition(".")[2], first_words(docstring_of(module)), num_modules, verbs, is_folder)


def _layers() -> dict[str, Layers]:
    """Read what import-linter holds: the layers of each package that has a contract."""
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return {
        contract["containers"][0].removeprefix("commprof").removeprefix("."): tuple(
            tuple(name.strip() for name in layer.split("|")) for layer in contract["layers"]
        )
        for contract in linter["contracts"]
        if contract["type"] == "layers"
    }
