"""Which strategy is the fastest of those that fit? Each asked for is answered, or refused with the reason.

Two strategies are within noise of each other where two runs of them would not put one before the other in 90 % of the draws.
What these share tells nobody apart, but for those of one rank beside those of ranks side by side: what one rank does not show
of several is in the one alone. A DeepSpeed engine's schedule shares its errors with nobody. Nothing is told apart where the
machine was too disturbed for an interval.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.runs.interval import Interval
from commprof.analysis.runs.load import Run, check_combinable, select
from commprof.analysis.runs.world_sizes import check_world_sizes
from commprof.analysis.step.estimate import Setting, estimate, interval, saved
from commprof.analysis.step.evidence.drift import drift_of, too_wide
from commprof.analysis.step.gather import gather
from commprof.analysis.step.predict import too_disturbed
from commprof.analysis.strategies.engine.inputs import STAGES, engine_inputs, engine_runs
from commprof.analysis.strategies.engine.memory import engine_memory
from commprof.analysis.strategies.estimate import ShardedEstimate, ShardedSetting, estimate_sharded
from commprof.analysis.strategies.inputs import ShardedInputs, plain_runs, sharded_inputs, sharded_runs
from commprof.analysis.strategies.memory import Keeping, ddp_memory, sharded_memory
from commprof.analysis.strategies.results import COPIES, Choice, Memory, Strategy, StrategyAnswer, UnitExchange
from commprof.analysis.strategies.unsharded import unsharded_timeline
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.training_kind import follows_ddp

Floats = NDArray[np.float64]

_TOLD_APART = 0.9
_BLOCKING = "a collective ends before the rank goes on, as gloo's do: nothing hides"
_ENGINES = "DeepSpeed's messages in the order of the profile, whose collectives block but for gathers that it asks for ahead"
_STREAMS = "gathers and reductions hide behind computation, which they are assumed not to slow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked: strategies, HSDP's copies, whether the next unit is gathered ahead, the bytes a rank may take, the pattern
    that names the units of a profile that is not sharded (None: its repeated blocks), and factors on every wire."""

    strategies: tuple[Strategy, ...]
    replicas: int = COPIES
    prefetch: bool = True
    memory_bytes: int | None = None
    units: str | None = None
    bandwidth: float = 1.0
    latency: float = 1.0

    @property
    def wire_notes(self) -> tuple[str, ...]:
        changed = (("bandwidth", self.bandwidth), ("latency", self.latency))
        return tuple(f"every wire has {factor:g} times the {name} that was benched" for name, factor in changed if factor != 1)


def choose(runs: Sequence[Run], world_sizes: Iterable[int], asked: Asked) -> list[Choice]:
    """Answer every strategy at each world size, by default at those that were benched.

    Raises BadInput for runs that cannot be combined or world sizes that mean nothing, UnusableData without any bench.
    """
    check_combinable(runs)
    sizes = sorted(set(world_sizes)) or sorted({run.world_size for run in select(runs, kind="bench") if run.world_size > 1})
    check_world_sizes(sizes, "-n")
    if not sizes:
        raise UnusableData("no bench run among those given; run commprof bench --nproc N and name its folder too")
    return [_choice(runs, n, asked) for n in sizes]


