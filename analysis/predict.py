"""The training step at N ranks, before N ranks are paid for.

From one rank's profile, or from traces: when each gradient is ready during backward. From a bench at N: what each bucket
costs on the wire. From a compute-only run at N, where there is one: how fast the ranks compute side by side; else the
profile's own times. From a
contention run at N, where there is one: how much the two slow each other; else on hosts from their cores. A step
of N ranks is then simulated: a bucket leaves when the slowest rank has it ready, and the step ends when the last bucket has
landed and been copied. The interval says where the median step of a real run should fall nine times in ten: by bootstrap
over the steps and over the bench's samples, and by the error that this model was seen to make (estimate.py).

Beside it stand three simple models, so that the gain of the elaborate one can be seen:

    linear     T_N = T_1
    Amdahl     T_N = T_1 (1 + e (N-1)), e = T_comm(N_0)/T_1 at the smallest world size N_0 that was benched, over N_0 - 1
    ring       T_N = T_1 + 2(N-1) alpha + 2(N-1)/N S/B, nothing hidden

at a fixed batch per rank; where the batch is fixed in all (strong scaling), T_1/N takes the place of T_1 in what is added to.
"""

from collections.abc import Iterator, Sequence

from analysis.advise import changes
from analysis.cost import cost_s, ring_s
from analysis.ddp import NO_CONTENTION
from analysis.drift import TOLD_DRIFT
from analysis.estimate import Estimate, comm_s, estimate, interval
from analysis.load import Run
from analysis.results import (
    BreakEven,
    CostModel,
    Interval,
    Model,
    Overhead,
    Prediction,
    PredictionSet,
    ScheduledBucket,
    ScheduledStep,
)
from analysis.scaling import ScalingKind, amdahl_step_s, compute_share_s, work_s
from analysis.situation import Situation, fit_costs, profile_run, situations
from commbench.rundir import now_utc
from commbench.units import format_bytes


def predict(runs: Sequence[Run], world_sizes: Sequence[int] = (), *, beside: Sequence[Run] = ()) -> PredictionSet:
    """Predict the step at each world size, by default at every one that was benched.

    `beside` as in `situations`.
    Synchronised runs on several ranks among `runs` are not looked at: they are what predictions are checked against.
    Raises UnusableData without a single-rank profile or a bench, BadInput for runs that cannot be combined.
    """
    costs = fit_costs(runs)
    known = situations(runs, sorted(set(world_sizes)) or list(costs), beside=beside)
    profile = profile_run(runs)
    single_s = profile.median_step_s()
    assert profile.info.workload is not None
    kind = profile.info.workload.scaling
    estimates = [estimate(situation) for situation in known]
    pairs = list(zip(known, estimates, strict=True))
    predictions = [p for pair in pairs for p in predict_all(*pair, single_s, costs[min(costs)], kind)]
    return PredictionSet(
        created_at=now_utc(),
        single_step_s=single_s,
        profile_run_id=profile.info.run_id,
        run_ids=tuple(run.info.run_id for run in runs if not (run.synchronised and run.world_size > 1)),
        predictions=tuple(predictions),
        overheads=tuple(overhead_of(*pair, single_s, kind) for pair in pairs),
        schedules=tuple(schedule_of(*pair) for pair in pairs),
        changes=tuple(change for situation in known for change in changes(situation, single_s)),
        scaling=kind,
        break_evens=tuple(break_even_of(situation, single_s, kind) for situation in known),
    )


def predict_all(
    situation: Situation, known: Estimate, single_s: float, anchor: CostModel, kind: ScalingKind
) -> list[Prediction]:
    """Return the four models' predictions for one world size. `anchor` is the smallest world size's cost."""
    n, cost = situation.world_size, situation.cost
    bucket_bytes = [situation.sent_share * bucket.num_bytes for bucket in situation.buckets]
    ring_comm_s = sum(ring_s(cost, size, n) for size in bucket_bytes)
    share_s, work = compute_share_s(single_s, n, kind), work_s(single_s, n, kind)
    anchored = work_s(single_s, anchor.world_size, kind) * (1 - 1 / anchor.world_size)
    serial = sum(cost_s(anchor, size) for size in bucket_bytes) / anchored
    term, amdahl = ("T_1", "T_1 (1 + e (N-1))") if kind == "weak" else ("T_1/N", "T_1 (e + (1-e)/N)")
    naive: dict[Model, tuple[str, float]] = {
        "ring": (f"{term} + sum over buckets of 2(N-1) alpha + 2(N-1)/N S/B", share_s + ring_comm_s),
        "amdahl": (f"{amdahl}, e = {serial:.3g}", amdahl_step_s(single_s, serial, n, kind)),
        "linear": (term, share_s),
    }
    ratio = work / comm_s(situation)

    def prediction(model: Model, formula: str, seconds: float, span: Interval | None) -> Prediction:
        return Prediction(
            model=model,
            formula=formula,
            world_size=n,
            step_s=seconds,
            interval_s=span,
            exposed_s=float(known.exposed_s[0]) if model == "schedule" else max(0.0, seconds - share_s),
            speedup=work / seconds,
            efficiency=work / seconds / n,
            ratio_compute_to_comm=ratio,
            extrapolated=situation.extrapolated,
            assumptions=tuple(_assumptions(situation, kind)) if model == "schedule" else (),
            exposed_interval_s=interval(known.exposed_s) if model == "schedule" else None,
        )

    schedule = prediction("schedule", "DDP's bucket schedule, simulated", float(known.step_s[0]), interval(known.step_s))
    return [schedule, *(prediction(model, formula, seconds, None) for model, (formula, seconds) in naive.items())]


