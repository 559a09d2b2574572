"""What does training do on N ranks, from throughputs at a few other N alone? With 90 % intervals, or why nothing is said.

On a node with rows of one rank and another the overhead's mix of shapes answers (`from_one_rank`), anywhere else the power law
relative to the smallest row (`relative`).
"""

from collections.abc import Sequence

from commprof.analysis.runs.interval import Interval
from commprof.analysis.scaling.decision import Candidate, Decision, decide
from commprof.analysis.scaling.from_one_rank import from_one_rank, law_values, overheads
from commprof.analysis.scaling.next_row import best_next
from commprof.analysis.scaling.overhead_mix import PRIOR, mixed
from commprof.analysis.scaling.power_law import ALONE, Pool
from commprof.analysis.scaling.relative import Relative, others_of, relative, with_nodes
from commprof.analysis.scaling.results import Extrapolated, Extrapolation, Refused
from commprof.analysis.scaling.series import Series
from commprof.analysis.scaling.speedup import NOISE, ScalingKind
from commprof.commbench.errors import UnusableData

_SAME_BATCH = 1.02  # what rounding to whole samples leaves


def extrapolate_all(
    table: Sequence[Series],
    targets: Sequence[int],
    *,
    scaling: ScalingKind,
    anchors: Sequence[int] = (),
    name: str = "table",
    by_machine: bool | None = None,
) -> list[Extrapolation | Refused]:
    """Say what every series of a table does at `targets`, or why it tells nothing; raise UnusableData where none does.

    Series of one machine tell each other what the hop between nodes costs, unless `by_machine` is False; where it is True they
    must name their machine.
    """
    if by_machine and not any(one.machine for one in table):
        raise UnusableData(f"{name}: no series names its machine; add a column machine")
    alone = by_machine is False
    series = list(table) if alone else with_nodes(table)
    machines = [ALONE] * len(series) if alone else others_of(series, scaling)
    told = [_told(one, targets, scaling, anchors, machine) for one, machine in zip(series, machines, strict=True)]
    refused = [one for one in told if isinstance(one, Refused)]
    if len(refused) == len(told):
        which = f", series {refused[0].series}" if refused[0].series else ""
        raise UnusableData(f"{name}{which}: {refused[0].reason}")
    return told


def _told(
    series: Series, targets: Sequence[int], scaling: ScalingKind, anchors: Sequence[int], machine: Pool
) -> Extrapolation | Refused:
    try:
        return extrapolate(series, targets, scaling=scaling, anchors=anchors, machine=machine)
    except UnusableData as error:
        return Refused(series=series.name, reason=str(error))


def extrapolate(
    series: Series,
    targets: Sequence[int],
    *,
    scaling: ScalingKind,
    anchors: Sequence[int] = (),
    machine: Pool = ALONE,
) -> Extrapolation:
    """Say what a series does at `targets`, from its other points or from `anchors`; `machine` tells how others there grow.

    Raises UnusableData where fewer than two rows tell, or where all targets lie below them.
    """
    used = _anchors(series, targets, anchors)
    _check_batches(series, used, scaling)
    ways = _Ways(series, used, scaling, machine)
    predictions = tuple(ways.predicted(n) for n in targets)
    on_node = [n for n in targets if ways.by_mix(n)]
    told = [one.world_size for one in predictions if one.value is not None]  # a law alone would tell what is withheld
    if len(on_node) == len(targets):  # another wire's rows say nothing here
        used = ways.on_node
    return Extrapolation(
        series=series.name,
        measure=series.measure,
        scaling=scaling,
        interconnect=series.interconnect,
        base=min(used),
        anchors={n: series.values[n] for n in used},
        mix=ways.shares() if on_node else {},
        growth=ways.growth() if len(on_node) < len(targets) else {},
        predictions=predictions,
        laws=law_values(series, ways.on_node if on_node else used, [n for n in on_node or targets if n in told], scaling),
        next_row=best_next(
            series, used, predictions, scaling, lambda rows, n: _Ways(rows, list(rows.values), scaling, machine).predicted(n)
        ),
    )


def decide_extrapolated(one: Extrapolation) -> Decision:
    """Decide on the rows and on what was asked for; a row, one run without a spread, is known as well as two runs agree."""
    asked = {p.world_size: p for p in one.predictions}
    rows = {n: value for n, value in one.anchors.items() if n not in asked}
    rows |= {n: p.measured for n, p in asked.items() if p.measured is not None}
    candidates = [_candidate(one, n, rows.get(n), asked.get(n)) for n in sorted({*rows, *asked} - {one.base})]
    return decide(candidates, one.base)


