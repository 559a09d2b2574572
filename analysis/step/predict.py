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
    Amdahl     T_N = T_1 (1 + f (N-1)), f = T_comm(N_0)/T_1 at the smallest world size N_0 that was benched, over N_0 - 1
    ring       T_N = T_1 + 2(N-1) alpha + 2(N-1)/N S/B, nothing hidden

at a fixed batch per rank; where the batch is fixed in all (strong scaling), T_1/N takes the place of T_1 in what is added to.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from commprof.analysis.runs.interval import Interval
from commprof.analysis.scaling.speedup import ScalingKind, amdahl_step_s, compute_share_s, work_s
from commprof.analysis.step.ddp import NO_CONTENTION
from commprof.analysis.step.estimate import Estimate, carried_error, comm_s, estimate, interval
from commprof.analysis.step.evidence.drift import TOLD_DRIFT, too_wide
from commprof.analysis.step.inputs import Gathered, SingleRank, StepInputs
from commprof.analysis.step.language import compute_only_run
from commprof.analysis.step.results import BreakEven, Model, Overhead, Prediction, PredictionSet, ScheduledBucket, ScheduledStep
from commprof.analysis.wire.cost import cost_s
from commprof.analysis.wire.forms import ring_s
from commprof.analysis.wire.outside_sweep import unmeasured_sizes
from commprof.analysis.wire.results import CostModel
from commprof.commbench.records.rundir import now_utc
from commprof.commbench.units import format_bytes, format_seconds

CARRIED_FROM_BYTES: Final = 2**20  # smaller messages were 17 to 83 % off where their time had been carried to another N


def predict(gathered: Gathered) -> PredictionSet:
    """Predict the step at each world size gathered, as it is configured; what to change is advice, and added there."""
    single_s, kind = gathered.single.step_s, gathered.workload.scaling
    pairs = [(inputs, estimate(inputs)) for inputs in gathered.at]
    return PredictionSet(
        created_at=now_utc(),
        single_step_s=single_s,
        profile_run_id=gathered.profile_run_id,
        run_ids=gathered.run_ids,
        predictions=tuple(p for pair in pairs for p in predict_all(*pair, single_s, gathered.anchor, kind)),
        overheads=tuple(overhead_of(*pair, gathered.single, kind) for pair in pairs),
        schedules=tuple(schedule_of(*pair) for pair in pairs),
        changes=(),
        scaling=kind,
        break_evens=tuple(break_even_of(inputs, single_s, kind) for inputs in gathered.at),
    )


def predict_all(inputs: StepInputs, known: Estimate, single_s: float, anchor: CostModel, kind: ScalingKind) -> list[Prediction]:
    """Return the four models' predictions for one world size. `anchor` is the smallest world size's cost."""
    n, cost = inputs.world_size, inputs.cost
    bucket_bytes = [inputs.sent_share * bucket.num_bytes for bucket in inputs.buckets]
    ring_comm_s = sum(ring_s(cost, size, n) for size in bucket_bytes)
    share_s, work = compute_share_s(single_s, n, kind), work_s(single_s, n, kind)
    anchored = work_s(single_s, anchor.world_size, kind) * (1 - 1 / anchor.world_size)
    serial = sum(cost_s(anchor, size) for size in bucket_bytes) / anchored
    term, amdahl = ("T_1", "T_1 (1 + f (N-1))") if kind == "weak" else ("T_1/N", "T_1 (f + (1-f)/N)")
    naive: dict[Model, tuple[str, float]] = {
        "ring": (f"{term} + sum over buckets of 2(N-1) alpha + 2(N-1)/N S/B", share_s + ring_comm_s),
        "amdahl": (f"{amdahl}, f = {serial:.3g}", amdahl_step_s(single_s, serial, n, kind)),
        "linear": (term, share_s),
    }
    ratio, disturbed = work / comm_s(inputs), too_disturbed(inputs, known)

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
            extrapolated=inputs.extrapolated,
            assumptions=tuple(_assumptions(inputs, kind, disturbed)) if model == "schedule" else (),
            exposed_interval_s=interval(known.exposed_s) if span is not None else None,
            too_disturbed=disturbed if model == "schedule" else None,
            shares_cores=inputs.shares_cores and model == "schedule",
        )

    span = None if disturbed else interval(known.step_s)
    schedule = prediction("schedule", "DDP's bucket schedule, simulated", float(known.step_s[0]), span)
    return [schedule, *(prediction(model, formula, seconds, None) for model, (formula, seconds) in naive.items())]


