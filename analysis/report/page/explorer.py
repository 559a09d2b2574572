"""What does the report's page need to answer "what if" by itself? Numbers only, and the script that computes with them.

The script (explorer_model.js) is step/estimate.py and step/ddp.py over again for draw 0, the prediction itself; a test drives
the page in a browser and compares. What a collective costs goes in as a curve: cubics in log bytes that give log seconds, taken
from `cost_s` wherever a bucket's message can lie and split until they meet it to 1e-6. No text of any file enters the data.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from math import inf

import msgspec
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from commprof.analysis.report.page.draws import Draws, draws_of
from commprof.analysis.report.page.measured_step import MeasuredStep, measured_steps
from commprof.analysis.runs.load import Run
from commprof.analysis.scaling.speedup import work_s
from commprof.analysis.step.computation import last_ready_s
from commprof.analysis.step.estimate import AS_MEASURED, CONVERSION_PASSES, Setting, buffers_s, estimate
from commprof.analysis.step.gather import gather
from commprof.analysis.step.inputs import SingleRank, StepInputs
from commprof.analysis.step.predict import too_disturbed
from commprof.analysis.wire.cost import cost_s
from commprof.analysis.wire.results import CostModel
from commprof.commbench.records.training import GradientTimeline

_LARGEST = 64  # ranks
_SCRIPTS = ("explorer_model.js", "explorer.js")
_CURVE_ERROR = 1e-6  # relative, of a collective's time
_FEWEST = 1e-4  # of a knot's distance to the next, in log bytes: a jump of the curve is not split further
_THIRDS = np.array([0.0, 1 / 3, 2 / 3, 1.0])
_CUBIC = np.linalg.inv(np.vander(_THIRDS, 4))  # four values at thirds -> coefficients, the highest power first
_BETWEEN = np.array([1 / 6, 1 / 2, 5 / 6])


@dataclass(frozen=True, slots=True, kw_only=True)
class Gradients:
    """Per parameter, in the order of readiness: bytes, and when its gradient is ready as a share of when the last one is."""

    num_bytes: tuple[int, ...]
    ready: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """log seconds over log bytes: from each knot to the next a cubic in the share of the way, the highest power first."""

    knots: tuple[float, ...]
    coefficients: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A world size: entry 0 of StepInputs, and some draws. `gradients` counts into the page's.

    `spoken`: the wire was measured there, on cores enough. `measured` is the run that checked it. `work_s` is what one rank
    takes for the samples of a step, `work_update_s` the part of it that no batch lengthens. `draws` are None where the machine
    was too disturbed for an interval.
    """

    world_size: int
    extrapolated: bool
    spoken: bool
    work_s: float
    work_update_s: float
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

    `whole_buckets`: the gradients are a trace's buckets, which no other caps can lay out.
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
    def plain(self) -> object:
        return msgspec.to_builtins(self.data)

    @property
    def script(self) -> Markup:
        return Markup(_script())  # noqa: S704  our own file

    @property
    def script_hash(self) -> str:
        """What the page's policy must name for the browser to run the script, and no other."""
        return "sha256-" + base64.b64encode(hashlib.sha256(_script().encode()).digest()).decode()


def page_data(runs: Sequence[Run], predicted: Iterable[int]) -> PageData:
    """Return the data for the predicted world sizes and, at a fixed batch per rank, for the doublings up to 64 that the wire
    can be carried over to.

    A batch that is shared out computes otherwise at every size, which only a run there can tell. Raises as `predict` does.
    """
    gathered = gather(runs, predicted, beyond=[2**k for k in range(1, _LARGEST.bit_length())])
    work = gathered.workload
    beyond = gathered.beyond if work.scaling == "weak" else ()
    known = sorted((*gathered.at, *beyond), key=lambda inputs: inputs.world_size)
    shared = {run.world_size for run in runs if run.info.oversubscribed}
    measured = measured_steps(runs)
    distinct = list(dict.fromkeys(_gradients(inputs.gradients) for inputs in known))
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
        places=tuple(
            _place(
                inputs,
                gathered.single,
                distinct,
                spoken=not inputs.extrapolated and inputs.world_size not in shared,
                measured=measured.get(inputs.world_size),
            )
            for inputs in known
        ),
    )


def curve_of(cost: CostModel, smallest: float, largest: float) -> Curve:
    """Return the cost of messages from `smallest` to `largest` bytes, within 1e-6 of `cost_s`."""
    ends = [smallest, *(size for size in cost.message_bytes if smallest < size < largest), largest]
    pieces = [piece for start, stop in pairwise(np.log(ends)) for piece in _pieces(cost, float(start), float(stop))]
    return Curve(
        knots=(*(start for start, _ in pieces), float(np.log(largest))),
        coefficients=tuple(tuple(round(number, 9) for number in cubic) for _, cubic in pieces),
    )


def _pieces(cost: CostModel, start: float, stop: float) -> Iterator[tuple[float, tuple[float, ...]]]:
    """Yield where each cubic begins, and its coefficients."""
    length = stop - start
    cubic = _CUBIC @ _log_cost(cost, start + length * _THIRDS)
    error = np.abs(np.polyval(cubic, _BETWEEN) - _log_cost(cost, start + length * _BETWEEN)).max()
    if error < _CURVE_ERROR or length < _FEWEST:
        yield start, tuple(cubic.tolist())
        return
    for half in (start, start + length / 2):
        yield from _pieces(cost, half, half + length / 2)


def _log_cost(cost: CostModel, log_bytes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log([cost_s(cost, size) for size in np.exp(log_bytes)])


def _place(
    inputs: StepInputs,
    single: SingleRank,
    gradients: Sequence[Gradients],
    *,
    spoken: bool,
    measured: MeasuredStep | None,
) -> Place:
    own = inputs.computation
    sizes = [parameter.num_bytes for parameter in inputs.gradients.parameters]
    share = inputs.sent_share
    messages_s = buffers_s(inputs, Setting(bandwidth=inf))
    smallest, largest = share * min(sizes) / 2, share * sum(sizes)  # the page can halve what is sent
    return Place(
        world_size=inputs.world_size,
        extrapolated=inputs.extrapolated,
        work_s=work_s(single.step_s, inputs.world_size, inputs.workload.scaling),
        work_update_s=work_s(single.update_s, inputs.world_size, inputs.workload.scaling),
        spoken=spoken,
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
        draws=draws_of(inputs, smallest, largest) if too_disturbed(inputs, estimate(inputs)) is None else None,
        measured=measured,
    )


def _gradients(timeline: GradientTimeline) -> Gradients:
    last_s = last_ready_s(timeline)
    return Gradients(
        num_bytes=tuple(parameter.num_bytes for parameter in timeline.parameters),
        ready=tuple(round(parameter.ready_s / last_s, 9) for parameter in timeline.parameters),
    )


@cache
def _script() -> str:
    return "\n".join(files(__package__).joinpath(name).read_text("utf-8") for name in _SCRIPTS)
