"""Each rank of a foreign training writes a card of its own; the run's is put together from them when the command has ended.

    cards/rank00000.json    RankCard: the RunInfo that this rank knows, its host's facts and its kernel's number

No rank asks another one: a collective of ours among theirs would wait for ranks that do not train.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from commprof.commbench.errors import BadInput
from commprof.commbench.foreign.asked import Asked
from commprof.commbench.foreign.assembled import CARDS_FOLDER, RankCard
from commprof.commbench.foreign.memory import WatchedMemory
from commprof.commbench.machine import hardware
from commprof.commbench.ranks.launched import RankContext, place_on_host
from commprof.commbench.ranks.session import rank_info, run_card, sampled
from commprof.commbench.recorder.bucket_tap import told_by
from commprof.commbench.recorder.ddp_settings import assumed_settings, ddp_settings, element_bytes, frozen_bytes
from commprof.commbench.recorder.exchange import Exchange
from commprof.commbench.recorder.parallelism import training_kind
from commprof.commbench.recorder.sharded.choice import sends_because
from commprof.commbench.recorder.steps import StepRecorder
from commprof.commbench.records.rundir import RUN_FILE, read_document, without_secrets, write_document, write_new_document
from commprof.commbench.records.types import Workload


class RankRun:
    """This rank's part of the run: raises BadInput where another process has been this rank already."""

    def __init__(self, asked: Asked, model: nn.Module, device: torch.device) -> None:
        self._asked, self._model, self.device = asked, model, device
        self.folder = Path(asked.folder)
        self.context = place_of_rank()
        self._path = self.folder / CARDS_FOLDER / f"rank{self.context.rank:05d}.json"
        backend = "nccl" if device.type == "cuda" else "gloo"
        info = run_card("train", self.context, backend, self._workload(), [rank_info(self.context, device)])
        is_first = self.context.local_rank == 0
        card = RankCard(
            info=without_secrets(replace(info, run_id=self.folder.name)),
            host=hardware.host_info() if is_first else None,
            kernel=hardware.boot_id(),
        )
        if not write_new_document(self._path, card):
            raise BadInput(f"another process was rank {self.context.rank} of {self.context.world_size} before this one")
        if self.context.rank == 0:
            write_document(self.folder / RUN_FILE, card.info)  # a run that can be read whatever becomes of us
        self._exchange = Exchange()
        self._sampling = ExitStack()
        self._sampling.enter_context(sampled(self.folder, self.context))

    def amend(self, recorder: StepRecorder, *, in_turn: bool, unseen: Sequence[str], memory: WatchedMemory) -> None:
        """Write again, with what the steps have told since."""
        card = read_document(self._path, RankCard)
        assert card.info.workload is not None
        kind = training_kind(self._model, exchanged=self._exchange.seen(recorder.num_steps))
        workload = replace(
            card.info.workload,
            **asdict(ddp_settings(self._model, self._asked.bucket_cap_bytes)),
            samples_per_rank=self._asked.samples_per_rank or recorder.typical_samples or 1,
            accumulation=recorder.accumulation,
            kind="in_turn" if in_turn else kind,
            optimizer_bytes=memory.optimizer_bytes,
            activation_bytes=memory.activation_bytes,
            peak_bytes=memory.peak_bytes,
            **told_by(recorder.gradients.tap, recorder.units),
        )
        words = (*recorder.unseen(), *unseen, *self._sent_all_the_same())
        card = replace(card, info=replace(card.info, workload=workload, unseen=words))
        write_document(self._path, card)
        if self.context.rank == 0:
            write_document(self.folder / RUN_FILE, card.info)

    def _sent_all_the_same(self) -> Iterator[str]:
        if self._asked.compute_only and not self._is_silent():
            reason = sends_because(self._model)
            yield f"--compute-only keeps gradients and shards on their rank, but its ranks exchanged as ever, for {reason}"

    def _is_silent(self) -> bool:
        """Say whether the ranks send nothing: asked for, and of a kind that can be kept from it."""
        return self._asked.compute_only and (self.context.world_size == 1 or not sends_because(self._model))

    def close(self) -> None:
        self._sampling.close()

    def _workload(self) -> Workload:
        asked, model = self._asked, self._model
        num_parameters, gradient_bytes = element_bytes(model)
        if num_parameters == 0:
            raise BadInput("the parameters of the model have no elements on this rank, and nothing tells how many there are")
        return Workload(
            experiment=asked.experiment or Path(sys.argv[0]).stem or "recorded",
            num_parameters=num_parameters,
            gradient_bytes=gradient_bytes,
            frozen_bytes=frozen_bytes(model),
            samples_per_rank=asked.samples_per_rank or 1,
            sequence_length=None,
            synchronised=not self._is_silent(),
            synchronisation="compute_only" if self._is_silent() else "normal",
            precision="unknown",
            dataset=asked.dataset,
            kind=training_kind(model, exchanged=False),
            assumed=assumed_settings(model, asked.bucket_cap_bytes is not None),
            **asdict(ddp_settings(model, asked.bucket_cap_bytes)),
        )


def place_of_rank() -> RankContext:
    """Say which rank this is, by the script's process group and its launcher's variables, without asking another rank."""
    if not dist.is_initialized():
        return RankContext(rank=0, local_rank=0, world_size=1, local_world_size=1, launcher="single")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    local_rank, beside = place_on_host(os.environ, rank, world_size)
    return RankContext(rank=rank, local_rank=local_rank, world_size=world_size, local_world_size=beside, launcher="own")