def _choice(runs: Sequence[Run], world_size: int, asked: Asked) -> Choice:
    found = [_answered(runs, strategy, world_size, asked) for strategy in asked.strategies]
    able = [own for own in found if own.step_s is not None and own.answer.fits is not False]
    fastest = min(able, key=lambda own: own.answer.step_s or 0.0, default=None)
    drift = drift_of(runs)
    alike = [own.answer.strategy for own in able if own is not fastest and fastest and not _apart(fastest, own, drift)]
    return Choice(
        world_size=world_size,
        answers=tuple(own.answer for own in found),
        fastest=None if fastest is None else fastest.answer.strategy,
        within_noise=tuple(alike),
        memory_bytes=asked.memory_bytes,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Answered:
    """An answer, the draws of its step, None where it cannot be told, whether its computation is that of ranks side by
    side, and whether its schedule is another library's, which is off by errors of its own."""

    answer: StrategyAnswer
    step_s: Floats | None = None
    side_by_side: bool = False
    foreign: bool = False


def _apart(first: _Answered, second: _Answered, drift: float) -> bool:
    assert first.step_s is not None and second.step_s is not None
    if first.answer.too_disturbed or second.answer.too_disturbed:
        return False
    second_s = second.step_s
    if first.side_by_side != second.side_by_side or first.foreign or second.foreign:
        second_s = np.random.default_rng(0).permutation(second_s)
    return float(np.mean(saved(first.step_s, second_s, drift, 0.0)[1:] < 0)) >= _TOLD_APART


def _answered(runs: Sequence[Run], strategy: Strategy, world_size: int, asked: Asked) -> _Answered:
    try:
        own = _ddp if strategy == "ddp" else _sharded
        found = own(runs, strategy, world_size, asked)
    except UnusableData as error:
        return _Answered(answer=StrategyAnswer(strategy=strategy, world_size=world_size, cannot=str(error)))
    memory = found.answer.memory
    if memory is None or asked.memory_bytes is None:
        return found
    return replace(found, answer=replace(found.answer, fits=_fits(memory, asked.memory_bytes)))


def _fits(memory: Memory, allowed_bytes: int) -> bool | None:
    """Say whether a rank's memory is at most what was allowed; None where it may not be, by what was not measured of it."""
    if memory.total > allowed_bytes:
        return False
    return True if memory.is_all else None


def _ddp(runs: Sequence[Run], strategy: Strategy, world_size: int, asked: Asked) -> _Answered:
    plain = ddp_runs(runs)
    if select(runs, kind="train") and not select(plain, kind="train"):
        raise UnusableData("DDP's step is told from a run on one rank that is not sharded, and none is given; name one")
    gathered = gather(plain, [world_size])
    (inputs,) = gathered.at
    known = estimate(inputs, Setting(bandwidth=asked.bandwidth, latency=asked.latency))
    disturbed = too_disturbed(inputs, estimate(inputs))
    memory, memory_cannot = told_ddp_memory(runs, bucket_view=inputs.workload.gradient_as_bucket_view)
    answer = StrategyAnswer(
        strategy=strategy,
        world_size=world_size,
        step_s=float(known.step_s[0]),
        interval_s=None if disturbed else interval(known.step_s),
        exposed_s=float(known.exposed_s[0]),
        num_replicas=world_size,
        memory=memory,
        memory_cannot=memory_cannot,
        extrapolated=inputs.extrapolated,
        assumptions=("as commprof predict tells it without --strategy", *asked.wire_notes, *([disturbed] if disturbed else [])),
        too_disturbed=disturbed,
    )
    return _Answered(answer=answer, step_s=known.step_s, side_by_side=inputs.measured_at_n)


def told_ddp_memory(runs: Sequence[Run], *, bucket_view: bool) -> tuple[Memory | None, str]:
    """Return a rank's memory under DDP, or why it cannot be told."""
    timelines = [run.units for run in sharded_runs(runs) if run.units is not None]
    plain = [run for run in plain_runs(runs) if run.info.workload is not None and run.info.workload.optimizer_bytes is not None]
    if not timelines and not plain:
        return None, "no run on one rank among those given tells what the optimizer keeps"
    return _told(lambda: ddp_memory(timelines[-1] if timelines else unsharded_timeline(plain[-1]), bucket_view=bucket_view))


def ddp_runs(runs: Sequence[Run]) -> list[Run]:
    """Return the runs that DDP's schedule may speak of, benches among them."""
    works = ((run, run.info.workload) for run in runs)
    return [run for run, work in works if work is None or follows_ddp(work.kind, run.world_size)]


def _sharded(runs: Sequence[Run], strategy: Strategy, world_size: int, asked: Asked) -> _Answered:
    if _is_engines(runs, strategy):
        inputs = engine_inputs(runs, world_size, strategy)
    else:
        inputs = sharded_inputs(runs, world_size, asked.replicas if strategy == "hsdp" else 1, asked.units)
    setting = ShardedSetting(
        resharded=strategy != "zero2", prefetch=asked.prefetch, bandwidth=asked.bandwidth, latency=asked.latency
    )
    known = estimate_sharded(inputs, setting)
    disturbed = sharded_too_disturbed(inputs, setting, known)
    memory, memory_cannot = told_sharded_memory(inputs, setting)
    answer = StrategyAnswer(
        strategy=strategy,
        world_size=world_size,
        step_s=float(known.step_s[0]),
        interval_s=None if disturbed else interval(known.step_s),
        exposed_s=float(known.exposed_s[0]),
        num_shards=inputs.num_shards,
        num_replicas=inputs.num_replicas,
        memory=memory,
        memory_cannot=memory_cannot,
        assumptions=(_schedule_note(inputs), *inputs.notes, *asked.wire_notes, *([disturbed] if disturbed else [])),
        exchanges=_exchanges(inputs, known),
        extrapolated=inputs.extrapolated,
        too_disturbed=disturbed,
        engine=inputs.timeline.zero is not None,
    )
    foreign = inputs.schedule_error > 0
    return _Answered(answer=answer, step_s=known.step_s, side_by_side=inputs.pool.measured_at_n, foreign=foreign)


def _schedule_note(inputs: ShardedInputs) -> str:
    if inputs.timeline.zero is not None:
        return _ENGINES
    return _BLOCKING if inputs.blocking else _STREAMS


def _is_engines(runs: Sequence[Run], strategy: Strategy) -> bool:
    """Say whether a strategy is asked of a DeepSpeed engine: fully_shard has a zero2 as well, of any other profile."""
    if strategy != "zero2":
        return strategy in STAGES
    return bool(engine_runs(runs)) and not sharded_runs(runs) and not plain_runs(runs)


def told_sharded_memory(inputs: ShardedInputs, setting: ShardedSetting) -> tuple[Memory | None, str]:
    """Return a rank's memory, or why it cannot be told."""
    if inputs.timeline.zero is not None:
        return _told(lambda: engine_memory(inputs.timeline, inputs.num_shards))
    keeping = Keeping(
        num_shards=inputs.num_shards, resharded=setting.resharded, prefetch=setting.prefetch, gloo=inputs.blocking
    )
    return _told(lambda: sharded_memory(inputs.timeline, keeping))


def sharded_too_disturbed(inputs: ShardedInputs, setting: ShardedSetting, known: ShardedEstimate) -> str | None:
    """Say why no interval is given, by the rule of DDP's own step: about what disturbs alone."""
    told = replace(inputs, beside=0.0, schedule_error=0.0)

    def undisturbed_s() -> Interval:
        return interval(estimate_sharded(replace(told, drift=0.0), setting).step_s)

    span_s = interval(known.step_s if inputs.beside == inputs.schedule_error == 0 else estimate_sharded(told, setting).step_s)
    return too_wide(float(known.step_s[0]), span_s, undisturbed_s, drift=inputs.drift)


def _told(memory: Callable[[], Memory]) -> tuple[Memory | None, str]:
    try:
        return memory(), ""
    except UnusableData as error:
        return None, str(error)


def _exchanges(inputs: ShardedInputs, known: ShardedEstimate) -> tuple[UnitExchange, ...]:
    units = inputs.timeline.units
    return tuple(
        UnitExchange(
            what=each.what,
            unit=units[each.unit].name or "(root)",
            direction=each.direction,
            num_bytes=_num_bytes(inputs, each.what, each.unit),
            start_s=float(each.start_s[0]),
            done_s=float(each.done_s[0]),
        )
        for each in known.played.exchanges
    )


def _num_bytes(inputs: ShardedInputs, what: str, unit: int) -> int:
    own = inputs.timeline.units[unit]
    whole = own.gathered_bytes(inputs.num_shards) if what == "gather" else own.reduced_bytes(inputs.num_shards)
    return whole // inputs.num_shards if what == "all_reduce" else whole
