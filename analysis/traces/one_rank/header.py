"""What does a trace say about itself, around its events? Rank, world, backend, host, the beginning of its clock, the device."""

from dataclasses import dataclass
from typing import Any

import msgspec

from commprof.analysis.traces.one_rank.events import cleaned

_MAX_BASE_NS = 4 * 10**18
MAX_RANKS = 2**20
_MAX_DEVICES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceHeader:
    """What the trace says about itself; None where it does not. `base_ns` is when its clock began, since 1970.

    `has_subgroups` says that it names a process group that leaves ranks out, `group_size` how many ranks each of its groups has
    where all have as many. `device` is the model of the accelerators, all models where there are several.
    """

    rank: int | None = None
    world_size: int | None = None
    backend: str | None = None
    host_name: str | None = None
    base_ns: int | None = None
    has_subgroups: bool = False
    group_size: int | None = None
    device: str | None = None


def header_of(texts: list[bytes]) -> TraceHeader:
    """Return what the JSON objects around the events say, each with an empty list of events."""
    found: dict[str, Any] = {}
    for text in texts:
        found |= fields(text)
    own = found.get("distributedInfo")
    own = own if isinstance(own, dict) else {}
    world_size = _count(own.get("world_size"), MAX_RANKS)
    groups = own.get("pg_config")
    sizes = {_size_of(group) for group in groups} if isinstance(groups, list) else set()
    return TraceHeader(
        rank=_count(own.get("rank"), MAX_RANKS),
        world_size=world_size,
        backend=_word(own.get("backend")),
        host_name=_word(found.get("host_name")),
        base_ns=_count(found.get("baseTimeNanoseconds"), _MAX_BASE_NS),
        has_subgroups=world_size is not None and any(size is not None and 0 < size < world_size for size in sizes),
        group_size=next(iter(sizes)) if len(sizes) == 1 else None,
        device=_device(found.get("deviceProperties")),
    )


def _device(properties: object) -> str | None:
    """Return the model of the trace's accelerators; of several models all."""
    devices = properties[:_MAX_DEVICES] if isinstance(properties, list) else []
    names = {_word(own.get("name")) for own in devices if isinstance(own, dict)} - {None, ""}
    return _word(", ".join(sorted(map(str, names)))) or None


def _size_of(group: object) -> int | None:
    return _count(group.get("pg_size"), MAX_RANKS) if isinstance(group, dict) else None


def fields(text: bytes) -> dict[str, Any]:
    """Return the fields around the events. Broken ones cost the rank's name, not the events, and the doctor says so."""
    try:
        return msgspec.json.decode(cleaned(text), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return {}


def _count(value: object, below: int) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < below else None


def _word(value: object) -> str | None:
    return value[:200] if isinstance(value, str) else None
