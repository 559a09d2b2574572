"""Draw docs/design.svg: the floors of the house, its rooms with their questions, and who imports whom (`make design`).

Where a room lies is drawn by hand in PLANS; all else, and whether a plan is still true, comes from the import graph. A new room
is put into its floor's plan.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from docs.drawing.house import ROOT, Edge, House, Layers, Room, docstring_of, first_words, floor_of, read_house, reduced
from docs.drawing.svg import LETTER, Point, Rect, arrow, document, rectangle, words, wrapped

PICTURE = ROOT / "docs" / "design.svg"
PLANS = {
    "roof": """
        door    launch  study   testbed
    """,
    "analysis": """
        report  report  imports
        health  study   .
        .       advice  .
        .       strategies .
        .       step    traces
        .       wire    .
        .       .       scaling
        runs    runs    readers
    """,
    "commbench": """
        .       .       .           foreign
        bench   links   contention  recorder
        ranks   ranks   ranks       ranks
        machine machine records     records
        .       .       display     display
    """,
}
WAY = ("runs", "wire", "step", "advice", "study", "report")  # of a prediction, from below

_WIDTH, _EDGE, _PAD, _HEAD = 1000.0, 16.0, 18.0, 42.0
_BOX, _GAP, _BETWEEN = 58.0, 22.0, 34.0  # heights of a box, of the space below it, and of that between floors
_COLUMN_GAP = 28.0
_SLAB = 40.0  # the height of a layer of train
_CHIP = 26.0  # that of a module by itself
_TRAIN_WIDTH = 220.0
_DESCRIPTION = (
    "Three floors. On the roof door, launch, study and testbed. Below it analysis and, beside it, train. On the ground "
    "commbench. Arrows lead from who imports to what is imported. The rooms of analysis, from below: {rooms}. {arrows}."
)

Plan = list[list[str]]


def draw(house: House) -> str:
    """Return the picture as SVG."""
    plans = {floor: [line.split() for line in plan.strip().splitlines()] for floor, plan in PLANS.items()}
    floors = _floors(plans)
    shapes = [
        *_floor(floors["roof"], "commprof", "commprof"),
        *(shape for floor in ("analysis", "train", "commbench") for shape in _floor(floors[floor], floor, f"commprof.{floor}")),
        *(shape for floor, plan in plans.items() for shape in _rooms(house, floor, floors[floor], plan)),
        *_slabs(house, floors["train"]),
        *_chips(house, floors["commbench"], plans["commbench"]),
        *_between(house.imports, floors),
        *_legend(floors["commbench"].bottom + 26),
    ]
    rooms = ", ".join(name for layer in reversed(house.layers["analysis"]) for name in layer)
    arrows = "; ".join(f"{a} imports {b}" for a, b in sorted(reduced(house.inside("analysis"))))
    told = _DESCRIPTION.format(rooms=rooms, arrows=arrows)
    return document(_WIDTH, floors["commbench"].bottom + 44, "The design of commprof", told, shapes)


def check_plan(plan: Plan, layers: Layers, rooms: Iterable[str]) -> None:
    """Refuse a plan that lacks a room, or where a room stands above one that import-linter holds to be higher."""
    first = {name: number for number, row in reversed([*enumerate(plan)]) for name in row if name != "."}
    assert set(first) == set(rooms), f"a plan in docs/drawing/design.py and its floor differ: {sorted(set(first) ^ set(rooms))}"
    in_order = [row for layer in layers for row in sorted(first[name] for name in layer if name in first)]
    assert in_order == sorted(in_order), f"a plan in docs/drawing/design.py is not in the order of the layers {layers}"


def _floors(plans: Mapping[str, Plan]) -> dict[str, Rect]:
    height = {floor: _HEAD + len(plan) * (_BOX + _GAP) - _GAP + _PAD for floor, plan in plans.items()}
    roof = Rect(_EDGE, _EDGE, _WIDTH - 2 * _EDGE, height["roof"])
    analysis = Rect(_EDGE, roof.bottom + _BETWEEN, roof.width - _TRAIN_WIDTH - _COLUMN_GAP, height["analysis"])
    train = Rect(analysis.right + _COLUMN_GAP, analysis.y, _TRAIN_WIDTH, analysis.height)
    ground = Rect(_EDGE, analysis.bottom + _BETWEEN, roof.width, height["commbench"] + _CHIP + _PAD)
    return {"roof": roof, "analysis": analysis, "train": train, "commbench": ground}


def _floor(at: Rect, name: str, module: str) -> Iterator[str]:
    yield rectangle("floor", at, radius=12)
    yield words(at.x + _PAD, at.y + 27, ("title", name), ("soft", first_words(docstring_of(module))))


def _rooms(house: House, floor: str, at: Rect, plan: Plan) -> Iterator[str]:
    """Yield a floor's boxes at their places in the plan, and the arrows between them."""
    rooms = house.on(floor)
    places = _places(at, plan)
    check_plan(plan, house.layers.get(floor, ()), [name for name, room in rooms.items() if floor == "roof" or room.is_folder])
    for a, b in sorted(reduced(edge for edge in house.inside(floor) if set(edge) <= set(places))):
        yield arrow(_route(places[a], places[b], [*places.values()]), way=floor == "analysis" and {a, b} <= set(WAY))
    for name, place in places.items():
        yield from _box(rooms[name], place, way=floor == "analysis" and name in WAY)