def too_disturbed(inputs: StepInputs, known: Estimate) -> str | None:
    """Say why no interval is given, None where one is: the rule of `too_wide`, about what disturbs alone."""
    told = replace(inputs, beside=0.0)

    def undisturbed_s() -> Interval:
        return interval(estimate(replace(told, drift=0.0, between=0.0)).step_s)

    span_s = interval(known.step_s if inputs.beside == 0 else estimate(told).step_s)
    return too_wide(float(known.step_s[0]), span_s, undisturbed_s, drift=inputs.drift, between=inputs.between)


def overhead_of(inputs: StepInputs, known: Estimate, single: SingleRank, kind: ScalingKind) -> Overhead:
    """Split the predicted step into one rank's share, slower computation, waiting, copies and exposed communication.

    Copies were measured where the computation was, at N; they are at most what the computation is longer than one rank's.
    """
    share_s, own = compute_share_s(single.step_s, inputs.world_size, kind), inputs.computation
    slower_s = inputs.alone_s - share_s
    copies_s = float(own.copy_s[0] / own.step_s[0]) * inputs.alone_s - single.tail_s if inputs.measured_at_n else 0.0
    copies_s = min(max(0.0, copies_s), max(0.0, slower_s))
    waiting_draws_s = own.step_s - own.alone_s
    copies_draws_s = copies_s * own.copy_s / own.copy_s[0] if copies_s > 0 else np.zeros_like(own.copy_s)
    return Overhead(
        world_size=inputs.world_size,
        single_step_s=share_s,
        compute_s=slower_s - copies_s,
        copies_s=copies_s,
        waiting_s=float(known.compute_s[0]) - inputs.alone_s,
        exposed_s=float(known.exposed_s[0]),
        compute_interval_s=interval(known.compute_s - waiting_draws_s - copies_draws_s - share_s),  # pace differs here
        waiting_interval_s=interval(waiting_draws_s),
        copies_interval_s=interval(copies_draws_s),
        exposed_interval_s=interval(known.exposed_s),
    )


def schedule_of(inputs: StepInputs, known: Estimate) -> ScheduledStep:
    """Return the predicted step for people to look at."""
    timelines = known.timelines
    return ScheduledStep(
        world_size=inputs.world_size,
        backward_start_s=known.backward_start_s,
        compute_end_s=float(timelines.compute_end_s[0]),
        step_s=float(timelines.end_s[0]),
        buckets=tuple(
            ScheduledBucket(
                num_bytes=int(inputs.sent_share * bucket.num_bytes),
                ready_s=float(known.ready_s[0, index]),
                start_s=float(timelines.start_s[0, index]),
                done_s=float(timelines.done_s[0, index]),
                last_parameter=bucket.last_parameter,
            )
            for index, bucket in enumerate(known.buckets)
        ),
    )


def break_even_of(inputs: StepInputs, single_s: float, kind: ScalingKind) -> BreakEven:
    """Return the three times that decide whether these ranks pay, before any of them is simulated."""
    return BreakEven(
        world_size=inputs.world_size,
        work_s=work_s(single_s, inputs.world_size, kind),
        compute_s=inputs.alone_s,
        comm_s=comm_s(inputs),
    )


def _compute_only(inputs: StepInputs) -> str:
    return compute_only_run(inputs.world_size, configured=inputs.configured)


