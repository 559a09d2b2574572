"""What would a training that is not sharded do, sharded? Its own steps on one rank, cut into units as fully_shard is told.

    units      the parameters below each name that a pattern (`blocks.*`) stands for, else below each of the repeated blocks:
               the outermost numbered modules, of which at least two hold parameters of the same names; the root has the rest
    backward   of a unit: from when the unit before had all its gradients to when it has (gradients.json)
    forward    shared out among the units as their backward is, and so is what it leaves for backward in memory
    copies     fully_shard's, into and out of its buffers: an element moves two words where AdamW moves seven, so of a unit's
               bytes S they take 2/7 of the update's seconds for S

fully_shard's bookkeeping between its hooks is not in it: nothing on such a rank does the like.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import groupby

from commprof.analysis.runs.load import Run
from commprof.analysis.strategies.memory import peak_if_sharded
from commprof.commbench.errors import BadInput, UnusableData
from commprof.commbench.records.sharding import (
    MAX_ROW_COUNTS,
    Mark,
    ShardedRows,
    ShardedSpan,
    ShardedUnit,
    ShardingTimeline,
)
from commprof.commbench.records.training import GradientTimeline, ParameterTiming, StepMeasurement
from commprof.commbench.records.types import Workload
from commprof.commbench.units import format_bytes

COPY_SHARE = 2 / 7  # words that a copy moves of those that AdamW's update does
_MAX_STEPS = 64  # the last ones, as of what a computation is drawn from


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """A unit's parameters together: the seconds that its backward took in the step that gradients.json is the median of."""

    name: str
    num_bytes: int
    num_tensors: int
    backward_s: float
    rows: tuple[ShardedRows, ...] = ()


def unsharded_timeline(run: Run, pattern: str | None = None) -> ShardingTimeline:
    """Return the step that `run`, one rank that is not sharded, would take sharded over itself.

    Raises UnusableData where its gradients were not recorded, parameters are frozen or no blocks repeat, BadInput for a
    pattern that no name fits.
    """
    gradients, work = _told_gradients(run), run.info.workload
    names = {p.name: name for p in gradients.parameters if (name := unit_name(p.name, pattern))} if pattern else {}
    if pattern and not names:
        some = gradients.parameters[0].name
        raise BadInput(f"--units {pattern!r} fits none of the parameters of {run.path}; they are named as {some}")
    names = names or repeated_blocks([p.name for p in gradients.parameters])
    if not names:
        raise UnusableData(f"no modules repeat in {run.path}, so its units are not known; name them with --units 'PREFIX.*'")
    root, blocks = _blocks(gradients.parameters, names, gradients.backward_s)
    steps = [step for step in run.steps[0] if step.counts][-_MAX_STEPS:]
    spans = tuple(_spans(root, blocks, steps, parts=1 if work is None else work.accumulation))
    own = ([root] if root.num_bytes else []) + list(blocks)
    held, whole_s = None if work is None else work.activation_bytes, gradients.backward_s or 1.0
    timeline = ShardingTimeline(
        rank=0,
        num_shards=1,
        num_replicas=1,
        num_steps=len(steps),
        num_others=0,
        units=tuple(_unit(block, held, block.backward_s / whole_s) for block in own),
        spans=spans,
        optimizer_bytes=None if work is None else work.optimizer_bytes,
        activation_bytes=held,
    )
    return timeline if work is None else replace(timeline, peak_bytes=_peak_bytes(timeline, work))


def _peak_bytes(timeline: ShardingTimeline, work: Workload) -> int | None:
    if None in (work.peak_bytes, work.optimizer_bytes, work.activation_bytes):
        return None
    wrapped = work.kind == "ddp"
    return peak_if_sharded(timeline, work.peak_bytes or 0, wrapped=wrapped, bucket_view=work.gradient_as_bucket_view)


def _told_gradients(run: Run) -> GradientTimeline:
    """Return when the gradients of all parameters were ready; raise UnusableData where that is not known."""
    gradients, work = run.gradients, run.info.workload
    if gradients is None or not gradients.parameters:
        raise UnusableData(f"{run.path} does not tell when its gradients were ready, so no units can be made of it")
    if work is not None and work.frozen_bytes:
        raise UnusableData(
            f"{format_bytes(work.frozen_bytes)} of the parameters of {run.path} are frozen, and nothing tells in which units; "
            "profile the script on one rank under fully_shard"
        )
    return gradients


def unit_name(parameter: str, pattern: str) -> str | None:
    """Return the part of a parameter's name that `pattern` stands for, component by component: blocks.* of blocks.3.weight."""
    wanted, own = pattern.split("."), parameter.split(".")
    fits = len(own) > len(wanted) and all(fnmatchcase(word, want) for word, want in zip(own, wanted, strict=False))
    return ".".join(own[: len(wanted)]) if fits else None


def repeated_blocks(names: Sequence[str]) -> dict[str, str]:
    """Return the repeated block of each parameter that belongs to one: the outermost numbered module of a list with twins."""
    inside: dict[str, dict[str, set[str]]] = {}
    for name in names:
        if (cut := _outermost(name)) is not None:
            parent, block, rest = cut
            inside.setdefault(parent, {}).setdefault(block, set()).add(rest)
    repeated = {parent for parent, blocks in inside.items() if len({frozenset(own) for own in blocks.values()}) < len(blocks)}
    return {name: cut[1] for name in names if (cut := _outermost(name)) is not None and cut[0] in repeated}


