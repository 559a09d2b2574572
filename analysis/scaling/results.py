"""What is said of a series at other numbers of ranks: types only."""

from dataclasses import dataclass

from commprof.analysis.scaling.series import Interconnect
from commprof.analysis.scaling.speedup import ScalingKind


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


@dataclass(frozen=True, slots=True, kw_only=True)
class LawValues:
    """A named law beside the estimate: its weight among the laws, and its throughput or step time by number of ranks."""

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
