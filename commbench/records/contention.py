"""What a backward pass and an all-reduce take alone, and what both take at once."""

from dataclasses import dataclass
from statistics import median

from commprof.commbench.records.quantities import BytesAboveZero, Cores, Count, CountAboveZero, Ranks, Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentionMeasurement:
    """A backward pass and an all-reduce, each alone and both at once; samples are the slowest rank's, interleaved.

    While both run, each sample covers only time in which the other one was active too. The pass goes through `layers` layers of
    `matrix_size`; with none it is one product of such matrices, as older releases took.
    """

    message_bytes: BytesAboveZero
    world_size: Ranks
    matrix_size: CountAboveZero
    threads_per_rank: Cores
    compute_alone_s: Samples
    compute_with_comm_s: Samples
    comm_alone_s: Samples
    comm_with_compute_s: Samples
    timer: str
    layers: Count = 0

    @property
    def num_flop(self) -> int:
        """Floating-point operations of a unit's matrix products: two a layer, one of the first, which passes nothing on."""
        return 2 * self.matrix_size**3 * max(1, 2 * self.layers - 1)

    @property
    def compute_slowdown(self) -> float:
        return median(self.compute_with_comm_s) / median(self.compute_alone_s)

    @property
    def comm_slowdown(self) -> float:
        return median(self.comm_with_compute_s) / median(self.comm_alone_s)
