"""How many ranks to use, by the bucket schedule's predictions."""

from collections.abc import Sequence

from commprof.analysis.runs.interval import Interval
from commprof.analysis.runs.load import Run
from commprof.analysis.scaling.decision import Candidate, Decision, decide
from commprof.analysis.step.reasons import clause
from commprof.analysis.step.results import Overhead, Prediction, PredictionSet

DISTURBED = "other processes disturbed these runs"


def decide_predicted(predicted: PredictionSet, runs: Sequence[Run], unknown: str = "") -> Decision:
    """Decide on every world size predicted from these runs; `unknown` is why nothing can be said of any."""
    schedules = [p for p in predicted.predictions if p.model == "schedule"]
    return decide(
        predicted_candidate(
            p,
            because="" if unknown else because(predicted.overheads, runs, p.world_size),
            unknown=unknown,
            no_gain=no_gain(runs, p.world_size, predicted=p.shares_cores),
        )
        for p in schedules
    )


def because(overheads: Sequence[Overhead], runs: Sequence[Run], world_size: int) -> str:
    """Say what would explain that so many ranks gain nothing; empty where their step was not taken apart."""
    own = next((overhead for overhead in overheads if overhead.world_size == world_size), None)
    shared = any(run.info.oversubscribed for run in runs if run.world_size == world_size)
    return "" if own is None else clause(own, shared=shared)


def no_gain(runs: Sequence[Run], world_size: int, *, predicted: bool = False) -> str:
    """Say why a gain on so many ranks would tell nothing: they take turns on cores that as many devices would not share.

    They did in a run, or are `predicted` to.
    """
    shared = predicted or any(run.info.oversubscribed for run in runs if run.world_size == world_size)
    return "its ranks share too few cores to speak for as many devices" if shared else ""


def predicted_candidate(prediction: Prediction, *, because: str = "", unknown: str = "", no_gain: str = "") -> Candidate:
    """Return what a prediction alone says of a number of ranks."""
    span = speedup_interval(prediction)
    return Candidate(
        world_size=prediction.world_size,
        speedup=prediction.speedup,
        within=span,
        predicted=prediction.speedup,
        interval=span,
        because=because,
        unknown=unknown or prediction.too_disturbed or "",
        no_gain=no_gain,
    )


def speedup_interval(prediction: Prediction) -> Interval | None:
    """Return the 90 % interval of the speedup."""
    if prediction.interval_s is None:
        return None
    return turned_round(prediction.speedup, prediction.step_s, prediction.interval_s)


def turned_round(speedup: float, step_s: float, interval_s: Interval) -> Interval:
    """Return the interval of a speedup from that of its step: S T / interval."""
    work_s = speedup * step_s
    return Interval(low=work_s / interval_s.high, high=work_s / interval_s.low)