def _places(floor: Rect, plan: Plan) -> dict[str, Rect]:
    """Return where each room of the plan lies; a name that stands twice in a row takes both columns."""
    places: dict[str, Rect] = {}
    for number, row in enumerate(plan):
        width = (floor.width - 2 * _PAD - (len(row) - 1) * _COLUMN_GAP) / len(row)
        for column, name in enumerate(row):
            x = floor.x + _PAD + column * (width + _COLUMN_GAP)
            start = places.setdefault(name, Rect(x, floor.y + _HEAD + number * (_BOX + _GAP), width, _BOX))
            places[name] = Rect(start.x, start.y, x + width - start.x, _BOX)
    places.pop(".", None)
    return places


def _box(room: Room, at: Rect, *, way: bool) -> Iterator[str]:
    """Yield a room: its name, its verbs, how many modules it has, and its question in two lines at most."""
    yield rectangle("way" if way else "box", at)
    yield words(at.x + 12, at.y + 21, ("name", room.name), *(("verb", verb) for verb in room.verbs))
    yield words(at.right - 10, at.y + 21, ("count", str(room.num_modules)))
    lines = wrapped(room.question, at.width - 20)
    assert len(lines) <= 2, f"the first words of {room.name}'s docstring do not fit its box: {room.question}"
    for number, line in enumerate(lines):
        yield words(at.x + 12, at.y + 37 + 14 * number, ("soft", line))


def _route(source: Rect, target: Rect, boxes: Sequence[Rect]) -> list[Point]:
    """Return an arrow's corners: straight where nothing stands between, else along the spaces between boxes."""
    if source.y == target.y:
        ends = (source.right, target.x) if source.x < target.x else (source.x, target.right)
        return [(end, source.y + _BOX / 2) for end in ends]
    x = (max(source.x, target.x) + min(source.right, target.right)) / 2
    over = max(source.x, target.x) < min(source.right, target.right)
    if over and not any(source.bottom < box.y < target.y and box.x < x < box.right for box in boxes):
        return [(x, source.bottom), (x, target.y)]
    to_right = target.middle > source.middle
    start, end = (source.right - 40, target.x + 40) if to_right else (source.x + 40, target.right - 40)
    top, bottom = source.bottom + _GAP / 2, target.y - _GAP / 2
    if top == bottom:
        return [(start, source.bottom), (start, top), (end, top), (end, target.y)]
    aisle = target.x - _COLUMN_GAP / 2 if to_right else target.right + _COLUMN_GAP / 2
    return [(start, source.bottom), (start, top), (aisle, top), (aisle, bottom), (end, bottom), (end, target.y)]


def _slabs(house: House, floor: Rect) -> Iterator[str]:
    """Yield train's layers, each of which imports from those below it."""
    layers, rooms = house.layers["train"], house.on("train")
    step = (floor.height - _HEAD - _PAD - _SLAB) / (len(layers) - 1)
    places = [Rect(floor.x + _PAD, floor.y + _HEAD + n * step, floor.width - 2 * _PAD, _SLAB) for n in range(len(layers))]
    layer_of = {name: number for number, layer in enumerate(layers) for name in layer}
    for a, b in sorted(reduced((str(layer_of[a]), str(layer_of[b])) for a, b in house.inside("train"))):
        yield arrow([(floor.middle, places[int(a)].bottom), (floor.middle, places[int(b)].y)], way=False)
    for layer, at in zip(layers, places, strict=True):
        verbs = [("verb", verb) for name in layer for verb in rooms[name].verbs]
        yield rectangle("box", at)
        lines = wrapped(", ".join(layer), at.width - 44)
        for number, line in enumerate(lines):
            yield words(at.x + 12, at.y + 32 - 8 * len(lines) + 15 * number, ("plain", line), *verbs)
        yield words(at.right - 10, at.y + 24, ("count", str(sum(rooms[name].num_modules for name in layer))))


def _chips(house: House, floor: Rect, plan: Plan) -> Iterator[str]:
    """Yield commbench's modules that lie there by themselves, in the order of their layers."""
    placed = {name for row in plan for name in row}
    x = floor.x + _PAD
    for name in (name for layer in house.layers["commbench"] for name in layer if name not in placed):
        at = Rect(x, floor.bottom - _PAD - _CHIP, len(name) * LETTER + 24, _CHIP)
        yield rectangle("box", at, radius=6)
        yield words(at.middle, at.y + 17, ("middle", name))
        x = at.right + 8


def _between(imports: Iterable[Edge], floors: Mapping[str, Rect]) -> Iterator[str]:
    """Yield one arrow for each pair of floors of which one imports the other."""
    edges = {(floor_of(a), floor_of(b)) for a, b in imports}
    for a, b in sorted(reduced(edge for edge in edges if edge[0] != edge[1])):
        source, target = floors[a], floors[b]
        x = (max(source.x, target.x) + min(source.right, target.right)) / 2
        yield arrow([(x, source.bottom), (x, target.y)], way=False)


def _legend(y: float) -> Iterator[str]:
    yield arrow([(_EDGE + _PAD, y - 4), (_EDGE + _PAD + 30, y - 4)], way=False)
    yield words(_EDGE + _PAD + 38, y, ("soft", "imports; left out where a longer way says it"))
    yield arrow([(366, y - 4), (396, y - 4)], way=True)
    yield words(404, y, ("soft", "the way of a prediction, read upwards"))
    yield words(664, y, ("verb", "verb"), ("soft", "that it answers"))
    yield words(_WIDTH - _EDGE - _PAD, y, ("count", "number of its modules: 7"))


if __name__ == "__main__":
    PICTURE.write_text(draw(read_house()))
