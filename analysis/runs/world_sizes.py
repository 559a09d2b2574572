"""Which numbers of ranks may be asked about?"""

from collections.abc import Iterable

from commprof.commbench.errors import BadInput
from commprof.commbench.records.quantities import MAX_RANKS


def check_world_sizes(world_sizes: Iterable[int], asked: str) -> None:
    """Raise BadInput for a number of ranks that nothing can be told of; `asked` names the flag or argument."""
    for world_size in world_sizes:
        if not 2 <= world_size <= MAX_RANKS:
            raise BadInput(f"{asked} {world_size}: ask about 2 to {MAX_RANKS} ranks")
