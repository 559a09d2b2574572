"""What a predicted step rests on: plain values, gathered once. The model that reads them sees no run, path or file."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.step.computation import Computation
from commprof.analysis.step.ddp import Bucket, Contention, ContentionForm, assign_buckets
from commprof.analysis.wire.results import CostModel
from commprof.commbench.records.training import GradientTimeline, ParameterTiming
from commprof.commbench.records.types import Workload

Floats = NDArray[np.float64]

SENT_SHARE: Final = {"none": 1.0, "fp16": 0.5, "bf16": 0.5}  # of a float32 gradient, by communication hook


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInputs:
    """All that a prediction for one world size rests on.

    `imported_from` names the log that the wire is of, `traced_from` the traces of `traced_ranks` ranks that the computation is.
    `cost_ratios` [1 + draws, sizes] are bootstrapped medians over the measured ones at `cost.message_bytes`, the first row 1.
    `contention_form` and `contention_bytes`, sizes of messages, say how contention was measured (evidence/contention.py), None
    and empty where it is worked out. `contention_at` are other world sizes at which it was measured, which is not used.
    `drift`: drift.py.
    `configured`: a line of `commprof train`'s configuration means something to whoever asks. `backend` is that of the wire.
    `beside`: how far off computation is where no run shows what ranks that share a machine cost each other, relative, else 0.
    `shares_cores`: these ranks' threads are more than their machine has cores.
    `others_cores`: cores that other processes kept busy beside the profile, which is in `slowdown`.
    `between`: what the runs that were pooled differ by (repeats.py), relative; `pooled` names them, a text for each kind.
    """

    world_size: int
    workload: Workload
    gradients: GradientTimeline
    computation: Computation
    measured_at_n: bool
    slowdown: float
    cost: CostModel
    cost_ratios: Floats
    extrapolated: bool
    workers: int
    contention: Contention
    contention_form: ContentionForm | None = None
    contention_bytes: tuple[int, ...] = ()
    contention_at: tuple[int, ...] = ()
    delayed: bool = False
    imported_from: str | None = None
    traced_from: str | None = None
    traced_ranks: int = 0
    drift: float = 0.0
    beside: float = 0.0
    others_cores: float = 0.0
    shares_cores: bool = False
    between: float = 0.0
    pooled: tuple[str, ...] = ()
    configured: bool = True
    backend: str = "gloo"

    @property
    def sent_share(self) -> float:
        """Bytes sent per byte of gradient."""
        share = sent_share_of(self.workload)
        assert share is not None, "gather refuses the others"
        return share

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """DDP's buckets as configured, whatever the profile's own world size was."""
        work = self.workload
        return buckets_of(self.gradients.parameters, work.first_bucket_bytes, work.bucket_cap_bytes)

    @property
    def alone_s(self) -> float:
        """One rank's median step beside the others, nothing sent."""
        return float(self.computation.alone_s[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleRank:
    """One rank's median step, and the part of it that does not grow with the batch, seconds.

    `tail_s` is what it does between its last gradient and the end of backward, where N ranks copy.
    """

    step_s: float
    update_s: float
    tail_s: float = 0.0

    def changed_s(self, *, batch: float = 1.0, model: float = 1.0) -> float:
        """Return its step at other sizes of batch and model, as factors."""
        return model * (batch * (self.step_s - self.update_s) + self.update_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """All that the predictions of one training rest on.

    `anchor` is the all-reduce's cost at the smallest world size benched. `at` are the world sizes asked for, `beyond` those
    that were asked for if they can be had, and `out_of_reach` says why the others cannot.
    """

    profile_run_id: str
    profile_path: str
    single: SingleRank
    workload: Workload
    anchor: CostModel
    run_ids: tuple[str, ...]
    at: tuple[StepInputs, ...]
    beyond: tuple[StepInputs, ...]
    out_of_reach: Mapping[int, str]


def sent_share_of(work: Workload) -> float | None:
    """Return the bytes sent per byte of gradient; None for a hook that nothing is known of."""
    return SENT_SHARE.get(work.communication_hook, work.sent_share)


@lru_cache(maxsize=256)
def buckets_of(parameters: tuple[ParameterTiming, ...], first_cap_bytes: int, cap_bytes: int) -> tuple[Bucket, ...]:
    """Return DDP's buckets of these parameters, given in the order in which their gradients are ready."""
    return tuple(assign_buckets(parameters, first_cap_bytes, cap_bytes))
