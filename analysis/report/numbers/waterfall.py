"""Why not N times? From linear speedup down to what a step takes, loss by loss, each with its seconds and its interval.

    step(N) = one rank's share + slower computation + waiting + copies + exposed communication (+ what no prediction has)

The share is T_1 at a fixed batch per rank and T_1/N at a fixed batch in all: what a step would take at N times the speed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from commprof.analysis.report.numbers.verdict import Outcome
from commprof.analysis.runs.interval import Interval
from commprof.analysis.step.results import Overhead
from commprof.commbench.units import format_estimate, format_seconds

_NEGLIGIBLE = 0.005  # of the step


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What makes the step longer; below zero, shorter than predicted. `seconds` lie in `interval_s`, where that is known."""

    name: str
    seconds: float
    interval_s: Interval | None = None

    def __str__(self) -> str:
        sign, span = "+" if self.seconds >= 0 else "", self.interval_s
        if span is not None:
            return f"{sign}{format_estimate(self.seconds, span.low, span.high)}"
        return f"{sign}{_signed(self.seconds)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waterfall:
    """A step of N ranks taken apart: `linear_s` with the losses, and what is too small to name, is `step_s`.

    The step is the measured one where `measured`, else the predicted.
    """

    world_size: int
    linear_s: float
    losses: tuple[Loss, ...]
    step_s: float
    measured: bool

    @property
    def speedup(self) -> float:
        """Return the samples per second over one rank's."""
        return self.world_size * self.linear_s / self.step_s

    @property
    def end(self) -> str:
        """Name what the losses lead to."""
        return "measured" if self.measured else "predicted"

    @property
    def words(self) -> str:
        """Tell the losses, the largest first."""
        largest = sorted(self.losses, key=lambda loss: -abs(loss.seconds))
        return ", ".join(f"{loss.name} {loss}" for loss in largest)


def waterfall(overhead: Overhead, check: Outcome | None) -> Waterfall:
    """Take the step of `overhead` apart, down to the measured step where a run has checked it."""
    losses = [*_predicted(overhead)]
    if check is not None:
        losses.append(Loss(name="not in the prediction", seconds=check.measured_step_s - overhead.step_s))
    step_s = overhead.single_step_s + sum(loss.seconds for loss in losses)
    return Waterfall(
        world_size=overhead.world_size,
        linear_s=overhead.single_step_s,
        losses=tuple(loss for loss in losses if abs(loss.seconds) >= _NEGLIGIBLE * step_s),
        step_s=step_s,
        measured=check is not None,
    )


def _predicted(own: Overhead) -> Iterator[Loss]:
    yield Loss(name="slower computation", seconds=own.compute_s, interval_s=own.compute_interval_s)
    yield Loss(name="waiting", seconds=own.waiting_s, interval_s=own.waiting_interval_s)
    yield Loss(name="copies", seconds=own.copies_s, interval_s=own.copies_interval_s)
    yield Loss(name="exposed communication", seconds=own.exposed_s, interval_s=own.exposed_interval_s)


def _signed(seconds: float) -> str:
    return format_seconds(seconds) if seconds >= 0 else f"-{format_seconds(-seconds)}"
