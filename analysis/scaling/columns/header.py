"""Which column of a table has what? Its ranks and nodes, what was measured."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from commprof.analysis.scaling.columns.measures import Meaning, Unclear, meaning_of, plain
from commprof.analysis.scaling.columns.numbers import number_of
from commprof.commbench.errors import BadInput

_SHOWN = 60  # characters of a name
MOST_COLUMNS = 1000
_COUNT = r"(?:#|no\.?|number of|num|nr|n|total|count of) ?"
_ROLES: Mapping[str, tuple[str, ...]] = {  # of several columns that fit, one of the first pattern
    "ranks": (
        rf"{_COUNT}(?:{_COUNT})?(?:gpus?|ranks|devices|accelerators|processes)|gpus? count",
        "world ?size", r"nodes ?[x\u00d7] ?gpus|gpus ?[x\u00d7] ?nodes",
        "gpus|ranks|devices|accelerators|processes", "n|np|nproc",
    ),
    "nodes": (rf"(?:{_COUNT})?(?:nodes|hosts)|nnodes|node count",),
    "gpus_per_node": (rf"(?:{_COUNT})?(?:gpus?|ranks|devices|processes|tasks|nproc)/(?:node|host)|ppn",),
    "series": ("series", "group id"),
    "machine": ("machine", "cluster", "system"),
    "gpu": ("gpu", "gpu type", "gpu model", "card", "accelerator"),
    "interconnect": ("interconnect", "network"),
    "split": ("parallelism", "parallel strategy|parallelism strategy|strategy"),
    "unit": ("unit", "units"),
    "metric": ("metric",),
    "value": ("value",),
    "batch": (r"(?:global|total) batch(?: ?size)?|batch ?size \(?global\)?|gbs",),
    "batch_per_rank": (r"(?:local )?batch(?: ?size)?/gpu|/gpu batch(?: ?size)?",),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which column has what; `measured` is one of its own, None where a column metric tells in each row."""

    where: Mapping[str, int]
    measured: Meaning | None
    measured_name: str

    def named(self, cells: Sequence[str]) -> dict[str, str]:
        """Return the cells of a line by what they are, "" where the line ends before."""
        return {role: cells[index] if index < len(cells) else "" for role, index in self.where.items()}


def columns_of(header: Sequence[str], line: int) -> Columns:
    """Return where each known column is and what was measured; raise BadInput naming what is missing."""
    header = header[:MOST_COLUMNS]
    words = [plain(name)[0] for name in header]
    meanings = {index: told for index, name in enumerate(header) if (told := meaning_of(name)) is not None}
    where = {role: index for role, patterns in _ROLES.items() if (index := _first(words, patterns)) is not None}
    if twice := next((words[i] for i in {*where.values(), *meanings} if words.count(words[i]) > 1), None):
        raise BadInput(f"line {line}: several columns {twice.replace(' ', '_')[:_SHOWN]}; keep one")
    _check_ranks(where, header, line)
    usable = {index: told for index, told in meanings.items() if isinstance(told, Meaning)}
    if usable:
        return _of_its_own(usable, where, header)
    if not {"metric", "value"} <= where.keys():
        unclear = next((told.reason for told in meanings.values() if isinstance(told, Unclear)), None)
        raise BadInput(
            f"line {line}: {unclear or 'nothing measured; name a column throughput (over all ranks), step_s or step_ms'}"
        )
    return Columns(where=where, measured=None, measured_name="")


def _of_its_own(usable: Mapping[int, Meaning], where: Mapping[str, int], header: Sequence[str]) -> Columns:
    index = min(usable, key=lambda each: (usable[each].order, each))
    kept = {role: place for role, place in where.items() if role not in ("metric", "value")} | {"value": index}
    beside = next((place for place, told in usable.items() if told.measure == "throughput_per_rank"), None)
    if beside is not None and usable[index].measure == "throughput":
        kept["of_one_rank"] = beside
    return Columns(where=kept, measured=usable[index], measured_name=header[index])


def _first(words: Sequence[str], patterns: Sequence[str]) -> int | None:
    return next((i for pattern in patterns for i, name in enumerate(words) if re.fullmatch(pattern, name)), None)


def _check_ranks(where: Mapping[str, int], header: Sequence[str], line: int) -> None:
    if "ranks" in where and sum(number_of(name, False) is not None for name in header) > 1:
        raise BadInput(f"line {line}: numbers in the header; give a line for each number of ranks, not a column")
    if "ranks" in where or {"nodes", "gpus_per_node"} <= where.keys():
        return
    if "nodes" in where:
        raise BadInput(f"line {line}: nodes, but not how many ranks each has; add a column gpus_per_node")
    raise BadInput(f"line {line}: no column of ranks; name one n_gpus or world_size")