def overhead_of(situation: Situation, known: Estimate, single_s: float, kind: ScalingKind) -> Overhead:
    """Split the predicted step into one rank's share, slower computation, waiting and exposed communication."""
    share_s = compute_share_s(single_s, situation.world_size, kind)
    return Overhead(
        world_size=situation.world_size,
        single_step_s=share_s,
        compute_s=situation.alone_s - share_s,
        waiting_s=float(known.compute_s[0]) - situation.alone_s,
        exposed_s=float(known.exposed_s[0]),
    )


def schedule_of(situation: Situation, known: Estimate) -> ScheduledStep:
    """Return the predicted step for people to look at."""
    timelines = known.timelines
    return ScheduledStep(
        world_size=situation.world_size,
        backward_start_s=known.backward_start_s,
        compute_end_s=float(timelines.compute_end_s[0]),
        step_s=float(timelines.end_s[0]),
        buckets=tuple(
            ScheduledBucket(
                num_bytes=int(situation.sent_share * bucket.num_bytes),
                ready_s=float(known.ready_s[0, index]),
                start_s=float(timelines.start_s[0, index]),
                done_s=float(timelines.done_s[0, index]),
                last_parameter=bucket.last_parameter,
            )
            for index, bucket in enumerate(known.buckets)
        ),
    )


def break_even_of(situation: Situation, single_s: float, kind: ScalingKind) -> BreakEven:
    """Return the three times that decide whether these ranks pay, before any of them is simulated."""
    return BreakEven(
        world_size=situation.world_size,
        work_s=work_s(single_s, situation.world_size, kind),
        compute_s=situation.alone_s,
        comm_s=comm_s(situation),
    )


def _assumptions(situation: Situation, kind: ScalingKind) -> list[str]:
    fixed = "the batch per rank stays as it is (weak scaling)" if kind == "weak" else "one batch is shared out (strong scaling)"
    notes = [fixed]
    if situation.traced_from is not None:
        notes.extend(_assumptions_of_traces(situation))
    elif not situation.measured_at_n:
        notes.append("copying gradients into and out of buckets is free")
    if situation.delayed:
        notes.append("gradients are sent after backward (distributed.synchronisation=delayed)")
    if situation.slowdown > 1:
        notes.append(
            f"{situation.world_size} ranks take {situation.slowdown:.3g} times as long to compute, for want of cores; "
            "profile with distributed.threads_per_rank as at that size, or give a compute-only run"
        )
    elif not situation.measured_at_n and situation.traced_from is None:
        notes.append(f"{situation.world_size} ranks compute as fast as one alone; no compute-only run at this size was given")
    if situation.extrapolated:
        notes.append(f"no bench on {situation.world_size} ranks; the wire is carried over by its {situation.cost.form}")
        notes += situation.cost.doubts
    if situation.drift >= TOLD_DRIFT:
        notes.append(f"the machine's pace drifts by {situation.drift:.0%} within these runs, and intervals are wider for it")
    largest, swept = max(b.num_bytes for b in situation.buckets), situation.cost.message_bytes[-1]
    if situation.sent_share * largest > swept:
        notes.append(f"the largest bucket is beyond the largest message benched ({format_bytes(swept)}); the line goes on")
    if situation.imported_from is not None:
        notes.append(f"the wire is that of {situation.imported_from}, a log with one mean time a size: its spread is unknown")
    if situation.contention_bytes is not None:
        rates = situation.contention
        notes.append(
            f"while both are active, computation runs at {rates.compute_rate:.0%} and communication at {rates.comm_rate:.0%} "
            f"of its speed alone, as measured with messages of {format_bytes(situation.contention_bytes)}"
        )
    elif situation.contention != NO_CONTENTION:
        notes.append(f"computation runs at {situation.contention.compute_rate:.0%} while gloo's threads need cores")
    return notes


def _assumptions_of_traces(situation: Situation) -> Iterator[str]:
    n, traced = situation.world_size, situation.traced_ranks
    yield f"the computation is that of {situation.traced_from}, traces whose profiler slowed it, less its exposed communication"
    if traced > 1:
        yield f"computing and sending slow each other as they did on the {traced} ranks traced; it is in the computation"
    if not situation.measured_at_n:
        yield f"{n} ranks compute as fast as the {traced} traced did"
