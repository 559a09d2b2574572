"""Laws over N, and what four times say.

With T_N = T_1/N + T_comm (strong scaling: the same work on N ranks) and R = T_1/T_comm,

    S(N) = T_1/T_N = 1 / (1/N + 1/R)        speedup above 1 needs R > N/(N-1); R = 3 gives 1.71 on 4 ranks

With a fixed batch per rank (weak scaling) T_N = T_1 + E_N and S(N) = N T_1/T_N = N / (1 + E_N/T_1): N ranks pay while
E_N < (N-1) T_1. Karp and Flatt (1990) read Amdahl's serial fraction from a measured speedup,

    e = (1/S - 1/N) / (1 - 1/N)

and Amdahl's law allows 0 <= e <= 1 only: a slowdown (S < 1) gives e > 1, which no serial fraction can.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from commprof.commbench.errors import BadInput

NOISE = 1.05  # what two runs on a quiet machine differ by: beyond N times that, one of them was disturbed

ScalingKind = Literal["weak", "strong"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """What one measured pair of times says. Times are for the same total work (strong scaling), in seconds."""

    world_size: int
    single_s: float
    parallel_s: float

    @property
    def speedup(self) -> float:
        return self.single_s / self.parallel_s

    @property
    def efficiency(self) -> float:
        return self.speedup / self.world_size

    @property
    def comm_s(self) -> float:
        """The time that does not shrink with N: T_N - T_1/N."""
        return self.parallel_s - self.single_s / self.world_size

    @property
    def ratio_compute_to_comm(self) -> float:
        """R = T_1/T_comm; infinite when nothing is lost."""
        return self.single_s / self.comm_s if self.comm_s > 0 else float("inf")

    @property
    def break_even_ratio(self) -> float:
        """The R above which N ranks are faster than one: N/(N-1)."""
        return self.world_size / (self.world_size - 1)

    @property
    def karp_flatt(self) -> float:
        return karp_flatt(self.speedup, self.world_size)

    @property
    def amdahl_possible(self) -> bool:
        return 0 <= self.karp_flatt <= 1

    @property
    def told(self) -> dict[str, float]:
        """Everything the two times say, for a document."""
        return {
            "world_size": self.world_size,
            "single_s": self.single_s,
            "parallel_s": self.parallel_s,
            "speedup": self.speedup,
            "efficiency": self.efficiency,
            "comm_s": self.comm_s,
            "ratio_compute_to_comm": self.ratio_compute_to_comm,
            "break_even_ratio": self.break_even_ratio,
            "karp_flatt": self.karp_flatt,
        }

    def explain(self) -> str:
        """Say in plain words what the two times mean, or that they cannot both be right."""
        n = self.world_size
        if self.speedup > n * NOISE:
            return (
                f"these times are not comparable, because {n} ranks take {self.parallel_s:.4g} s, less than 1/{n} of the "
                f"{self.single_s:.4g} s of one, which only caches could do that a part of the work fits into; measure one rank "
                "again"
            )
        pace = "faster" if self.speedup > 1 else "slower"
        lines = [
            f"{n} ranks take {self.parallel_s:.4g} s where one takes {self.single_s:.4g} s: speedup {self.speedup:.2f}x, "
            f"efficiency {self.efficiency:.1%}; the training is {pace} on {n} ranks than on one.",
            f"Perfect sharing would leave {self.single_s / n:.4g} s of computation; the other {self.comm_s:.4g} s are "
            f"communication and waiting. R = T_1/T_comm = {self.ratio_compute_to_comm:.2f}, and a gain needs "
            f"R > N/(N-1) = {self.break_even_ratio:.2f}.",
        ]
        if self.amdahl_possible:
            lines.append(f"Amdahl's law fits with a serial fraction of {self.karp_flatt:.2f} (Karp-Flatt).")
        else:
            lines.append(
                f"No Amdahl fraction can describe this: Karp-Flatt gives e = {self.karp_flatt:.2f}, outside 0 to 1. The lost "
                "time is not serial work but a cost that parallel running adds."
            )
        return "\n".join(lines)


def karp_flatt(speedup: float, world_size: int) -> float:
    """Return the serial fraction that Amdahl's law would need for this speedup (Karp and Flatt 1990)."""
    return (1 / speedup - 1 / world_size) / (1 - 1 / world_size)


def amdahl_step_s(single_s: float, serial_fraction: float, world_size: int, kind: ScalingKind = "weak") -> float:
    """Return the step at N when a fraction e of T_1 is serial: W (e + (1-e)/N), W being the work of a step on one rank.

    With a fixed batch per rank (weak scaling) W = N T_1, so that it is T_1 (1 + e (N-1)).
    """
    return work_s(single_s, world_size, kind) * (serial_fraction + (1 - serial_fraction) / world_size)


def work_s(single_s: float, world_size: int, kind: ScalingKind) -> float:
    """Return the seconds one rank takes for the samples of one step of N ranks: N T_1 under weak scaling, else T_1."""
    return world_size * single_s if kind == "weak" else single_s


def compute_share_s(single_s: float, world_size: int, kind: ScalingKind) -> float:
    """Return one rank's computation in a step of N ranks that do not disturb each other: T_1, or T_1/N of the same batch."""
    return work_s(single_s, world_size, kind) / world_size


def scalings_of(times_s: Mapping[int, float]) -> list[Scaling]:
    """Pair every world size with the time of one rank; raise BadInput without a single-rank time or a second one."""
    if any(n < 1 for n in times_s) or any(not 0 < seconds < float("inf") for seconds in times_s.values()):
        raise BadInput("--times needs ranks of 1 or more and seconds above 0, for example 1=19.53 4=42.34")
    if 1 not in times_s or len(times_s) < 2:
        raise BadInput("--times needs one rank's time and at least one other, for example 1=19.53 4=42.34")
    return [Scaling(world_size=n, single_s=times_s[1], parallel_s=seconds) for n, seconds in sorted(times_s.items()) if n > 1]
