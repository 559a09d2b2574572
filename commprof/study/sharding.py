"""How is a training of a study sharded, and which collectives does its prediction take? DDP's is not."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from commprof.train.config.exchange import DistributedConfig

Strategy = Literal["fsdp", "hsdp", "zero2"]  # as commprof predict --strategy names them

STRATEGY_OVERRIDES: Final[dict[str, tuple[str, ...]]] = {
    "ddp": ("distributed.strategy=ddp",),
    "fsdp": ("distributed.strategy=fsdp",),
    "hsdp": ("distributed.strategy=hsdp",),
    "zero2": ("distributed.strategy=fsdp", "distributed.reshard_after_forward=false"),
}

_OF_SCRIPTS: Final[dict[str, Strategy]] = {"fsdp": "fsdp", "hsdp": "hsdp", "zero2": "zero2"}
SCRIPT_STRATEGIES: Final = ("ddp", *_OF_SCRIPTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharding:
    """How a training is sharded: its strategy, HSDP's copies (1 of the others), and whether units are gathered ahead."""

    strategy: Strategy
    replicas: int
    prefetch: bool

    def collectives(self, world_size: int) -> Iterator[tuple[str, int]]:
        """Yield what a step of so many ranks sends, and among how many of them each time."""
        shards = world_size // self.replicas
        if shards > 1:
            yield from (("all_gather", shards), ("reduce_scatter", shards))
        if self.replicas > 1:
            yield "all_reduce", self.replicas


def sharding_of(distributed: DistributedConfig) -> Sharding | None:
    """Return how a training is sharded, None of DDP's."""
    if distributed.strategy == "ddp":
        return None
    copies = distributed.replicas if distributed.strategy == "hsdp" else 1
    whole: Strategy = "fsdp" if distributed.reshard_after_forward else "zero2"
    own = "hsdp" if distributed.strategy == "hsdp" else whole
    return Sharding(strategy=own, replicas=copies, prefetch=distributed.prefetch)


def script_sharding(strategy: str, replicas: int) -> Sharding | None:
    """Return how a script of one of SCRIPT_STRATEGIES shards, HSDP's in so many copies, None of DDP's; units are gathered as
    torch does by default."""
    own = _OF_SCRIPTS.get(strategy)
    return None if own is None else Sharding(strategy=own, replicas=replicas if own == "hsdp" else 1, prefetch=True)


def benched(shardings: Iterable[Sharding], world_sizes: Sequence[int]) -> list[tuple[str, int]]:
    """Return the collectives that sharded trainings of these numbers of ranks send, each once, by their ranks."""
    needed = {each for own in shardings for n in world_sizes for each in own.collectives(n)}
    return sorted(needed, key=lambda each: (each[1], each[0]))
