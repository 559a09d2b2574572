"""Which messages lie outside the sizes that were swept, where the fitted line stands in for a measurement?"""

from collections.abc import Iterator, Sequence

from commprof.analysis.wire.cost import BUCKET_RANGE, curve_points
from commprof.analysis.wire.results import CostModel
from commprof.commbench.units import format_bytes


def unmeasured_sizes(cost: CostModel, sizes: Sequence[float]) -> Iterator[str]:
    """Yield what has to be assumed of those of DDP's buckets, in bytes sent, that no swept size lies below or above."""
    (smallest, _), *_, (largest, _) = curve_points(cost)
    if below := sum(size < smallest for size in sizes):
        yield (
            f"{below} of {len(sizes)} buckets are below the smallest message benched ({format_bytes(smallest)}); "
            "the fitted line goes on"
        )
    if max(sizes) > largest:
        yield f"the largest bucket is beyond the largest message benched ({format_bytes(largest)}); the line goes on"


def unmeasured_buckets(cost: CostModel) -> str | None:
    """Say from which size on a sweep that leaves out small buckets was measured; None where it begins below them."""
    smallest, _ = curve_points(cost)[0]
    if smallest <= BUCKET_RANGE[0]:
        return None
    return f"nothing was measured below {format_bytes(smallest)}; the fitted line goes on there, its latency a guess"
