"""Which articles each rank takes at which step, and how they come to it.

The order follows from the seed, the epoch and the ranks alone. Loader workers only read ahead: with any number of them
the batches are the same.
"""

import atexit
import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, TensorDataset

from commprof.commbench.errors import RunFailed
from commprof.commbench.ranks.launched import RankContext
from commprof.commbench.ranks.stopping import die_with_parent
from commprof.train.config.schedule import samples_per_rank
from commprof.train.config.types import TrainConfig
from commprof.train.text.dataset import EncodedText

Batch = tuple[Tensor, Tensor]


def batches_of(text: EncodedText, config: TrainConfig, context: RankContext, device: torch.device) -> DataLoader[Batch]:
    """Return this rank's share of the shuffled articles in full batches: tokens [batch, sequence], labels [batch]."""
    dataset: Any = TensorDataset(torch.from_numpy(text.tokens), torch.from_numpy(text.labels))
    sampler: DistributedSampler[int] = DistributedSampler(
        dataset, context.world_size, context.rank, shuffle=True, seed=config.training.seed, drop_last=True
    )
    workers = config.loader.workers
    return DataLoader(
        dataset,
        sampler=BatchSampler(sampler, samples_per_rank(config.training, context.world_size), drop_last=True),
        batch_size=None,
        # An epoch's beginning must take nothing from dropout's numbers: a run may go on in the midst of one.
        generator=torch.Generator(),
        num_workers=workers,
        prefetch_factor=config.loader.prefetch if workers else None,
        persistent_workers=workers > 0,
        pin_memory=config.loader.pinned and device.type == "cuda",
        worker_init_fn=_follow_the_rank if workers else None,
    )


def endless(loader: DataLoader[Batch], first_step: int = 0) -> Iterator[Batch]:
    """Yield batches epoch after epoch from a step on, each epoch shuffled anew and alike on all ranks."""
    first_epoch, skipped = divmod(first_step, len(loader))
    epoch = first_epoch
    while True:
        assert isinstance(loader.sampler, BatchSampler) and isinstance(loader.sampler.sampler, DistributedSampler)
        loader.sampler.sampler.set_epoch(epoch)
        batches = iter(loader)
        if epoch == first_epoch and loader.num_workers:
            atexit.register(_end_workers)  # runs before what torch and multiprocessing have registered until here
        yield from islice(batches, skipped, None)
        epoch, skipped = epoch + 1, 0


def _follow_the_rank(worker: int) -> None:
    """Live as long as the rank does: signals to the whole job are the rank's to answer, and nobody outlives a killed rank."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_IGN)
    die_with_parent(signal.SIGKILL)


def _end_workers() -> None:
    """End the workers that are left when the rank ends; Python itself would ask them with SIGTERM and wait."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler takes a killed worker for an error
    for worker in multiprocessing.active_children():
        worker.kill()


@contextmanager
def naming_lost_workers(rank: int) -> Iterator[None]:
    """Turn the error for a loader worker that died into RunFailed, which says what may help.

    It comes from torch's SIGCHLD handler, at any line whatever, or before that from the pipe on which a batch was coming.
    """
    try:
        yield
    except (RuntimeError, ConnectionResetError, EOFError) as error:
        if isinstance(error, RuntimeError) and not str(error).startswith("DataLoader worker"):
            raise
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the handler must not interrupt what is still to be written
        reason = (str(error).splitlines() or ["end of its pipe"])[0].rstrip(". ").removeprefix("DataLoader worker ")
        raise RunFailed(f"rank {rank}: DataLoader worker {reason}; give the host more memory or lower loader.workers") from None
