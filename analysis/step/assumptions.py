"""Which assumption failed? A predicted step beside the run that checked it, part by part.

A step of the rank that recorded its gradients is cut at the same moments in both: when backward begins, when the last
gradient is there, when the last bucket has landed, when it is copied. The parts add up to the step, so what each is longer
than predicted adds up to the error, and each part belongs to one assumption:

    input          the next batch is there in time                           data phase
    computation    ranks compute as they did before                          forward, optimizer
    backward       communication slows computation as was measured           backward up to the last gradient
    stragglers     the slowest rank is as late as chance makes it            another rank has its last gradient later than this
    communication  a bucket costs what the bench says, hidden as scheduled   from the last gradient to the last landing
    copies         buckets are copied back as in a compute-only run          from there to the end of backward
    rest           the median step is that of these medians                  what they leave of the step of all ranks

All in seconds, medians over the steps that count. Of a run that recorded no buckets communication and copies are one part.
"""

from collections.abc import Callable, Sequence
from statistics import median

from commprof.analysis.runs.load import Run, select
from commprof.analysis.step.computation import last_ready_s
from commprof.analysis.step.estimate import Estimate, estimate
from commprof.analysis.step.evidence.profiles import checking_runs
from commprof.analysis.step.evidence.readiness import lateness_s
from commprof.analysis.step.gather import gather
from commprof.analysis.step.inputs import StepInputs
from commprof.analysis.step.results import AssumptionCheck, PredictionSet
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.training import StepMeasurement

_TOLERANCE = 0.02  # of the measured step: less is nothing to explain
_LITTLE = 0.01  # of the measured step: less is nothing to speak of
_FAR_OFF = 0.5  # of what was predicted: communication that is further off was not understood, however short it is

_ASSUMPTIONS = {
    "input": "the next batch is there in time",
    "computation": "ranks compute as fast as they did before",
    "backward": "communication slows computation as much as was measured",
    "stragglers": "the slowest rank is as late as chance makes it",
    "communication": "buckets cost what the bench says and hide as scheduled",
    "copies": "buckets are copied back as fast as they were before",
    "rest": "the median step is made of its parts' medians",
    "bucket order": "DDP fills its buckets as predicted",
}


def checked_assumptions(predicted: PredictionSet, runs: Sequence[Run]) -> tuple[AssumptionCheck, ...]:
    """Return the checks of every world size that was predicted and then run."""
    sizes = sorted({prediction.world_size for prediction in predicted.predictions})
    return tuple(check for world_size in sizes for check in check_assumptions(runs, world_size))


def check_assumptions(runs: Sequence[Run], world_size: int) -> list[AssumptionCheck]:
    """Compare the last synchronised run on `world_size` ranks with its prediction.

    Empty where there is none to compare: no such run, or not what a prediction takes.
    """
    checked = [run for run in checking_runs(runs, world_size) if run.gradients is not None]
    if not checked:
        return []
    before = [run for run in runs if not (run.synchronised and run.world_size > 1)]
    try:
        (inputs,) = gather([*before, checked[-1]], [world_size]).at
    except UnusableData:
        return []
    profile = select(before, kind="train", world_size=world_size, synchronised=False) or select(
        before, kind="train", world_size=1
    )
    return compare(inputs, estimate(inputs), profile[-1], checked[-1])


def compare(inputs: StepInputs, predicted: Estimate, before: Run, run: Run) -> list[AssumptionCheck]:
    """Return one check per assumption, those of the step's parts in their order; `before` is what computation came from."""
    assert run.gradients is not None
    late_s = lateness_s(run, run.gradients.rank)
    expected = _expected_parts(inputs, predicted, before)
    measured = _measured_parts(run, late_s)
    if not run.gradients.buckets:
        for parts in (expected, measured):
            parts["communication"] += parts.pop("copies")
    step_s = run.median_step_s()
    measured["rest"], expected["rest"] = step_s - sum(measured.values()), 0.0
    error_s = step_s - float(predicted.step_s[0])
    checks = [
        AssumptionCheck(
            world_size=inputs.world_size,
            name=name,
            assumption=_ASSUMPTIONS[name],
            expected_s=expected[name],
            measured_s=measured[name],
            error_s=error_s,
            holds=_holds(name, expected[name], measured[name], step_s),
        )
        for name in expected
    ]
    return [*checks, _bucket_order(inputs, run, error_s)]


def failed(checks: Sequence[AssumptionCheck]) -> AssumptionCheck | None:
    """Return the assumption that explains most of the error, where one failed in the error's direction."""
    blamed = [check for check in checks if not check.holds and check.explains_s * check.error_s > 0 and check.name != "rest"]
    return max(blamed, key=lambda check: abs(check.explains_s), default=None)


def failed_communication(checks: Sequence[AssumptionCheck]) -> AssumptionCheck | None:
    """Return the communication of a world size's checks where it was not as predicted, whatever became of the step."""
    return next((check for check in checks if check.name == "communication" and not check.holds), None)


def _holds(name: str, expected_s: float, measured_s: float, step_s: float) -> bool:
    off_s = abs(measured_s - expected_s)
    far_off = name == "communication" and off_s > _LITTLE * step_s and off_s > _FAR_OFF * expected_s
    return off_s <= _TOLERANCE * step_s and not far_off


def _expected_parts(inputs: StepInputs, predicted: Estimate, before: Run) -> dict[str, float]:
    timelines, begin_s = predicted.timelines, predicted.backward_start_s
    ready_s = float(timelines.compute_end_s[0]) - begin_s
    landed_s = max(ready_s, float(timelines.done_s[0].max(initial=0.0)) - begin_s)
    data_s = inputs.slowdown * _median_of(before, lambda step: step.data_s)
    return {
        "input": data_s,
        "computation": begin_s - data_s,
        "backward": ready_s,
        "stragglers": 0.0,  # they are in the computation already, which is the slowest rank's
        "communication": landed_s - ready_s,
        "copies": float(timelines.end_s[0]) - begin_s - landed_s,
    }


def _measured_parts(run: Run, late_s: float) -> dict[str, float]:
    assert run.gradients is not None
    steps = [step for step in run.steps[run.gradients.rank] if step.counts]
    ready_s = last_ready_s(run.gradients)
    landed_s = max([ready_s, *(bucket.done_s for bucket in run.gradients.buckets)])
    late_s = min(late_s, landed_s - ready_s)  # what of it shows: the rest was hidden by this rank's own backward
    return {
        "input": median(step.data_s for step in steps),
        "computation": median(step.step_s - step.exchange_s - step.data_s for step in steps),
        "backward": ready_s,
        "stragglers": late_s,
        "communication": landed_s - ready_s - late_s,
        "copies": median(step.exchange_s for step in steps) - landed_s,
    }


def _bucket_order(inputs: StepInputs, run: Run, error_s: float) -> AssumptionCheck:
    assert run.gradients is not None
    expected = [bucket.num_bytes for bucket in inputs.buckets]
    measured = [bucket.num_bytes for bucket in run.gradients.buckets]
    return AssumptionCheck(
        world_size=inputs.world_size,
        name="bucket order",
        assumption=_ASSUMPTIONS["bucket order"],
        expected_s=None,
        measured_s=None,
        error_s=error_s,
        holds=not measured or expected == measured,
    )


def _median_of(run: Run, value: Callable[[StepMeasurement], float]) -> float:
    return median(value(step) for step in run.counted_steps())
