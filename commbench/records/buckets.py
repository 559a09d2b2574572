"""DDP's buckets: which gradients travel together, from their sizes alone.

Gradients fill a bucket in the order they become ready; it closes when its size reaches its cap, so caps are minimum sizes. By
default the first bucket has a cap of 1 MiB and the others of 25 MiB; a user's own cap replaces both
(torch/csrc/distributed/c10d/reducer.cpp, compute_bucket_assignment_by_size).
"""

from collections.abc import Sequence

FIRST_CAP_BYTES, CAP_BYTES = 2**20, 25 * 2**20


def group_gradients(num_bytes: Sequence[int], first_cap_bytes: int, cap_bytes: int) -> list[range]:
    """Return each bucket's members as positions in `num_bytes`, which is in the order of readiness."""
    groups: list[range] = []
    start = filled_bytes = 0
    for position, size in enumerate(num_bytes):
        filled_bytes += size
        if filled_bytes >= (cap_bytes if groups else first_cap_bytes):
            groups.append(range(start, position + 1))
            start, filled_bytes = position + 1, 0
    return [*groups, range(start, len(num_bytes))] if start < len(num_bytes) else groups
