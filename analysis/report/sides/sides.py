"""Runs that are not one study's -> sides A, B, ... with what differs in set-up, and their steps and wires against A's.

Two runs answer the same question twice when they are of other models, on other wires or machines, or are two benches of as
many ranks: their numbers must not be pooled, only compared. Ratios are medians over medians; their intervals reach from one
median's lower end over the other's upper end to the reverse, so they are wider than 95 %.
"""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from commprof.analysis.report.numbers.data import Material, gather
from commprof.analysis.report.numbers.titles import ranks
from commprof.analysis.report.numbers.wire_curves import WireCurve, wire_curves
from commprof.analysis.report.sections.origin import facts
from commprof.analysis.runs.interval import Interval
from commprof.analysis.runs.load import Run, check_combinable, check_one_origin, load_cards, load_runs, select
from commprof.analysis.study.below import loose_experiments
from commprof.analysis.study.experiment import cells_of, is_grid
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import read_info
from commprof.commbench.records.training_kind import KIND_NAMES

LETTERS = "ABCDEF"
_MOST_GROUPS = 3  # of runs that belong together, to be named


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One folder that was named: a run, or a study with all its runs."""

    letter: str
    path: Path
    material: Material

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def curves(self) -> list[WireCurve]:
        return wire_curves(self.material)

    @property
    def trainings(self) -> dict[int, Run]:
        """The latest synchronised training run by world size."""
        return {run.world_size: run for run in select(self.material.runs, kind="train", synchronised=True)}

    @property
    def facts(self) -> dict[str, tuple[str, ...]]:
        """What decides how fast the side's runs are: name to values, each once."""
        found: dict[str, dict[str, None]] = {}
        for run in self.material.runs:
            for name, value in facts(run.info):
                found.setdefault(name, {})[value] = None
        return {name: tuple(values) for name, values in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A number of one side over A's, with the interval that the two medians' intervals leave."""

    value: float
    interval: Interval


def why_apart(paths: Sequence[Path]) -> str | None:
    """Say why the runs of these folders cannot be one study's; None where they can. Raises BadInput for what is no run."""
    studies = [path for path in dict.fromkeys(path.resolve() for path in paths) if read_info(path).kind == "study"]
    if len(studies) > 1:
        return f"{studies[0].name} and {studies[1].name} are both studies"
    runs = [load_cards([path]) for path in paths]
    together = load_cards(paths)
    try:
        check_combinable(together)
        check_one_origin([run for run in together if run.info.kind == "bench"])
    except BadInput as error:
        return str(error).partition("; ")[0]  # what follows tells how to combine them
    return next((reason for left, right in combinations(runs, 2) if (reason := _twice(left, right, together))), None)


def sides_of(paths: Sequence[Path], reason: str) -> tuple[Side, ...]:
    """Load each folder as a side; raise BadInput for more than six, and for one that is several experiments by itself."""
    folders = list(dict.fromkeys(path.resolve() for path in paths))
    if len(folders) > len(LETTERS):
        raise BadInput(f"{reason}; {len(LETTERS)} runs or studies can stand side by side, not {len(folders)}{_together(paths)}")
    sides = []
    for letter, path in zip(LETTERS, folders, strict=False):
        if _grid(path):
            raise BadInput(f"{path} holds several experiments and has a page of its own; name the runs in it to compare")
        sides.append(Side(letter=letter, path=path, material=gather([path])))
    return tuple(sides)


def _together(paths: Sequence[Path]) -> str:
    """Say what could be typed instead: the runs that belong together, experiment by experiment."""
    named = {path.resolve(): shlex.quote(str(path)) for path in paths if read_info(path).kind != "study"}
    experiments = loose_experiments(load_runs(list(named)), "") if named else []
    groups = [group for own in experiments for group in _by_strategy(own.runs) if len(group) > 1]
    told = sorted((group for group in groups if why_apart([run.path for run in group]) is None), key=len, reverse=True)
    commands = "; ".join(f"commprof report {' '.join(named[run.path] for run in group)}" for group in told[:_MOST_GROUPS])
    return f". What belongs together: {commands}" if commands else ""


def _by_strategy(runs: Sequence[Run]) -> list[list[Run]]:
    """Return the runs for each way in which several ranks shared the work, with all that is of none."""
    shared = [run for run in runs if run.info.kind == "train" and run.world_size > 1]
    ways = dict.fromkeys(map(_strategy, shared))
    groups = [[run for run in runs if run not in shared or _strategy(run) == way] for way in ways]
    return groups or [list(runs)]


def differences(sides: Sequence[Side]) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Return the facts in which the sides differ, and those they share: name to one text a side, "-" where it has none."""
    known = [side.facts for side in sides]
    names = dict.fromkeys(name for found in known for name in found)
    told = {name: tuple("; ".join(found.get(name, ("-",))) for found in known) for name in names}
    apart = {name: texts for name, texts in told.items() if len(set(texts)) > 1}
    return apart, {name: texts for name, texts in told.items() if name not in apart}


def ratio(value: tuple[float, Interval], base: tuple[float, Interval]) -> Ratio:
    """Return one median over another."""
    (own, spread), (other, reference) = value, base
    return Ratio(value=own / other, interval=Interval(low=spread.low / reference.high, high=spread.high / reference.low))


def common_ranks(sides: Sequence[Side]) -> list[int]:
    """Return the world sizes at which every side has trained, largest first, those at which ranks share cores last."""
    crowded = {n for side in sides for n in side.material.shared}
    return sorted(set.intersection(*(set(side.trainings) for side in sides)), key=lambda n: (n in crowded, -n))


def shared_curves(sides: Sequence[Side]) -> Iterator[tuple[int, list[WireCurve]]]:
    """Yield the world sizes that every side has benched with sizes in common, largest first, and the curves in order."""
    known = [{curve.world_size: curve for curve in side.curves} for side in sides]
    for n in sorted(set.intersection(*map(set, known)), reverse=True):
        curves = [found[n] for found in known]
        if common_sizes(curves):
            yield n, curves


def common_sizes(curves: Sequence[WireCurve]) -> list[int]:
    """Return the message sizes that all curves have."""
    return sorted(set.intersection(*(set(curve.message_bytes) for curve in curves)))


def _twice(left: Sequence[Run], right: Sequence[Run], together: Sequence[Run]) -> str | None:
    """Say what both folders answer: two benches or two trainings alone, or trainings on other machines or strategies."""
    if all(run.info.kind == "bench" for run in together):
        for one, other in _pairs(left, right):
            return f"{one.path} and {other.path} are both benches on {one.world_size} ranks"
    training = [[run for run in runs if run.synchronised] for runs in (left, right)]
    for one, other in _pairs(*training):
        if _machine(one) != _machine(other):
            return f"{one.path} and {other.path} ran the same training on different machines"
        if one.world_size > 1 and _strategy(one) != _strategy(other):
            return f"{one.path} ran as {_strategy(one)} and {other.path} as {_strategy(other)} on {one.world_size} ranks"
    if all(run.info.kind == "train" and run.synchronised for run in together):
        for one, other in _pairs(left, right):
            if _strategy(one) == _strategy(other):  # on one rank others are two profiles of one study
                return f"{one.path} and {other.path} are both trainings on {ranks(one.world_size)}, with no bench beside them"
    return None


def _pairs(left: Sequence[Run], right: Sequence[Run]) -> Iterator[tuple[Run, Run]]:
    return ((one, other) for one in left for other in right if one.world_size == other.world_size and one.path != other.path)


def _machine(run: Run) -> tuple[int, int, frozenset[str]]:
    return run.info.num_nodes, run.info.cores_per_node, frozenset(rank.device_name for rank in run.info.ranks)


def _strategy(run: Run) -> str:
    """Name how ranks share the work; DDP in records that are older than the name."""
    work = run.info.workload
    return KIND_NAMES["ddp" if work is None or work.kind is None else work.kind]


def _grid(path: Path) -> bool:
    return read_info(path).kind == "study" and is_grid(path, cells_of(load_cards([path])))
