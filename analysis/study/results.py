"""From which rate of the wire on N ranks pay, as kept in boundaries.json."""

from dataclasses import dataclass

from commprof.commbench.records.quantities import Ranks, Rate, RatioAboveZero, Time


@dataclass(frozen=True, slots=True, kw_only=True)
class WireRate:
    """A rate in bits per second: between the rates that were tried (`inside`), or beyond them; None where no wire is enough."""

    bits_per_s: Rate | None
    inside: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """An entry of boundaries.json: from which rate of the wire on N ranks are faster than one, as predicted.

    `by_ratio`: where R = W/T_comm reaches `ratio_needed`, nothing hidden; None where no R is
    enough. `by_schedule`: where the simulated step is below W.
    """

    experiment: str
    world_size: Ranks
    work_s: Time
    compute_s: Time
    ratio_needed: RatioAboveZero | None
    by_ratio: WireRate
    by_schedule: WireRate
