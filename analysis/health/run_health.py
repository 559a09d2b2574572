"""Is this normal? What a run's own records say is wrong with it: how it ended, what it measured, the shape of its curve.

A healthy curve needs no model to be recognised: single sizes do not stand out, and the largest message has about the best
bandwidth. What breaks them is named with its size, and only beyond what the medians' own intervals explain.
"""

from collections.abc import Iterator, Sequence

from commprof.analysis.health.evidence import Evidence, judged_series, median_bounds_s, some
from commprof.analysis.health.results import Verdict
from commprof.analysis.health.spikes import SPIKE, spikes
from commprof.analysis.runs.disturbance import most_disturbed
from commprof.commbench.records.types import CollectiveMeasurement
from commprof.commbench.units import format_bytes, format_rate, format_seconds

_MAX_FALL = 0.2  # half of it is worth a note: PCIe boxes that change algorithm lose a tenth, switched ones nothing
_COLD = 10.0  # times the median: setting up connections takes milliseconds, a small message microseconds


def health(evidence: Evidence) -> list[Verdict]:
    """Return the verdicts on how a run ended, whether it measured a wire, and the shape of its curves."""
    return [
        _ending(evidence),
        *_results(evidence),
        *_ranks(evidence),
        *_transport(evidence),
        *_cores(evidence),
        *_falling(evidence),
        *spikes(evidence),
        *_cold_calls(evidence),
        *_second_tries(evidence),
    ]


def _ending(evidence: Evidence) -> Verdict:
    info, run = evidence.run.info, evidence.run
    measured = len(run.collectives) + len(run.links) + len(run.pairs)
    if info.status == "completed":
        return Verdict(name="ending", ok=True, message=f"completed, {measured} measurements")
    message = f"status {info.status} after {measured} measurements: {info.failure or 'no reason recorded'}"
    if info.status == "running":
        return Verdict(name="ending", ok=True, note=True, message=f"{message}; it is still going, or was killed")
    return Verdict(name="ending", ok=False, message=message)


def _results(evidence: Evidence) -> Iterator[Verdict]:
    """Yield whether the collectives gave what they should, where results were verified at all."""
    counts = [(f"{m.op} of {format_bytes(m.message_bytes)}", m.num_wrong) for m in evidence.run.collectives]
    counts += [(f"burst of {len(b.bucket_bytes)} {b.op}", b.num_wrong) for b in evidence.bursts]
    verified = [(what, wrong) for what, wrong in counts if wrong is not None]
    if not counts:
        return
    if not verified:
        yield Verdict(name="results", ok=None, message="not checked: results were not verified (-c 0)")
        return
    bad = [f"{wrong} elements in the {what}" for what, wrong in verified if wrong]
    message = f"wrong: {some(bad)}; mend the installation before timing it" if bad else f"{len(verified)} verified, none wrong"
    yield Verdict(name="results", ok=not bad, measured=sum(wrong for _, wrong in verified), limit=0, unit="1", message=message)


def _ranks(evidence: Evidence) -> Iterator[Verdict]:
    """One rank talks to nobody; whether more were meant is what the surroundings tell."""
    info = evidence.run.info
    if info.kind != "bench":
        return
    if info.world_size > 1:
        yield Verdict(
            name="ranks",
            ok=True,
            message=f"{info.world_size} ranks, hosts: {evidence.run.num_nodes or 'unknown'}, backend {info.backend}",
        )
        return
    signs = list(_signs_of_more(evidence))
    message = f"one rank ({info.launcher}) measured no wire, so its busbw is 0"
    mend = "start the ranks together with --nproc N or torchrun"
    message += f", although {' and '.join(signs)}; {mend}" if signs else f"; {mend}"
    yield Verdict(name="ranks", ok=not signs, note=not signs, message=message)


def _transport(evidence: Evidence) -> Iterator[Verdict]:
    """Note what the NCCL lines of an imported log say of the way that its bytes took."""
    if (said := evidence.run.info.transport) is not None:
        yield Verdict(name="transport", ok=True, note=True, message=f"NCCL says: {said}; the times are those of that way")


def _signs_of_more(evidence: Evidence) -> Iterator[str]:
    info = evidence.run.info
    for name in ("SLURM_NTASKS", "SLURM_JOB_NUM_NODES"):
        value = info.environ.get(name, "")
        if value.isdecimal() and int(value) > 1:
            yield f"{name} is {value}"
    if info.on_cpu:
        return
    visible = info.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and "," in visible:
        yield f"CUDA_VISIBLE_DEVICES names {visible.count(',') + 1} GPUs"
    elif visible is None and (most := max((len(host.gpus) for host in evidence.hosts or ()), default=0)) > 1:
        yield f"the host has {most} GPUs"


