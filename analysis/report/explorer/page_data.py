"""What does the report's page need to answer "what if" by itself? Numbers only, and the script that computes with them.

The script (model.js) is step/estimate.py and step/ddp.py over again for draw 0, the prediction itself; a test drives the page
in a browser and compares. Of strategies that shard, sharded.py says what goes in. No text of any file enters the data.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.resources import files
from math import inf
from statistics import median

import msgspec
from markupsafe import Markup

from commprof.analysis.report.explorer.curve import Curve, curve_of
from commprof.analysis.report.explorer.draws import KEPT, Draws, draws_of, kept_draws, rounded
from commprof.analysis.report.explorer.measured_step import MeasuredStep, measured_steps
from commprof.analysis.report.explorer.sharded import ShardedPlace, sharded_places
from commprof.analysis.runs.disturbance import disturbance_text
from commprof.analysis.runs.load import Run
from commprof.analysis.scaling.speedup import work_s
from commprof.analysis.step.computation import last_ready_s
from commprof.analysis.step.estimate import AS_MEASURED, CONVERSION_PASSES, Estimate, Setting, buffers_s, estimate, own_paces
from commprof.analysis.step.evidence.drift import drift_of
from commprof.analysis.step.evidence.profiles import checking_runs
from commprof.analysis.step.gather import gather
from commprof.analysis.step.inputs import StepInputs
from commprof.analysis.step.predict import too_disturbed
from commprof.analysis.strategies.choose import told_ddp_memory
from commprof.analysis.strategies.inputs import sharded_runs
from commprof.analysis.strategies.results import COPIES, STRATEGIES, Strategy
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.training import GradientTimeline

_LARGEST = 64  # ranks
_SCRIPTS = ("model.js", "sharded.js", "drawing.js", "page.js")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gradients:
    """Per parameter, in the order of readiness: bytes, and when its gradient is ready as a share of when the last one is."""

    num_bytes: tuple[int, ...]
    ready: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DdpPlace:
    """DDP's step at a world size: entry 0 of StepInputs, and some draws. `gradients` counts into the page's.

    `measured` is the run that checked it, `side_by_side` as of a strategy that shards. `draws` are None where the machine was
    too disturbed for an interval, `memory_bytes` where a rank's are unknown; `memory_is_all`: no part of these is missing.
    """

    before_s: float
    backward_s: float
    copy_s: float
    update_s: float
    buffers_latency_s: float
    buffers_transfer_s: float
    gradients: int
    curve: Curve
    latency_s: float
    busbw_bytes_per_s: float
    workers: int
    compute_rate: float
    comm_rate: float
    wait_s: float
    draws: Draws | None
    measured: MeasuredStep | None
    side_by_side: bool = False
    memory_bytes: int | None = None
    memory_is_all: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A world size: DDP's step, None where it cannot be told, and each strategy that shards and can be.

    `spoken`: the wire was measured there, on cores enough. `work_s` is what one rank takes for the samples of a step,
    `work_update_s` the part of it that no batch lengthens. `own_paces` of two runs, as draws, are what strategies are told
    apart by.
    """

    world_size: int
    extrapolated: bool
    spoken: bool
    work_s: float
    work_update_s: float
    own_paces: tuple[tuple[float, ...], ...]
    ddp: DdpPlace | None = None
    strategies: tuple[ShardedPlace, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A wire to try, at its line rate; latency stays as measured."""

    name: str
    busbw_bytes_per_s: float


WIRES = (
    *(Wire(name=f"{gbit} Gbit/s Ethernet", busbw_bytes_per_s=gbit * 1e9 / 8) for gbit in (1, 10, 25, 100)),
    Wire(name="400 Gbit/s InfiniBand", busbw_bytes_per_s=50e9),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageData:
    """All that the page computes from. `samples` of a micro-batch per rank, `accumulation` micro-batches a step.

    `whole_buckets`: the gradients are a trace's buckets, which no other caps can lay out. `disturbed`: other processes took
    cores from the runs, so that no strategy is called the fastest.
    """

    samples: int
    accumulation: int
    first_cap_bytes: int
    cap_bytes: int
    whole_buckets: bool
    sent_share: float
    delayed: bool
    conversion_passes: float
    gradients: tuple[Gradients, ...]
    places: tuple[Place, ...]
    disturbed: bool = False
    wires: tuple[Wire, ...] = WIRES


@dataclass(frozen=True, slots=True, kw_only=True)
class Explorer:
    """What the template prints: the data as plain values, and how many steps and which files they rest on, in words.

    `first` is the world size to begin with, the one that the verdict speaks of.
    """

    data: PageData
    steps: str
    sources: tuple[str, ...]
    first: int

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        """The strategies to choose from, DDP first."""
        told = {own.strategy for place in self.data.places for own in place.strategies}
        told |= {"ddp" for place in self.data.places if place.ddp is not None}
        return tuple(own for own in STRATEGIES if own in told)

    @property
    def plain(self) -> object:
        return msgspec.to_builtins(self.data)

    @property
    def script(self) -> Markup:
        return Markup(_script())  # noqa: S704  our own file

    @property
    def script_hash(self) -> str:
        """What the page's policy must name for the browser to run the script, and no other."""
        return "sha256-" + base64.b64encode(hashlib.sha256(_script().encode()).digest()).decode()


def page_data(runs: Sequence[Run], world_sizes: Iterable[int], copies: int = COPIES) -> PageData:
    """Return the data for the predicted world sizes and, at a fixed batch per rank, for the doublings up to 64 that the wire
    can be carried over to. HSDP is shown in so many copies.

    A batch that is shared out computes otherwise at every size, which only a run there can tell. Raises as `predict` does.
    """
    gathered = gather(runs, world_sizes, beyond=[2**k for k in range(1, _LARGEST.bit_length())])
    work = gathered.workload
    beyond = gathered.beyond if work.scaling == "weak" else ()
    known = sorted((*gathered.at, *beyond), key=lambda inputs: inputs.world_size)
    shared = {run.world_size for run in runs if run.info.oversubscribed}
    measured = measured_steps(runs)
    predicted = [(inputs, estimate(inputs)) for inputs in known]
    distinct = list(dict.fromkeys(_gradients(inputs.gradients) for inputs in known))
    memory, _ = told_ddp_memory(runs, bucket_view=work.gradient_as_bucket_view)
    return PageData(
        samples=work.samples_per_rank // work.accumulation,
        accumulation=work.accumulation,
        first_cap_bytes=work.first_bucket_bytes,
        cap_bytes=work.bucket_cap_bytes,
        whole_buckets=work.whole_buckets,
        sent_share=known[0].sent_share,
        delayed=known[0].delayed,
        conversion_passes=CONVERSION_PASSES,
        gradients=tuple(distinct),
        disturbed=disturbance_text(runs) is not None,
        places=tuple(
            Place(
                world_size=inputs.world_size,
                extrapolated=inputs.extrapolated,
                spoken=not inputs.extrapolated and inputs.world_size not in shared,
                work_s=work_s(gathered.single.step_s, inputs.world_size, work.scaling),
                work_update_s=work_s(gathered.single.update_s, inputs.world_size, work.scaling),
                own_paces=_own_paces(runs, kept_draws(own.step_s)),
                ddp=replace(
                    _ddp_place(inputs, own, distinct, measured.get(inputs.world_size)),
                    memory_bytes=None if memory is None else memory.total,
                    memory_is_all=memory is not None and memory.is_all,
                ),
                strategies=sharded_places(runs, inputs.world_size, kept_draws(own.step_s), copies),
            )
            for inputs, own in predicted
        ),
    )


def sharded_page_data(runs: Sequence[Run], world_sizes: Iterable[int], copies: int = COPIES) -> PageData:
    """Return the data where strategies alone can be told, HSDP in so many copies; raise UnusableData where none can be."""
    alone = checking_runs(runs, 1) or [run for run in sharded_runs(runs) if run.world_size == 1]
    if not alone:
        raise UnusableData("no run on one rank among those given, beside whose step others are shown")
    profile = alone[-1]
    work = profile.info.workload
    single_s = profile.median_step_s()
    update_s = median(step.optimizer_s for step in profile.counted_steps())
    shared = {run.world_size for run in runs if run.info.oversubscribed}
    told = {n: sharded_places(runs, n, range(1, KEPT + 1), copies) for n in sorted(set(world_sizes))}
    if work is None or not any(told.values()):
        raise UnusableData("no strategy can be told at any number of ranks")
    return PageData(
        samples=max(1, work.samples_per_rank // work.accumulation),
        accumulation=work.accumulation,
        first_cap_bytes=work.first_bucket_bytes,
        cap_bytes=work.bucket_cap_bytes,
        whole_buckets=True,
        sent_share=1.0,
        delayed=False,
        conversion_passes=CONVERSION_PASSES,
        gradients=(),
        disturbed=disturbance_text(runs) is not None,
        places=tuple(
            Place(
                world_size=n,
                extrapolated=all(own.extrapolated for own in places),
                spoken=n not in shared and not all(own.extrapolated for own in places),
                work_s=work_s(single_s, n, work.scaling),
                work_update_s=work_s(update_s, n, work.scaling),
                own_paces=_own_paces(runs, range(1, KEPT + 1)),
                strategies=places,
            )
            for n, places in told.items()
            if places
        ),
    )


def _ddp_place(
    inputs: StepInputs, predicted: Estimate, gradients: Sequence[Gradients], measured: MeasuredStep | None
) -> DdpPlace:
    own = inputs.computation
    sizes = [parameter.num_bytes for parameter in inputs.gradients.parameters]
    share = inputs.sent_share
    messages_s = buffers_s(inputs, Setting(bandwidth=inf))
    smallest, largest = share * min(sizes) / 2, share * sum(sizes)  # the page can halve what is sent
    return DdpPlace(
        before_s=float(own.before_s[0]),
        backward_s=float(own.backward_s[0]),
        copy_s=float(own.copy_s[0]),
        update_s=float(own.update_s[0]),
        buffers_latency_s=messages_s,
        buffers_transfer_s=buffers_s(inputs, AS_MEASURED) - messages_s,
        gradients=gradients.index(_gradients(inputs.gradients)),
        curve=curve_of(inputs.cost, smallest, largest),
        latency_s=inputs.cost.latency_s,
        busbw_bytes_per_s=inputs.cost.busbw_bytes_per_s,
        workers=inputs.workers,
        **asdict(inputs.contention.first),
        draws=None if too_disturbed(inputs, predicted) else draws_of(inputs, kept_draws(predicted.step_s), smallest, largest),
        measured=measured,
        side_by_side=inputs.measured_at_n,
    )


def _own_paces(runs: Sequence[Run], kept: Sequence[int]) -> tuple[tuple[float, ...], ...]:
    """Return the paces of two runs in the draws that are kept, as strategies/choose.py has them."""
    paces = own_paces(max(kept) + 1, drift_of(runs), 0.0)
    return tuple(rounded(own[list(kept)]) for own in paces)


def _gradients(timeline: GradientTimeline) -> Gradients:
    last_s = last_ready_s(timeline)
    return Gradients(
        num_bytes=tuple(parameter.num_bytes for parameter in timeline.parameters),
        ready=tuple(round(parameter.ready_s / last_s, 9) for parameter in timeline.parameters),
    )


@cache
def _script() -> str:
    return "\n".join(files(__package__).joinpath(name).read_text("utf-8") for name in _SCRIPTS)
