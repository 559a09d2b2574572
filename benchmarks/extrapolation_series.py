"""Which series of a published table are clean, and which number is to be told from which others in them?

A table has one row a measurement: group_id, source, model, interconnect, nodes, n_gpus, throughput, notes, flag. Left out are
rows whose flag or notes say that more than the number of ranks changes, and links marked as suspect.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from commprof.analysis.scaling.from_one_rank import boundaries, overheads
from commprof.analysis.scaling.series import Interconnect, Series
from commprof.analysis.scaling.table import interconnect_of

SPLITS = (((1, 2), (4, 8, 16)), ((1, 2, 4), (8, 16)))
KINDS: tuple[Interconnect, ...] = ("nvlink", "pcie")
FURTHER = (((1, 4), (8, 16)), ((1, 4, 8), (16,)), ((1, 8), (16,)))  # for the intervals alone
_FLAGS = re.compile(r"batch_changes|superlinear")
_NOTES = re.compile(r"strong|accumulation|relative to 1 node")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One number to predict: eps at `target` from `eps` at the anchors."""

    series: str
    model: str
    source: str
    publisher: str
    kind: Interconnect
    anchors: tuple[int, ...]
    target: int
    eps: dict[int, float]
    true: float
    withheld: bool


def source_of(text: str) -> str:
    """Return what a series is held out with: a README, or a card whatever the machine and the precision."""
    if card := re.search(r"\[(?:\d+x )?(.*)\]", text):
        return re.sub(r"RTX |\d+GB| NVLink| SXM4| PCIe", "", card[1]).strip()
    return text.split("#")[0]


def not_clean(row: Mapping[str, str]) -> bool:
    """Tell whether something beside the number of ranks changes in a row's series, or its link is in doubt."""
    return bool(_FLAGS.search(row["flag"]) or _NOTES.search(row["notes"])) or "suspect" in row["interconnect"].lower()


def read_cases(table: Path) -> list[Case]:
    """Read the clean series of a table."""
    groups: dict[str, list[dict[str, str]]] = defaultdict(list)
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            if not not_clean(row) and row["nodes"] in ("", "1"):
                groups[row["group_id"]].append(row)
    return [case for name, rows in groups.items() for case in _cases(name, rows)]


def _cases(name: str, rows: Sequence[dict[str, str]]) -> Iterator[Case]:
    kind = interconnect_of(rows[0]["interconnect"])
    values = {int(row["n_gpus"]): float(row["throughput"]) for row in rows}
    series = Series(name=name, measure="throughput", values=values, interconnect=kind)
    for anchors, targets in (*SPLITS, *FURTHER):
        if kind not in KINDS or not set(anchors) <= values.keys():
            continue
        eps = overheads(series, anchors, "weak")
        for target in targets:
            if target in values:
                yield Case(
                    series=name,
                    model=rows[0]["model"],
                    source=source_of(rows[0]["source"]),
                    publisher=rows[0]["source"].split("/")[0],
                    kind=kind,
                    anchors=anchors,
                    target=target,
                    eps=eps,
                    true=overheads(series, [target], "weak")[target],
                    withheld=bool(boundaries(series, target, eps)),
                )