def _candidate(one: Extrapolation, world_size: int, measured: float | None, asked: Extrapolated | None) -> Candidate:
    predicted, interval = (None, None) if asked is None else (asked.speedup, one.speedup_interval(asked))
    if measured is None:
        reason = "" if asked is None else asked.withheld_because
        return Candidate(
            world_size=world_size, speedup=predicted, within=interval, predicted=predicted, interval=interval, unknown=reason
        )
    speedup = one.speedup_of(world_size, measured)
    within = Interval(low=speedup / NOISE, high=speedup * NOISE)
    return Candidate(
        world_size=world_size, speedup=speedup, within=within, measured=True, predicted=predicted, interval=interval
    )


class _Ways:
    """The mix for the node, where one rank and another are there, and the power law for the rest."""

    def __init__(self, series: Series, used: Sequence[int], scaling: ScalingKind, machine: Pool) -> None:
        self.series, self.scaling = series, scaling
        self.on_node = [n for n in used if not series.across_nodes(n)]
        self.eps = overheads(series, self.on_node, scaling) if 1 in used else {}
        self._mix = mixed(self.eps, PRIOR) if self.eps else None
        above = [n for n in used if n > 1] or used
        self._relative: Relative = relative(series, above, scaling, machine, base=min(used))

    def by_mix(self, world_size: int) -> bool:
        return bool(self.eps) and not self.series.across_nodes(world_size)

    def predicted(self, world_size: int) -> Extrapolated:
        if self._mix and self.by_mix(world_size):
            return from_one_rank(self.series, world_size, self._mix, self.eps, self.scaling)
        return self._relative.predicted(world_size)

    def shares(self) -> dict[str, float]:
        assert self._mix, "one rank and another are there"
        return dict(zip(("constant", "ring_bandwidth", "further_ranks"), self._mix.coefficients, strict=True))

    def growth(self) -> dict[str, float]:
        found = self._relative.growth
        return {"inside": found.inside.value, "across": found.across.value}


def _check_batches(series: Series, rows: Sequence[int], scaling: ScalingKind) -> None:
    """Raise UnusableData where the table's batches say that steps of these rows do not compare under this scaling."""
    told = {n: series.batches[n] / (n if scaling == "weak" else 1) for n in rows if n in series.batches}
    if series.measure != "step_s" or not told or max(told.values()) <= _SAME_BATCH * min(told.values()):
        return
    of, mend = ("a rank", "strong") if scaling == "weak" else ("all ranks", "weak")
    ends = f"{told[min(told)]:g} on {min(told)} ranks and {told[max(told)]:g} on {max(told)}"
    raise UnusableData(f"the batch of {of} is {ends}: steps do not compare so; try --scaling {mend}, or give throughputs")


def _anchors(series: Series, targets: Sequence[int], wanted: Sequence[int]) -> list[int]:
    if series.fault:
        raise UnusableData(series.fault)
    missing = [n for n in wanted if n not in series.values]
    if missing:
        raise UnusableData(f"--anchors {missing[0]}: no such row; it has {', '.join(map(str, series.values))} ranks")
    used = sorted(set(wanted)) or [n for n in series.values if n not in targets]
    if not used:
        raise UnusableData("every row is asked for, and none is left to start from; leave two out of --world-sizes")
    if len(used) < 2:
        ranks = "1 rank" if used == [1] else f"{used[0]} ranks"
        mend = "name a second" if wanted else "add a second, or leave one out of --world-sizes"
        raise UnusableData(f"a row of {ranks} alone tells nothing of others; {mend}")
    node = series.ranks_per_node
    if spare := next((n for n in used if node is not None and n > node and n % node), None):
        mend = "give the ranks on a node, or leave that row out (--anchors)"
        raise UnusableData(f"{spare} ranks do not fill nodes of {node}; {mend}")
    if max(targets) < used[0]:
        raise UnusableData(f"--world-sizes {max(targets)}: below the smallest row, {used[0]} ranks; add a row of fewer ranks")
    on_node = [n for n in used if not series.across_nodes(n)]
    if on_node == [1] and not series.across_nodes(max(targets)):
        raise UnusableData(f"1 rank alone of a node of {series.ranks_per_node} tells no overhead; add a row of 2 ranks")
    return used
