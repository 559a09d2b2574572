"""How will DDP carry the gradients of a training that was recorded on one rank, where nothing was wrapped yet?

A run on several ranks of the same training says. What one rank assumed gives way to what those say, where they say one thing.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from commprof.commbench.records.types import Workload


def told_settings(work: Workload, others: Iterable[Workload]) -> Workload:
    """Return a workload, each setting that it assumed replaced by that of its training under DDP, unless those differ."""
    peers = [other for other in others if _is_of(work, other)]
    found: dict[str, Any] = {}
    for name in (*work.assumed, "sent_share") if work.assumed else ():
        said = {getattr(peer, name) for peer in peers}
        if len(said) == 1:
            found[name] = said.pop()
    return replace(work, **found)


def _is_of(work: Workload, peer: Workload) -> bool:
    alike = (peer.experiment, peer.num_parameters) == (work.experiment, work.num_parameters)
    return peer.kind == "ddp" and not peer.assumed and alike