def _outermost(name: str) -> tuple[str, str, str] | None:
    """Cut blocks.3.attention.weight into blocks, blocks.3 and attention.weight; None of a name without a number."""
    words = name.split(".")
    place = next((i for i, word in enumerate(words[:-1]) if word.isdecimal()), None)
    if place is None:
        return None
    return ".".join(words[:place]), ".".join(words[: place + 1]), ".".join(words[place + 1 :])


def _blocks(
    parameters: Sequence[ParameterTiming], names: dict[str, str], backward_s: float
) -> tuple[_Block, tuple[_Block, ...]]:
    """Return the root, which has what is left of backward, and the blocks in the order of forward."""
    ordered = sorted((p for p in parameters if p.name in names), key=lambda p: names[p.name])
    groups = {name: list(own) for name, own in groupby(ordered, key=lambda p: names[p.name])}
    ends_s = sorted((max(p.ready_s for p in own), name) for name, own in groups.items())
    blocks, before_s = [], 0.0
    for end_s, name in ends_s:
        blocks.append(_block(name, groups[name], end_s - before_s))
        before_s = end_s
    rest = [p for p in parameters if p.name not in names]
    return _block("", rest, max(0.0, backward_s - before_s)), tuple(reversed(blocks))


def _block(name: str, parameters: Sequence[ParameterTiming], backward_s: float) -> _Block:
    size = sum(p.num_bytes for p in parameters)
    return _Block(name=name, num_bytes=size, num_tensors=len(parameters), backward_s=backward_s, rows=_rows(parameters))


def _rows(parameters: Sequence[ParameterTiming]) -> tuple[ShardedRows, ...]:
    """Return the bytes of parameters' rows by their number; none where it is not told of all, or does not divide them."""
    found: dict[int, int] = {}
    for parameter in parameters:
        rows = parameter.rows or 0
        if rows == 0 or parameter.num_bytes % rows:
            return ()
        found[rows] = found.get(rows, 0) + parameter.num_bytes // rows
    told = sorted(found.items()) if len(found) <= MAX_ROW_COUNTS else []
    return tuple(ShardedRows(rows=rows, gather_bytes=each, reduce_bytes=each) for rows, each in told)


def _unit(block: _Block, held_bytes: int | None, share: float) -> ShardedUnit:
    return ShardedUnit(
        name=block.name,
        num_bytes=block.num_bytes,
        num_tensors=block.num_tensors,
        gather_bytes=block.num_bytes,
        gather_dtype="float32",
        reduce_bytes=block.num_bytes,
        reduce_dtype="float32",
        resharded=bool(block.name),
        activation_bytes=None if held_bytes is None else round(held_bytes * share),
        rows=block.rows,
    )


def _spans(root: _Block, blocks: Sequence[_Block], steps: Sequence[StepMeasurement], parts: int) -> Iterator[ShardedSpan]:
    """Yield the step's marks, micro-batch by micro-batch, of which the last reduces; a root without parameters has no marks."""
    own = [root, *blocks] if root.num_bytes else list(blocks)
    whole_s, whole_bytes = sum(block.backward_s for block in (root, *blocks)), sum(block.num_bytes for block in own)
    num = {block.name: number for number, block in enumerate(own)}

    def span(until: Mark, block: _Block | None, seconds: Sequence[float], *, gathers: bool = False) -> ShardedSpan:
        unit = None if block is None else num.get(block.name)
        return ShardedSpan(until=until, unit=unit, gathers=gathers, samples_s=tuple(max(0.0, each) for each in seconds))

    def copy(block: _Block) -> list[float]:
        return [COPY_SHARE * step.optimizer_s * block.num_bytes / whole_bytes for step in steps]

    def forward(block: _Block) -> list[float]:
        return [step.forward_s / parts * block.backward_s / whole_s for step in steps]

    def backward(block: _Block, *, last: bool) -> list[float]:
        passes_s = [step.exchange_s if last else (step.backward_s - step.exchange_s) / max(1, parts - 1) for step in steps]
        return [pass_s * block.backward_s / whole_s for pass_s in passes_s]

    yield span("fetched", None, [step.data_s for step in steps])
    for part in range(parts):
        last = part == parts - 1
        if root.num_bytes:
            yield span("ready", root, copy(root), gathers=True)
        yield span("before", root, forward(root))
        for block in blocks:
            yield span("ready", block, copy(block), gathers=True)
            yield span("done", block, forward(block))
        for block in reversed(blocks):
            yield span("back_ready", block, copy(block), gathers=True)
            yield span("back_done", block, backward(block, last=last))
            if last:
                yield from (span(mark, block, seconds) for mark, seconds in _reduction(copy(block)))
        yield span("passes", None, backward(root, last=last))
        if last and root.num_bytes:
            yield from (span(mark, root, seconds) for mark, seconds in _reduction(copy(root)))
    yield span("passed", None, [0.0] * len(steps))
    yield span("updated", None, [step.optimizer_s for step in steps])
    named_s = [step.data_s + step.forward_s + step.backward_s + step.optimizer_s for step in steps]
    yield span("ended", None, [step.step_s - named for step, named in zip(steps, named_s, strict=True)])


def _reduction(copy_s: Sequence[float]) -> Iterator[tuple[Mark, Sequence[float]]]:
    """Yield a reduction's marks: its input is filled, and on one shard fully_shard's own copy stands for the wire."""
    yield "reduce_begun", [0.0] * len(copy_s)
    yield "reduce_filled", copy_s
    yield "reduced", copy_s
