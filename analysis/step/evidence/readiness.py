"""When has the last rank a gradient ready? A bucket leaves when every rank has it.

Each rank's times count from the begin of its own backward pass. Ranks end a step together, so rank r begins backward o_r after
that, o_r being its median time outside of the pass that sends, and has gradient p at o_r + t_r(p). The last rank has it at

    max over r of o_r + t_r(p)

which is counted here from the begin of the pass of the rank whose last gradient is the last of all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from commprof.analysis.runs.load import Run
from commprof.analysis.step.computation import last_ready_s
from commprof.commbench.records.training import GradientTimeline, StepMeasurement


def last_readiness(run: Run) -> GradientTimeline | None:
    """Return rank 0's gradients, in its order, each ready when the last rank has it; as they are where not all ranks told.

    DDP lays its buckets out by rank 0's order.
    """
    own = run.gradients
    if own is None or run.world_size == 1 or set(run.gradients_of) != set(range(run.world_size)):
        return own
    begin_s = {rank: median(_outside_s(steps)) for rank, steps in run.steps.items()}
    last = max(run.gradients_of.values(), key=lambda other: begin_s[other.rank] + last_ready_s(other))
    ready_s = [
        {p.name: begin_s[other.rank] - begin_s[last.rank] + p.ready_s for p in other.parameters}
        for other in run.gradients_of.values()
    ]
    parameters = [
        replace(p, ready_s=max(0.0, *(times[p.name] for times in ready_s if p.name in times))) for p in own.parameters
    ]
    return replace(last, parameters=tuple(parameters), buckets=own.buckets)


def lateness_s(run: Run, rank: int) -> float:
    """Return how much later than this rank the last one has all its gradients, median over steps; 0 if it is this one.

    Where an older run does not tell when they were ready: how much later the last one begins its backward pass.
    """
    steps = {each: [step for step in own if step.counts] for each, own in run.steps.items()}
    told = all(step.last_ready_s is not None for own in steps.values() for step in own)
    known = {each: _ready_s(own) if told else _outside_s(own) for each, own in steps.items()}
    shortest = min(map(len, known.values()))
    latest = np.max([times[:shortest] for times in known.values()], axis=0)
    return float(np.median(latest - np.array(known[rank][:shortest])))


def _ready_s(steps: Iterable[StepMeasurement]) -> list[float]:
    return [step.step_s - step.exchange_s + (step.last_ready_s or 0.0) for step in steps]


def _outside_s(steps: Sequence[StepMeasurement]) -> list[float]:
    return [step.step_s - step.exchange_s for step in steps if step.counts]
