"""Do two ranks have one GPU? NCCL refuses that, in its own words and late; asked at the store before NCCL is opened.

A rank that sees one GPU alone, as under `srun --gpus-per-task=1`, calls it number 0 like all others: only the card's place on
the bus tells them apart. Instances of one card have identifiers of their own.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from commprof.commbench.errors import BadInput
from commprof.commbench.machine import hardware


def card_of(device: torch.device, environ: Mapping[str, str] = os.environ) -> str:
    """Name a GPU as nobody else's is named: host, place on the bus, identifier. NCCL_HOSTID makes a host of its own."""
    properties: Any = torch.cuda.get_device_properties(device)  # torch declares no types for the PCI numbers
    place = f"{properties.pci_domain_id:04x}:{properties.pci_bus_id:02x}:{properties.pci_device_id:02x}.0"
    host = environ.get("NCCL_HOSTID") or hardware.hostname()
    return f"{host} {hardware.boot_id()} {place} {getattr(properties, 'uuid', '')}"


def refuse_shared_cards(store: Any, rank: int, world_size: int, card: str) -> None:  # noqa: ANN401  torch's store
    """Raise BadInput, on every rank, where two ranks have one card; NCCL_MULTI_RANK_GPU_ENABLE=1 lets them."""
    store.set(f"card/{rank}", card)
    cards = [store.get(f"card/{other}").decode() for other in range(world_size)]
    shared = first_shared(cards)
    if shared is not None and os.environ.get("NCCL_MULTI_RANK_GPU_ENABLE") != "1":
        host, _, place, *_ = cards[shared[0]].split(" ")
        ranks = " and ".join(map(str, shared))
        raise BadInput(
            f"ranks {ranks} have one GPU, {place} on {host}, and NCCL takes one rank a GPU; start fewer, or take gloo"
        )


def first_shared(cards: Sequence[str]) -> tuple[int, int] | None:
    """Return the first two ranks that have one card."""
    seen: dict[str, int] = {}
    for rank, card in enumerate(cards):
        if card in seen:
            return seen[card], rank
        seen[card] = rank
    return None
