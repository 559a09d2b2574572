"""Does this run pass? Thresholds, a baseline, and every rule that finds fault with a measurement or its machine.

A rule speaks only where there is evidence. It fails a run, notes something worth reading, or says why it could not judge.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Literal

from commprof.analysis.health.baseline import compare
from commprof.analysis.health.disturbance import disturbance
from commprof.analysis.health.evidence import Evidence, Series, load_evidence, series_of
from commprof.analysis.health.hosts import hosts
from commprof.analysis.health.links.bandwidth import bandwidth
from commprof.analysis.health.links.stated import StatedLink
from commprof.analysis.health.machine import machine_health
from commprof.analysis.health.results import Verdict
from commprof.analysis.health.run_health import health
from commprof.analysis.health.stability import stability
from commprof.analysis.runs.load import Run
from commprof.commbench.errors import BadInput
from commprof.commbench.records.types import CollectiveMeasurement
from commprof.commbench.units import format_bytes, format_rate, format_seconds

TOLERANCE = 0.05  # of a comparison with a baseline
_NEAREST = 1.5  # a size this far off still answers for the one asked: less than one step of a sweep by factor 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """What the user wants held. `at_bytes` None: the largest size for bandwidth, the smallest for latency."""

    min_busbw_bytes_per_s: float | None = None
    max_latency_s: float | None = None
    at_bytes: int | None = None
    op: str | None = None
    mode: Literal["isolated", "pipelined"] | None = None
    in_place: bool | None = None


def check_run(
    evidence: Evidence, demands: Demands, baseline: Evidence | None, tolerance: float, link: StatedLink | None = None
) -> list[Verdict]:
    """Return every verdict on a run, failures first; raise BadInput where a demand or the baseline does not fit the run.

    `link` is what somebody says lies between its ranks.
    """
    verdicts = [
        *disturbance(evidence),
        *demanded(evidence, demands),
        *bandwidth(evidence, link),
        *(compare(evidence, baseline, tolerance) if baseline is not None else []),
        *health(evidence),
        *hosts(evidence),
        *stability(evidence),
        *machine_health(evidence),
    ]
    return sorted(verdicts, key=lambda verdict: verdict.rank)


def check_runs(
    runs: Sequence[Run],
    demands: Demands,
    *,
    baseline: Sequence[Run] = (),
    tolerance: float = TOLERANCE,
    link: StatedLink | None = None,
) -> list[Verdict]:
    """Judge every bench and link run among `runs`, failures first; `baseline` is one bench, or none; `link` joins the ranks.

    Raises BadInput where there is nothing to judge, or a demand or the baseline does not fit.
    """
    evidence, before = bench_evidence(runs), bench_evidence(baseline) if baseline else []
    if len(before) > 1:
        raise BadInput(f"--baseline {before[0].run.path.parent} holds {len(before)} bench runs; name one of them")
    verdicts = [
        replace(verdict, name=f"{one.name}: {verdict.name}") if len(evidence) > 1 else verdict
        for one in evidence
        for verdict in check_run(one, demands, before[0] if before else None, tolerance, link)
    ]
    return sorted(verdicts, key=lambda verdict: verdict.rank)


def bench_evidence(runs: Sequence[Run]) -> list[Evidence]:
    """Return what there is to judge; raise BadInput for none."""
    evidence = [load_evidence(run) for run in runs if run.info.kind in ("bench", "links")]
    if not evidence:
        names = ", ".join(str(run.path) for run in runs)
        raise BadInput(f"no bench run among {names}; make one with commprof bench --nproc 2")
    return evidence


def demanded(evidence: Evidence, demands: Demands) -> Iterator[Verdict]:
    """Yield a verdict for each threshold."""
    least, most = demands.min_busbw_bytes_per_s, demands.max_latency_s
    if least is None and most is None:
        return
    series, sizes = _chosen_series(evidence, demands)
    if least is not None:
        m = _at(evidence, sizes, demands.at_bytes or sizes[-1].message_bytes)
        where = f"at {format_bytes(m.message_bytes)} ({series.label}, {series.world_size} ranks)"
        yield Verdict(
            name="min-busbw",
            ok=m.busbw_bytes_per_s >= least,
            measured=m.busbw_bytes_per_s,
            limit=least,
            unit="B/s",
            message=f"busbw is {format_rate(m.busbw_bytes_per_s)} {where}, demanded {format_rate(least)}",
        )
    if most is not None:
        m = _at(evidence, sizes, demands.at_bytes or sizes[0].message_bytes)
        where = f"at {format_bytes(m.message_bytes)} ({series.label}, {series.world_size} ranks)"
        yield Verdict(
            name="max-latency",
            ok=m.median_s <= most,
            measured=m.median_s,
            limit=most,
            unit="s",
            message=f"the median is {format_seconds(m.median_s)} {where}, allowed {format_seconds(most)}",
        )


def _chosen_series(evidence: Evidence, demands: Demands) -> tuple[Series, Sequence[CollectiveMeasurement]]:
    """Take what was asked for; where nothing was, the all-reduce as isolated calls in place, else what is there."""
    grouped = series_of(evidence.run.collectives)
    fitting = [
        series
        for series in grouped
        if demands.op in (None, series.op)
        and demands.mode in (None, series.mode)
        and demands.in_place in (None, series.in_place)
    ]
    if not fitting:
        there = "; ".join(series.label for series in grouped) or "no collective"
        raise BadInput(f"{evidence.run.path} has nothing measured that --op, --mode and --placement ask for, only: {there}")
    ops = sorted({series.op for series in fitting})
    if len(ops) > 1 and "all_reduce" not in ops:
        raise BadInput(f"{evidence.run.path} holds {', '.join(ops)}; choose one with --op")
    op = "all_reduce" if "all_reduce" in ops else ops[0]
    series = min((series for series in fitting if series.op == op), key=_unusual)
    return series, grouped[series]


def _unusual(series: Series) -> tuple[bool, ...]:
    ordinary = series.dtype == "float32", series.reduction in (None, "sum"), series.hot, not series.cuda_graph
    return series.mode != "isolated", not series.in_place, *(not usual for usual in ordinary)


def _at(evidence: Evidence, sizes: Sequence[CollectiveMeasurement], wanted: int) -> CollectiveMeasurement:
    nearest = min(sizes, key=lambda m: abs(log(m.message_bytes / wanted)))
    if abs(log(nearest.message_bytes / wanted)) > log(_NEAREST):
        measured = ", ".join(format_bytes(m.message_bytes) for m in sizes)
        raise BadInput(f"{evidence.run.path} measured no size within {_NEAREST}x of {format_bytes(wanted)}, only {measured}")
    return nearest
