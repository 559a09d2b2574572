"""Trains with and without a recorder, one loop a case; says on rank 0 where the gradients differ.

Run by every rank: `torchrun --nproc-per-node N recorded_loops.py FOLDER cpu` (or cuda) prints one JSON
object: for each case the largest difference of any gradient while recording and after it, and what the recorder saw.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from commprof.commbench.ranks.stopping import end_process
from commprof.commbench.recorder.bucket_tap import Hook
from commprof.commbench.recorder.own_loop import record_steps
from commprof.commbench.recorder.phases import Phase
from commprof.commbench.recorder.steps import StepRecorder
from commprof.commbench.records.rundir import read_records
from commprof.commbench.records.training import StepMeasurement

BATCH, STEPS, AFTER = 6, 4, 3


class Network(nn.Module):
    """Words in, words out, with the same table on both sides; `side` is used in every other step only."""

    def __init__(self, tied: bool = True, frozen: bool = False, sometimes: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 8)
        self.middle = nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 8))
        self.side = nn.Linear(8, 8)
        self.head = nn.Linear(8, 50, bias=False)
        self.sometimes = sometimes
        self.calls = 0
        if tied:
            self.head.weight = self.table.weight
        if frozen:
            self.middle[0].requires_grad_(False)

    def forward(self, tokens: Tensor) -> Tensor:
        self.calls += 1
        features = self.middle(self.table(tokens))
        if not self.sometimes or self.calls % 2:
            features = features + self.side(features)
        logits: Tensor = self.head(features)
        return logits


@dataclass(frozen=True, kw_only=True)
class Case:
    network: Callable[[], Network] = Network
    ddp: dict[str, Any] | None = None
    hook: Hook | None = None
    hook_late: bool = False
    accumulation: int = 1
    autocast: bool = False
    scaler: bool = False
    optimizers: int = 1


CASES = {
    "plain": Case(),
    "small buckets": Case(ddp={"bucket_cap_mb": 0.001}),
    "frozen": Case(network=partial(Network, frozen=True)),
    "untied": Case(network=partial(Network, tied=False)),
    "find unused": Case(network=partial(Network, sometimes=True), ddp={"find_unused_parameters": True, "bucket_cap_mb": 0.001}),
    "static graph": Case(ddp={"static_graph": True, "bucket_cap_mb": 0.001}),
    "bucket view": Case(ddp={"gradient_as_bucket_view": True}),
    "accumulation": Case(accumulation=3, ddp={"bucket_cap_mb": 0.001}),
    "autocast": Case(autocast=True),
    "scaler": Case(scaler=True),
    "two optimizers": Case(optimizers=2),
    "hook": Case(hook=default_hooks.fp16_compress_hook),
    "hook registered later": Case(hook=default_hooks.fp16_compress_hook, hook_late=True),
}


def train(case: Case, device: torch.device, folder: Path | None) -> list[list[Tensor]]:
    """Return the gradients of every step: STEPS of them recorded into `folder`, if there is one, then AFTER more."""
    torch.manual_seed(0)
    model = DistributedDataParallel(case.network().to(device), **(case.ddp or {}))
    if case.hook is not None and not case.hook_late:
        model.register_comm_hook(None, case.hook)
    halves = [list(model.parameters())[part :: case.optimizers] for part in range(case.optimizers)]
    optimizers = [torch.optim.SGD(half, lr=0.1) for half in halves]
    scaler = torch.amp.GradScaler(device.type, enabled=case.scaler, init_scale=8.0)
    torch.manual_seed(1 + dist.get_rank())
    recording = nullcontext() if folder is None else record_steps(model, samples_per_rank=BATCH, warmup_steps=1, folder=folder)
    with recording as recorder:
        if case.hook_late:
            model.register_comm_hook(None, case.hook)
        gradients = [one_step(case, device, model, optimizers, scaler, recorder) for _ in range(STEPS)]
    return [*gradients, *(one_step(case, device, model, optimizers, scaler, None) for _ in range(AFTER))]


def one_step(
    case: Case,
    device: torch.device,
    model: DistributedDataParallel,
    optimizers: list[torch.optim.SGD],
    scaler: torch.amp.GradScaler,
    recorder: StepRecorder | None,
) -> list[Tensor]:
    def phase(name: Phase) -> AbstractContextManager[None]:
        return nullcontext() if recorder is None else recorder.phase(name)

    with nullcontext() if recorder is None else recorder.step():
        for part in range(case.accumulation):
            last = part == case.accumulation - 1
            with nullcontext() if last else model.no_sync(), torch.autocast(device.type, torch.bfloat16, enabled=case.autocast):
                with phase("forward"):
                    tokens = torch.randint(50, (BATCH, 5), device=device)
                    loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
                with phase("backward"):
                    scaler.scale(loss / case.accumulation).backward()
        with phase("optimizer"):
            seen = [p.grad.clone() for p in model.parameters() if p.grad is not None]
            for optimizer in optimizers:
                scaler.step(optimizer)
                optimizer.zero_grad()
            scaler.update()
    return seen


def differences(plain: list[list[Tensor]], recorded: list[list[Tensor]]) -> Iterator[float]:
    for left, right in zip(plain, recorded, strict=True):
        yield max(float((a - b).abs().max()) for a, b in zip(left, right, strict=True))


def main(folder: Path, device_type: str) -> None:
    device = torch.device(device_type, int(os.environ["LOCAL_RANK"]) if device_type == "cuda" else None)
    dist.init_process_group("nccl" if device_type == "cuda" else "gloo")
    told = {}
    for number, (name, case) in enumerate(CASES.items()):
        run = folder / f"run{number}"
        off = list(differences(train(case, device, None), train(case, device, run)))
        steps = list(read_records(run / f"steps.rank{dist.get_rank():05d}.jsonl", StepMeasurement))
        told[name] = {"while": max(off[:STEPS]), "after": max(off[STEPS:]), "steps": len(steps)}
    if dist.get_rank() == 0:
        sys.stdout.write(json.dumps(told))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
    end_process(0)
