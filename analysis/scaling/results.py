"""What is said of a series at other numbers of ranks: types, and the speedups that they hold."""

import re
from dataclasses import dataclass

from commprof.analysis.runs.interval import Interval
from commprof.analysis.scaling.series import Interconnect
from commprof.analysis.scaling.speedup import ScalingKind

_WITHHELD = re.compile(r"withheld \((.*?)\)[:;] ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Extrapolated:
    """One N. Its value is in the table's measure, step times in seconds; None where it would be a guess, and is withheld.

    Speedup, efficiency and overhead (E_N = T_N - T_b for a fixed batch per rank, T_N - T_b b/N for one in all, over T_b) are
    counted from the smallest row, b ranks.
    """

    world_size: int
    value: float | None
    low: float | None
    high: float | None
    speedup: float | None
    efficiency: float | None
    overhead: float | None
    guess: bool
    notes: tuple[str, ...]
    measured: float | None
    relative_error: float | None

    @property
    def withheld_because(self) -> str:
        """Return why there is no answer, without what to do about it; empty where there is one."""
        found = [told for note in self.notes if self.value is None and (told := _WITHHELD.match(note))]
        return found[0][1] if found else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LawValues:
    """A named law beside the estimate: its weight among the laws, and its throughput or step time by number of ranks.

    Of numbers of ranks whose answer is withheld it tells nothing.
    """

    name: str
    weight: float
    values: dict[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class NextRow:
    """The row that would narrow the interval at `target` most; half its width over the value, now (None: withheld) and then."""

    world_size: int
    target: int
    half_width: float | None
    half_width_then: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Extrapolation:
    """One series: what was asked of it, and what the laws say.

    `mix` is there where one rank and another on its node are anchors, `growth` (of a rank's cost, a doubling) where the power
    law answers. `laws` are fitted on the node where the mix answers, else to all anchors, counted from the smallest.
    """

    series: str
    measure: str
    scaling: ScalingKind
    interconnect: Interconnect
    base: int
    anchors: dict[int, float]
    mix: dict[str, float]
    growth: dict[str, float]
    predictions: tuple[Extrapolated, ...]
    laws: tuple[LawValues, ...]
    next_row: NextRow | None

    def speedup_of(self, world_size: int, value: float) -> float:
        """Return the speedup over the smallest row of a value of the table's measure on N ranks."""
        single = self.anchors[self.base]
        if self.measure == "step_s":
            return (world_size / self.base if self.scaling == "weak" else 1) * single / value
        return (1 if self.measure == "throughput" else world_size / self.base) * value / single

    def speedup_interval(self, one: Extrapolated) -> Interval | None:
        """Return the speedup's 90 % interval, which a step's ends bound the other way round; None where it is withheld."""
        if one.low is None or one.high is None:
            return None
        low, high = sorted(self.speedup_of(one.world_size, end) for end in (one.low, one.high))
        return Interval(low=low, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A series of the table that tells nothing, and why."""

    series: str
    reason: str


def withheld(world_size: int, measured: float | None, notes: tuple[str, ...]) -> Extrapolated:
    """Return that there is no answer; the notes say why."""
    return Extrapolated(
        world_size=world_size, value=None, low=None, high=None, speedup=None, efficiency=None, overhead=None,
        guess=True, notes=notes, measured=measured, relative_error=None,
    )  # fmt: skip
