"""What kinds of kernels does a step hold, why was the host late, and how far was it ahead?

    kinds        durations of kernels added up by kind; streams run at once, so they may add up to more than the step
    idle         the budget's launch idle: data loading, gaps that begin while the host waits for the GPU, else a busy host
    modules      what computation and copies were launched for, each without the modules within it
    queue depth  launched GPU events that have not begun, mean over the step: their waits added up / the step (Little)

Medians over steps of the mean over ranks, as of a step's parts; of modules means over steps and ranks.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from commprof.analysis.traces.one_rank.rank_trace import RankTrace
from commprof.analysis.traces.one_rank.spans import lengths_within_ns
from commprof.analysis.traces.one_rank.steps import NO_STEP
from commprof.analysis.traces.one_rank.work.kinds import KINDS

IDLE_CAUSES = ("host_busy", "synchronisation", "data_loading")


@dataclass(frozen=True, slots=True, kw_only=True)
class KindSummary:
    """Kernels of one kind: how many a step, their time, and its share of all kernels' and copies' time."""

    kind: str
    count: float
    total_s: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """The step's launch idle by cause, in seconds, the mean queue depth, and the share of GPU events that graphs launched.

    The depth is None where no launch call of a step is known.
    """

    idle_s: dict[str, float]
    queue_depth: float | None
    graphed_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleSummary:
    """What the GPU does for one module in a step, the mean over steps and ranks, and its share of all but communication.

    The name is "" for what was launched outside of all modules and annotations.
    """

    module: str
    count: float
    forward_s: float
    backward_s: float
    share: float


def kind_series_ns(by_rank: Mapping[int, RankTrace], steps: Sequence[int]) -> dict[str, list[float]]:
    """Return by kind its nanoseconds in each of these steps, mean over ranks; kinds that none has are left out."""
    totals: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for trace in by_rank.values():
        for own in trace.kernel_kinds:
            totals[own.kind][own.step] += own.total_ns
    return {kind: [totals[kind][step] / len(by_rank) for step in steps] for kind in KINDS if kind in totals}


def summarise_kinds(by_rank: Mapping[int, RankTrace]) -> list[KindSummary]:
    """Return the kinds of kernels in a step, the longest first; nothing where no GPU work is."""
    counts: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for trace in by_rank.values():
        for own in trace.kernel_kinds:
            counts[own.kind][own.step] += own.count
    steps = _steps(by_rank)
    series = kind_series_ns(by_rank, steps)
    all_ns = sum(map(sum, series.values()))
    found = [
        KindSummary(
            kind=kind,
            count=median(counts[kind][step] / len(by_rank) for step in steps),
            total_s=median(own) / 1e9,
            share=sum(own) / all_ns if all_ns else 0.0,
        )
        for kind, own in series.items()
        if any(own)
    ]
    return sorted(found, key=lambda own: -own.total_s)


def _steps(by_rank: Mapping[int, RankTrace]) -> list[int]:
    """Return the steps that kernels were placed in; where none was, the trace as a whole."""
    steps = {own.step for trace in by_rank.values() for own in trace.kernel_kinds}
    return sorted(steps - {NO_STEP}) or sorted(steps)


def summarise_launching(by_rank: Mapping[int, RankTrace]) -> Launched | None:
    """Return why and how often the host was late, over the ranks with GPU work; None where there are none."""
    on_gpu = [trace for trace in by_rank.values() if trace.on_gpu and trace.windows]
    if not on_gpu:
        return None
    causes: dict[str, dict[int, list[float]]] = {cause: defaultdict(list) for cause in IDLE_CAUSES}
    depths: dict[int, list[float]] = defaultdict(list)
    for trace in on_gpu:
        start_ns = np.array([own.start_ns for own in trace.windows], dtype=np.int64)
        end_ns = np.array([own.end_ns for own in trace.windows], dtype=np.int64)
        idle, sync, data = (
            lengths_within_ns(own, start_ns, end_ns) for own in (trace.launch_idle, trace.idle_sync, trace.idle_data)
        )
        queued_ns = dict(trace.launching.queued_ns)
        for index, own in enumerate(trace.windows):
            parts = (idle[index] - sync[index] - data[index], sync[index], data[index])
            for cause, part in zip(IDLE_CAUSES, parts, strict=True):
                causes[cause][own.number].append(float(part))
            if own.number in queued_ns:
                depths[own.number].append(queued_ns[own.number] / own.wall_ns)
    return Launched(
        idle_s={cause: _median_of_means(own) / 1e9 for cause, own in causes.items()},
        queue_depth=_median_of_means(depths) if depths else None,
        graphed_share=sum(own.launching.num_graphed for own in on_gpu) / sum(own.num_gpu_events for own in on_gpu),
    )


def summarise_modules(by_rank: Mapping[int, RankTrace]) -> list[ModuleSummary]:
    """Return the modules of a step, the longest first; nothing where no trace names any."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    num_steps = sum(len(trace.windows) for trace in by_rank.values() if trace.modules)
    for trace in by_rank.values():
        for own in trace.modules:
            parts = (own.count, own.forward_ns, own.backward_ns)
            sums[own.name] = [one + other for one, other in zip(sums[own.name], parts, strict=True)]
    all_ns = sum(forward + backward for _, forward, backward in sums.values())
    found = [
        ModuleSummary(
            module=name,
            count=count / num_steps,
            forward_s=forward / num_steps / 1e9,
            backward_s=backward / num_steps / 1e9,
            share=(forward + backward) / all_ns if all_ns else 0.0,
        )
        for name, (count, forward, backward) in sums.items()
        if num_steps
    ]
    return sorted(found, key=lambda own: -own.share)


def _median_of_means(by_step: Mapping[int, Sequence[float]]) -> float:
    return median(map(fmean, by_step.values()))