def _assumptions(inputs: StepInputs, kind: ScalingKind, disturbed: str | None) -> list[str]:
    fixed = "the batch per rank stays as it is (weak scaling)" if kind == "weak" else "one batch is shared out (strong scaling)"
    notes = [fixed] if disturbed is None else [fixed, disturbed]
    notes += inputs.pooled
    if inputs.traced_from is not None:
        notes.extend(_assumptions_of_traces(inputs))
    elif not inputs.measured_at_n:
        notes.append("copying gradients into and out of buckets is free")
    if inputs.delayed:
        notes.append("gradients are sent after backward, all communication exposed")
    if inputs.slowdown > 1:
        taken = (
            f", of which other processes kept {inputs.others_cores:.1f} busy beside the profile" if inputs.others_cores else ""
        )
        notes.append(
            f"{inputs.world_size} ranks take {inputs.slowdown:.3g} times as long to compute, for want of cores{taken}; "
            f"profile with as many threads as a rank has at that size, or add {_compute_only(inputs)}"
        )
    elif not inputs.measured_at_n and inputs.traced_from is None:
        notes.append(
            f"{inputs.world_size} ranks compute as fast as one alone; no compute-only run at this size was given, which would "
            f"add what ranks cost each other on one machine: {_compute_only(inputs)}"
        )
    if inputs.extrapolated:
        notes.append(f"no bench on {inputs.world_size} ranks; the wire is carried over by {inputs.cost.form}")
        notes += [*inputs.cost.doubts, *_doubtful_sizes(inputs)]
    if inputs.drift >= TOLD_DRIFT:
        notes.append(f"the machine's pace drifts by {inputs.drift:.0%} within these runs, and intervals are wider for it")
    notes += unmeasured_sizes(inputs.cost, [inputs.sent_share * bucket.num_bytes for bucket in inputs.buckets])
    if inputs.imported_from is not None:
        notes.append(f"the wire is that of {inputs.imported_from}, a log with one mean time a size: its spread is unknown")
    if inputs.workload.communication_hook in ("fp16", "bf16") and inputs.backend == "gloo":
        notes.append(
            "the wire was benched in float32: a sum of two-byte numbers keeps gloo's threads longer on the cores, 1.7 times "
            "for 8 MiB, which shows where no slower wire hides it"
        )
    notes += _assumptions_of_contention(inputs)
    return notes


def _doubtful_sizes(inputs: StepInputs) -> Iterator[str]:
    """Say which buckets are of sizes whose carried times were seen to be far off."""
    small = [size for b in inputs.buckets if (size := inputs.sent_share * b.num_bytes) < CARRIED_FROM_BYTES]
    if small:
        error = carried_error(min(small), inputs.backend)
        yield (
            f"{len(small)} of {len(inputs.buckets)} buckets are below {format_bytes(CARRIED_FROM_BYTES)}, where carried times "
            f"are off by {error:.0%}; add commprof bench --nproc {inputs.world_size}"
        )


def _assumptions_of_contention(inputs: StepInputs) -> Iterator[str]:
    own, sizes = inputs.contention.first, [format_bytes(size) for size in inputs.contention_bytes]
    span = " to ".join(dict.fromkeys([*sizes[:1], *sizes[-1:]]))
    if inputs.contention_form == "wait":
        yield (
            f"a bucket beside computation takes {format_seconds(float(own.wait_s))} longer whatever its size, "
            f"and computation is not slowed, as measured with messages of {span}"
        )
    elif inputs.contention_form == "rates":
        yield (
            f"while both are active, computation runs at {own.compute_rate:.0%} and communication at {own.comm_rate:.0%} "
            f"of its speed alone, as measured with messages of {span}"
        )
    elif own != NO_CONTENTION:
        yield f"computation runs at {own.compute_rate:.0%} while gloo's threads need cores"
    if inputs.contention_at:
        measured = ", ".join(map(str, inputs.contention_at))
        yield (
            f"contention was measured on {measured} ranks and not on {inputs.world_size}, and nothing tells how it grows with "
            f"the ranks: it is not used; add commprof contention --nproc {inputs.world_size}"
        )


def _assumptions_of_traces(inputs: StepInputs) -> Iterator[str]:
    n, traced = inputs.world_size, inputs.traced_ranks
    yield f"the computation is that of {inputs.traced_from}, traces whose profiler slowed it, less its exposed communication"
    if traced > 1:
        yield f"computing and sending slow each other as they did on the {traced} ranks traced; it is in the computation"
    if not inputs.measured_at_n:
        yield f"{n} ranks compute as fast as the {traced} traced did"
