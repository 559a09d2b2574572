"""Did the ranks exchange anything in these steps? Every process group numbers its collectives: the numbers tell."""

from typing import Any

import torch.distributed as dist


class Exchange:
    """Counts the collectives of all groups that this rank is in, from when it was made."""

    def __init__(self) -> None:
        self._before = _num_collectives()

    def seen(self, num_steps: int) -> bool:
        """Whether there was at least one collective a step: fewer are a loop's words now and then, no exchange of gradients."""
        return num_steps > 0 and _num_collectives() - self._before >= num_steps


def _num_collectives() -> int:
    """Return the collectives until now, 0 where there is no group; torch keeps the list of groups and the number to itself."""
    if not dist.is_initialized():
        return 0
    groups: Any = dist.distributed_c10d._world.pg_map
    return sum(group._get_sequence_number_for_group() for group in groups)
