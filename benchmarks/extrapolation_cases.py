"""Which numbers of ranks can be told from which rows of published series, and by how much do plain laws miss them?

Series are cut after each of their rows, and a row between two is left out; a source, a repository or a README, stands for a
machine, and those of its series that are split alike help each other. Used by benchmarks/extrapolation_relative.py.
"""

import csv
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import numpy as np

from benchmarks.extrapolation import ERRATIC
from benchmarks.extrapolation_series import not_clean, source_of
from commprof.analysis.scaling.laws import Floats
from commprof.analysis.scaling.power_law import ALONE, GROWTH, Growth, GrowthPrior, Pool, Reach, growth, told_beyond
from commprof.analysis.scaling.table import interconnect_of, read_series


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A series, the source it is held out with, and the rank seconds a unit of work by N, one GPU left out."""

    name: str
    source: str
    table: str
    ranks_per_node: int
    costs: dict[int, float]
    split: str = ""

    @property
    def machine(self) -> tuple[str, int, str]:
        """Return what it shares with the series that help it."""
        return self.source, self.ranks_per_node, self.split


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One number to predict from some rows of a series; `asked` unless it is there for the interval alone."""

    series: Published
    rows: tuple[int, ...]
    target: int
    reach: Reach
    asked: bool
    machine: Pool = ALONE

    @property
    def true(self) -> float:
        return math.log(self.series.costs[self.target])

    def growth(self, prior: GrowthPrior) -> Growth:
        return growth({n: self.series.costs[n] for n in self.rows}, self.series.ranks_per_node, prior, self.machine)


def read_published(table: Path) -> tuple[list[Published], Counter[str]]:
    """Read the series with two rows beside one GPU's, as `commprof extrapolate` reads them; count the reasons of others."""
    with table.open(newline="") as file:
        sources = {row["series"]: row["source"] for row in csv.DictReader(file)}
    found, left = [], Counter[str]()
    for (name, source), series in zip(sources.items(), read_series(table), strict=True):
        costs = {n: series.cost(n, "weak") for n in series.values if n > 1}
        if series.fault or len(costs) < 2:
            left["repeats that are none, or cells left empty" if series.fault else "one row"] += 1
            continue
        found.append(
            Published(
                name=name,
                source=_short(source),
                table=table.name,
                ranks_per_node=series.ranks_per_node or 8,
                costs=costs,
                split=series.split,
            )
        )
    return found, left


def read_scaling(table: Path) -> list[Published]:
    """Read the series over several nodes, and those of a node on NVLink."""
    groups: dict[str, list[dict[str, str]]] = defaultdict(list)
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            groups[row["group_id"]].append(row)
    return [one for name, rows in groups.items() if (one := _series(name, rows, table.name))]


def _series(name: str, rows: Sequence[dict[str, str]], table: str) -> Published | None:
    nodes = {int(row["n_gpus"]): int(row["nodes"] or 1) for row in rows}
    costs = {int(row["n_gpus"]): int(row["n_gpus"]) / float(row["throughput"]) for row in rows if row["n_gpus"] != "1"}
    over = [-(-n // k) for n, k in nodes.items() if k > 1]
    dirty = any(not_clean(row) for row in rows) or rows[0]["model"] == ERRATIC
    if not over and (dirty or interconnect_of(rows[0]["interconnect"]) != "nvlink"):
        return None
    return Published(
        name=name, source=_short(rows[0]["source"]), table=table, ranks_per_node=min(over, default=max(nodes)),
        costs=dict(sorted(costs.items())),
    )  # fmt: skip


def _short(source: str) -> str:
    for name in ("DLPerf", "KempnerForge", "llm-foundry", "libai", "litgpt"):
        if name in source:
            return name
    return "pytorch#17159" if "17159" in source else source_of(source).split(":")[-1].removesuffix("/README.md")


def cases_of(every: Sequence[Published]) -> Iterator[Case]:
    """Return the cases of all series; a source stands for a machine, and those of its series with rows beyond a node help."""
    for series in every:
        fellows = [one for one in every if one.machine == series.machine]
        told = [told_beyond(one.costs, one.ranks_per_node) for one in fellows if one is not series]
        machine = reduce(lambda pool, own: pool.plus(own), (own for own in told if own is not None), ALONE)
        for case in _cut(series):
            if case.growth(GROWTH).apart:
                continue  # such rows get a reason in place of an answer
            yield case
            beside = replace(case, machine=machine)
            if (reach := beside.growth(GROWTH).at(case.target).reach) != case.reach:
                yield replace(beside, reach=reach)


def _cut(series: Published) -> Iterator[Case]:
    """Cut a series after each of its rows; leave out each row between two."""
    ranks = sorted(series.costs)
    node = series.ranks_per_node
    for rows, target in ((tuple(ranks[:cut]), target) for cut in range(1, len(ranks)) for target in ranks[cut:]):
        reach: Reach = "inside" if target <= node else "across" if rows[-1] > node else "hop"
        if len(rows) > 1 or (reach == "hop" and rows[-1] == node):
            yield Case(series=series, rows=rows, target=target, reach=reach, asked=len(rows) > 1)
    for below, target, above in zip(ranks, ranks[1:], ranks[2:], strict=False):
        yield Case(series=series, rows=(below, above), target=target, reach="between", asked=True)


def errors(cases: Sequence[Case], told: Floats) -> Floats:
    """Return |predicted - measured| / measured of the throughput; the last axis is that of the cases."""
    true = np.array([case.true for case in cases])
    return np.asarray(np.abs(np.exp(true - told) - 1), dtype=np.float64)


def stays(case: Case) -> float:
    return math.log(case.series.costs[max(n for n in case.rows if n < case.target)])


def line(case: Case) -> float:
    if len(case.rows) == 1:
        return stays(case)
    slope, start = np.polyfit(np.log2(case.rows), [math.log(case.series.costs[n]) for n in case.rows], 1)
    return float(start + slope * math.log2(case.target))