def _cores(evidence: Evidence) -> Iterator[Verdict]:
    info = evidence.run.info
    if not info.on_cpu or info.imported_from is not None:
        return
    asked = info.ranks_per_machine * info.threads_per_rank
    threads = f"{info.threads_per_rank} thread{'s' * (info.threads_per_rank != 1)} each"
    message = f"{info.ranks_per_machine} ranks a machine, {threads}, {info.cores_per_node} cores"
    if info.oversubscribed:
        message += ": they take turns, and the times hold that waiting; start fewer ranks or lower OMP_NUM_THREADS"
    yield Verdict(
        name="cores", ok=not info.oversubscribed, measured=asked, limit=info.cores_per_node, unit="1", message=message
    )


def _falling(evidence: Evidence) -> Iterator[Verdict]:
    """Yield whether the largest message has clearly less bandwidth than the best one; dips between are spikes."""
    ends = [
        (_fall(sizes), series, max(sizes, key=lambda m: m.busbw_bytes_per_s), sizes[-1])
        for series, sizes in judged_series(evidence).items()
        if series.world_size > 1 and len(sizes) > 1
    ]
    if not ends:
        return
    share, series, best, last = max(ends, key=lambda end: end[0])
    info = evidence.run.info
    caches = info.on_cpu and evidence.run.num_nodes == 1
    message = f"busbw at the largest message is at most {share:.0%} below its best (limit {_MAX_FALL:.0%}, noise allowed for)"
    if share > _MAX_FALL / 2:
        message = (
            f"busbw falls from {format_rate(best.busbw_bytes_per_s)} at {format_bytes(best.message_bytes)} to "
            f"{format_rate(last.busbw_bytes_per_s)} at {format_bytes(last.message_bytes)} ({series.label}), by {share:.0%} "
            f"even after noise; {'one host: large messages leave the caches' if caches else 'a wire does not slow with size'}"
        )
    fails = share > _MAX_FALL and not caches
    noted = share > _MAX_FALL / 2 and not fails
    yield Verdict(name="falling", ok=not fails, note=noted, measured=share, limit=_MAX_FALL, unit="1", message=message)


def _fall(sizes: Sequence[CollectiveMeasurement]) -> float:
    """Return the share of the best busbw that the largest message lost, after the noise of both medians."""
    best = max(m.message_bytes / median_bounds_s(m)[1] for m in sizes)
    last = sizes[-1].message_bytes / median_bounds_s(sizes[-1])[0]
    return max(0.0, 1 - last / best)


def _cold_calls(evidence: Evidence) -> Iterator[Verdict]:
    """Note first calls far above the median: what a program pays once and a benchmark's warm-up hides."""
    timed = [(m.cold_s / m.median_s, m.cold_s, m) for m in evidence.run.collectives if m.cold_s is not None]
    if not timed:
        return
    cold = sorted((found for found in timed if found[0] > _COLD), key=lambda found: -found[1])
    message = f"no first call of a size takes over {_COLD:.0f} medians"
    if cold:
        named = [f"{format_seconds(cold_s)} at {format_bytes(m.message_bytes)} ({ratio:.0f}x)" for ratio, cold_s, m in cold]
        message = f"first calls over {_COLD:.0f} medians, kept out of the times: {some(named)}"
    worst = max(ratio for ratio, _, _ in timed)
    yield Verdict(name="cold", ok=True, note=bool(cold), measured=worst, limit=_COLD, unit="1", message=message)


def _second_tries(evidence: Evidence) -> Iterator[Verdict]:
    """Say of the iterations that were far out whether they came out so again."""
    tries = [(m, again) for m in evidence.run.collectives for again in m.remeasured]
    if not tries:
        return
    repeated = [
        f"{format_seconds(again.slowest_rank_s)} at {format_bytes(m.message_bytes)}"
        for m, again in tries
        if again.slowest_rank_s > SPIKE * m.median_s
    ]
    message = f"{len(tries)} samples were far out and measured again; {len(tries) - len(repeated)} did not repeat"
    others = most_disturbed(evidence.run, evidence.hosts, evidence.telemetry) is not None
    reason = "other processes took cores meanwhile" if others else "the slowness is real"
    message += f", {len(repeated)} did ({some(repeated)}): {reason}" if repeated else ": passing disturbances"
    yield Verdict(name="second tries", ok=True, note=True, measured=len(repeated), unit="1", message=message)
