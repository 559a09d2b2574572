"""Does a file keep to the Chrome trace format, as strictly as Perfetto reads it? Asserts; times in nanoseconds."""

import gzip
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Event = dict[str, Any]
Span = tuple[int, int]
_FIELDS = {
    "M": {"name", "pid", "args"},
    "X": {"name", "cat", "pid", "tid", "ts", "dur", "args"},
    "s": {"name", "cat", "id", "pid", "tid", "ts"},
    "f": {"name", "cat", "id", "pid", "tid", "ts", "bp"},
}
_METADATA = {"process_name", "process_sort_index", "thread_name", "thread_sort_index"}


def read_events(path: Path) -> list[Event]:
    """Read a file whose text has no byte that Perfetto's reader takes for the end of it."""
    packed = path.read_bytes()
    text = gzip.decompress(packed) if path.name.endswith(".gz") else packed
    assert not set(text) & {*range(10), *range(11, 32), 127}
    return list(json.loads(text)["traceEvents"])


def check_events(events: Iterable[Event]) -> None:
    """Assert that fields are there, tracks have names, slices nest, and arrows bind to slices in the direction meant."""
    named: dict[str, set[tuple[int, ...]]] = defaultdict(set)
    tracks: dict[tuple[int, int], list[Span]] = defaultdict(list)
    arrows: dict[tuple[str, str, int], list[Event]] = defaultdict(list)
    for own in events:
        assert own.keys() - {"ph", "tid"} == _FIELDS[own["ph"]] - {"tid"}
        assert own["pid"] > 0
        if own["ph"] == "M":
            assert own["name"] in _METADATA
            named[own["name"]].add((own["pid"], *([own["tid"]] if "tid" in own else [])))
        elif own["ph"] == "X":
            tracks[own["pid"], own["tid"]].append(span(own))
        else:
            arrows[own["cat"], own["name"], own["id"]].append(own)
    assert named["thread_name"] == named["thread_sort_index"] == set(tracks)
    assert {(pid,) for pid, _ in tracks} <= named["process_name"] == named["process_sort_index"]
    assert len({tid for _, tid in tracks}) == len(tracks), "thread ids are told apart without their process in places"
    for spans in tracks.values():
        _check_nesting(spans)
    for ends in arrows.values():
        _check_arrow(ends, tracks)


def _check_nesting(spans: list[Span]) -> None:
    open_ends: list[int] = []
    for start, end in sorted(spans, key=lambda own: (own[0], -own[1])):
        while open_ends and open_ends[-1] <= start:
            open_ends.pop()
        assert not open_ends or end <= open_ends[-1]
        open_ends.append(end)


def _check_arrow(ends: list[Event], tracks: dict[tuple[int, int], list[Span]]) -> None:
    start, end = ends
    assert (start["ph"], end["ph"], end["bp"]) == ("s", "f", "e")
    assert start["ts"] <= end["ts"]
    assert start["pid"] != end["pid"]
    inner = [_innermost(tracks[own["pid"], own["tid"]], _ns(own["ts"])) for own in ends]
    assert inner[0] <= inner[1], "Perfetto would turn it round"


def _innermost(spans: list[Span], at: int) -> int:
    """When the innermost slice that holds this instant starts."""
    return max(start for start, end in spans if start <= at < end)


def span(own: Event) -> Span:
    start, length = _ns(own["ts"]), _ns(own["dur"])
    return start, start + length


def _ns(us: float) -> int:
    found = round(us * 1000)
    assert found >= 0
    assert us == found / 1000, "three decimals"
    return found


def on_track(events: Iterable[Event], process: str, track: str) -> list[Event]:
    """The slices of a named track of a named process."""
    events = list(events)
    names = {(own["name"], own["pid"], own.get("tid")): own["args"] for own in events if own["ph"] == "M"}
    return [
        own
        for own in events
        if own["ph"] == "X"
        and names["process_name", own["pid"], None]["name"] == process
        and names["thread_name", own["pid"], own["tid"]]["name"] == track
    ]


def check_sums(events: list[Event], *, within_ns: int = 0, within: float = 0.0) -> None:
    """Assert that in every step exposed and hidden slices add up to the step's budget.

    Slices are drawn by the first rank's clock, budgets are by each rank's own: a share `within` is for a rate between them.
    """
    slices: dict[tuple[int, str], list[Span]] = defaultdict(list)
    for own in events:
        if own["ph"] == "X" and own["cat"] in ("transfer", "waiting"):
            slices[own["pid"], own["name"]].append(span(own))
    steps = [own for own in events if own["ph"] == "X" and own["cat"] == "step"]
    assert steps
    for step in steps:
        low, high = span(step)
        for part in ("exposed waiting", "hidden waiting", "exposed transfer", "hidden transfer"):
            found = sum(max(0, min(end, high) - max(start, low)) for start, end in slices[step["pid"], part])
            budget = step["args"]["_".join(part.split()[::-1]) + "_us"]
            assert abs(found - _ns(budget)) <= within_ns + within * found, (step["name"], part)
