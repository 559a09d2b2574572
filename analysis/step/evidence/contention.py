"""What do computation and communication cost each other? Of two forms the one that the all-reduces of all sizes bear out.

    rates    computation takes k, communication c times as long while both are active
    wait     a bucket beside computation takes w seconds longer, whatever its size; computation is not slowed

With A_i and T_i the median times of an all-reduce of size i alone and beside computation, c is the weighted mean of T_i/A_i in
logarithms, 1 at least, k that of computation's ratios, and w minimises

    chi^2 = sum of (ln T_i/(A_i + w))^2 / s_i^2

s_i being the bootstrapped standard error of the logarithm and at least 5 %, what neighbouring sizes differ by anyhow. The
form with the smaller chi^2 is taken; one size cannot tell them apart: rates then. Where ranks take turns on a core, short
passes beside an all-reduce look slowed and the backward passes of trainings are not (docs/accuracy.md), so the wait has no k.
Draws of a parameter come of observations with these errors, spread by sqrt(chi^2 / degrees of freedom) where that is above 1
(Birge 1932), so that sizes or runs which disagree widen an interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.runs.load import Run
from commprof.analysis.step.ddp import Contention, ContentionForm
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.contention import ContentionMeasurement

Floats = NDArray[np.float64]

LEAST_ERROR: Final = 0.05
_NEWTON_STEPS: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredContention:
    """What contention runs at one world size say: draws [1 + count], entry 0 of the medians; and the sizes it rests on."""

    contention: Contention
    form: ContentionForm
    message_bytes: tuple[int, ...]


def usable_contention(runs: Sequence[Run], threads_per_rank: int) -> list[ContentionMeasurement]:
    """Return what ranks like the training's were measured with, of contention runs of one world size.

    Raises UnusableData where only ranks with another number of threads were measured: on hosts those contend otherwise.
    """
    alike = [m for run in runs for m in run.contention if m.threads_per_rank == threads_per_rank or not run.info.on_cpu]
    if runs and not alike:
        raise UnusableData(
            f"{runs[0].path} measured contention with {runs[0].info.threads_per_rank} threads a rank, the training "
            f"used {threads_per_rank}; measure again with OMP_NUM_THREADS={threads_per_rank}, or leave that run out"
        )
    return alike


def fit_contention(measured: Sequence[ContentionMeasurement], rng: np.random.Generator, count: int) -> MeasuredContention:
    """Return the contention that serves all measurements best, in the form that they bear out."""
    seen = _Observed(measured, rng, count)
    sizes, freedom = tuple(sorted({m.message_bytes for m in measured})), len(measured) - 1
    comm_rate, misfit = _rate(seen.log_comm, seen.comm_error)
    wait_s = _wait_s(seen)
    waiting = _misfit(np.log(seen.together_s[0] / (seen.alone_s[0] + wait_s[0])), seen.comm_error)
    if len(sizes) == 1 or misfit <= waiting:
        compute_rate, _ = _rate(seen.log_compute, seen.compute_error)
        contention = Contention(compute_rate=compute_rate, comm_rate=comm_rate)
        return MeasuredContention(contention=contention, form="rates", message_bytes=sizes)
    drawn_s = np.maximum(0.0, _spread(wait_s, waiting, freedom))
    contention = Contention(compute_rate=1.0, comm_rate=1.0, wait_s=drawn_s)
    return MeasuredContention(contention=contention, form="wait", message_bytes=sizes)


class _Observed:
    """Medians over rounds [1 + draws, measurements], entry 0 being those measured; the errors are relative."""

    def __init__(self, measured: Sequence[ContentionMeasurement], rng: np.random.Generator, count: int) -> None:
        self.alone_s = _medians([m.comm_alone_s for m in measured], rng, count)
        together_s = _medians([m.comm_with_compute_s for m in measured], rng, count)
        with_comm_s = _medians([m.compute_with_comm_s for m in measured], rng, count)
        compute_s = _medians([m.compute_alone_s for m in measured], rng, count)
        self.log_compute, self.compute_error = _widened(np.log(with_comm_s / compute_s), rng)
        self.log_comm, self.comm_error = _widened(np.log(together_s / self.alone_s), rng)
        self.together_s = self.alone_s * np.exp(self.log_comm)


def _widened(ratios: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return bootstrapped logarithms with at least `LEAST_ERROR` of spread, and that error."""
    own: Floats = ratios[1:].std(axis=0)
    error: Floats = np.maximum(LEAST_ERROR, own)
    missing = np.sqrt(error**2 - own**2) * rng.standard_normal(ratios.shape)
    missing[0] = 0.0
    return ratios + missing, error


def _medians(samples: Sequence[Sequence[float]], rng: np.random.Generator, count: int) -> Floats:
    columns = []
    for own in samples:
        times = np.asarray(own)
        picks = rng.integers(0, len(times), (count, len(times)))
        columns.append(np.concatenate([[np.median(times)], np.median(times[picks], axis=1)]))
    return np.column_stack(columns)


def _wait_s(seen: _Observed) -> Floats:
    """Return the wait that serves all sizes best [1 + draws]: Gauss and Newton's steps on the logarithms."""
    weight = 1 / seen.comm_error**2
    longer_s, exact = seen.together_s - seen.alone_s, weight / seen.together_s**2
    wait_s: Floats = np.maximum(0.0, (exact * longer_s).sum(axis=1) / exact.sum(axis=1))
    for _ in range(_NEWTON_STEPS):
        model_s = seen.alone_s + wait_s[:, None]
        residual = np.log(seen.together_s / model_s)
        move_s = (weight * residual / model_s).sum(axis=1) / (weight / model_s**2).sum(axis=1)
        wait_s = np.maximum(0.0, wait_s + move_s)
    return wait_s


def _misfit(off: Floats, error: Floats) -> float:
    return float(((off / error) ** 2).sum())


def _rate(log_slower: Floats, error: Floats) -> tuple[Floats, float]:
    """Return the speed that serves all measurements best [1 + draws], and its misfit; 1 at most: company speeds nothing up."""
    slower: Floats = (log_slower / error**2).sum(axis=1) / (1 / error**2).sum()
    misfit = _misfit(log_slower[0] - max(0.0, slower[0]), error)
    return np.exp(-np.maximum(0.0, _spread(slower, misfit, len(error) - 1))), misfit


def _spread(draws: Floats, misfit: float, freedom: int) -> Floats:
    """Return the draws, their distance from the first widened by what the form misses the observations by."""
    widened: Floats = draws[0] + max(1.0, sqrt(misfit / max(1, freedom))) * (draws - draws[0])
    return widened
