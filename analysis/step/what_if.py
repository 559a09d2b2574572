"""What would the step of N ranks be with something changed? `commprof predict` with factors; the report's page asks the same.

    speedup = W / T

T: the step with the changes. W: seconds that one rank takes for the samples of such a step, with the same changes: a batch that
spreads the optimizer's work over more samples does so on one rank as well. So N ranks never give more than N.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from commprof.analysis.runs.interval import Interval
from commprof.analysis.step.closing import closing
from commprof.analysis.step.estimate import Setting, converting_s, estimate, interval, speedup
from commprof.analysis.step.inputs import Gathered, SingleRank, StepInputs
from commprof.commbench.display.sheet import GAP, Block, Cell, Column, Row, Table, Words, line
from commprof.commbench.units import format_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """The step of `world_size` ranks with the changes, and `step_now_s` without them; seconds.

    `samples`: times the samples of a step now. `interval_s`: 90 % of the draws. `extrapolated`: the wire at this size was
    carried over from another. `converting_s` is the part of `compute_s` that turns gradients into fewer bytes and back.
    """

    world_size: int
    step_s: float
    interval_s: Interval
    step_now_s: float
    compute_s: float
    exposed_s: float
    samples: float
    speedup: float
    num_buckets: int
    extrapolated: bool
    converting_s: float = 0.0


def what_if(gathered: Gathered, setting: Setting) -> list[WhatIf]:
    """Return the changed step at each world size gathered."""
    return [answer(inputs, setting, gathered.single) for inputs in gathered.at]


def answer(inputs: StepInputs, setting: Setting, single: SingleRank) -> WhatIf:
    """Return the step of one inputs with the changes. `single` is one rank's step as measured."""
    then = estimate(inputs, setting)
    return WhatIf(
        world_size=inputs.world_size,
        step_s=float(then.step_s[0]),
        interval_s=interval(then.step_s),
        step_now_s=float(estimate(inputs).step_s[0]),
        compute_s=float(then.compute_s[0]),
        exposed_s=float(then.exposed_s[0]),
        samples=then.samples,
        speedup=speedup(inputs, single, setting, then),
        num_buckets=len(then.buckets),
        extrapolated=inputs.extrapolated,
        converting_s=converting_s(inputs, setting),
    )


def what_if_sheet(answers: Sequence[WhatIf], disturbed: str | None = None) -> list[Block]:
    """Lay out the changed steps, after how the machine was `disturbed`, for then no interval holds what others took.

    What is computed and what is exposed add up to the changed step.
    """
    columns = (
        Column(name="ranks", width=5, before="", key=True),
        Column(name="step now", width=8),
        Column(name="computed", width=8),
        Column(name="exposed", width=7),
        Column(name="= changed", width=9),
        Column(name="90 % interval", width=20),
        Column(name="speedup", width=7),
    )
    notes = [GAP, line("speedup: samples/s over those of one rank with the same changes")]
    notes.append(Words(f"buckets: {', '.join(f'{a.num_buckets} on {a.world_size} ranks' for a in answers)}"))
    if converting := ", ".join(f"{format_seconds(a.converting_s)} on {a.world_size} ranks" for a in answers if a.converting_s):
        notes.append(Words(f"turning gradients into fewer bytes and back takes, of what is computed: {converting}"))
    if samples := next((a.samples for a in answers if a.samples != 1), None):
        notes.append(line(f"a changed step has {samples:.4g} times the samples of a step now"))
    if carried := [str(a.world_size) for a in answers if a.extrapolated]:
        notes.append(line(f"no bench on {', '.join(carried)} ranks; the wire is carried over by the ring's formula"))
    warned: list[Block] = []
    if disturbed is not None:
        warned = [Words("What the change brings cannot be told.", tone="strong"), Words(disturbed, tone="bad"), GAP]
    return [*warned, Table(columns=columns, rows=[_row(a, disturbed=disturbed is not None) for a in answers]), *notes]


def _row(a: WhatIf, *, disturbed: bool) -> Row:
    (computed, exposed), changed = closing((a.compute_s, a.exposed_s))
    return Row(
        (
            str(a.world_size),
            format_seconds(a.step_now_s),
            computed,
            exposed,
            changed,
            "too disturbed" if disturbed else f"{format_seconds(a.interval_s.low)} - {format_seconds(a.interval_s.high)}",
            Cell(f"{a.speedup:.2f}x", "plain" if disturbed else "good" if a.speedup > 1 else "bad"),
        )
    )
