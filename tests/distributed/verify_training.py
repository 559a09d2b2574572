"""Run by every rank: the same few steps under many options, compared by their gradients.

Rank 0 prints one JSON object a combination: the largest difference of any gradient from its base's, over all steps and
ranks (0 is equality to the bit), the ranks' own disagreement, the first and the last loss.
"""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from commprof.commbench.ranks.launched import RankContext
from commprof.commbench.ranks.stopping import end_process
from commprof.commbench.recorder.steps import StepRecorder
from commprof.commbench.timing import MonotonicClock
from commprof.train.config.exchange import DistributedConfig
from commprof.train.config.types import ModelConfig, TrainConfig
from commprof.train.evaluation import evaluate
from commprof.train.step import train_step
from commprof.train.text.batches import Batch
from commprof.train.text.dataset import EncodedText
from commprof.train.trainee import States, Trainee, build_trainee
from tests.factory import Unrecorded

CPU = torch.device("cpu")
TINY = ModelConfig(vocabulary=50, sequence_length=8, d_model=16, layers=2, heads=2, feed_forward=32, dropout=0.0)
BUCKETS = {"bucket_cap_mb": 0.004}
STEPS = 6
# name -> (base, options of training, options of distributed)
COMBINATIONS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "plain": ("plain", {}, {}),
    "accumulation": ("plain", {"accumulation": 4}, {}),
    "static graph": ("plain", {}, {"static_graph": True}),
    "bucket view accumulation": ("plain", {"accumulation": 4}, {"gradient_as_bucket_view": True, **BUCKETS}),
    "first bucket": ("plain", {}, {"first_bucket_mb": 0.001, **BUCKETS}),
    "unused": ("plain", {}, {"find_unused_parameters": True}),
    "delayed": ("plain", {}, {"synchronisation": "delayed", **BUCKETS}),
    "compute only": ("plain", {}, {"synchronisation": "compute_only"}),
    "static compute only": ("compute only", {}, {"synchronisation": "compute_only", "static_graph": True}),
    "compute only bf16": ("compute only", {}, {"synchronisation": "compute_only", "communication_hook": "bf16"}),
    "compute only powersgd": (
        "compute only",
        {},
        {"synchronisation": "compute_only", "communication_hook": "powersgd", "powersgd_start": 5},
    ),
    "bf16": ("plain", {}, {"communication_hook": "bf16", **BUCKETS}),
    "delayed bf16": ("bf16", {}, {"communication_hook": "bf16", "synchronisation": "delayed", **BUCKETS}),
    "fp16": ("plain", {}, {"communication_hook": "fp16"}),
    "powersgd": ("plain", {}, {"communication_hook": "powersgd", "powersgd_start": 3}),
    "float16 clipped": ("plain", {"precision": "float16", "clip_norm": 1000.0}, {}),
    "bfloat16": ("plain", {"precision": "bfloat16"}, {}),
    "clipped": ("plain", {"clip_norm": 0.01}, {}),
    "fsdp": ("plain", {}, {"strategy": "fsdp"}),
    "fsdp recorded": ("fsdp", {}, {"strategy": "fsdp"}),
    "fsdp resumed": ("fsdp", {}, {"strategy": "fsdp"}),
    "fsdp clipped": ("clipped", {"clip_norm": 0.01}, {"strategy": "fsdp"}),
    "fsdp accumulation": ("accumulation", {"accumulation": 4}, {"strategy": "fsdp"}),
    "fsdp accumulation whole": (
        "fsdp accumulation",
        {"accumulation": 4},
        {"strategy": "fsdp", "reshard_after_backward": False},
    ),
    "fsdp bfloat16": ("plain", {}, {"strategy": "fsdp", "gather_dtype": "bfloat16", "reduce_dtype": "float32"}),
    "zero2": ("fsdp", {}, {"strategy": "fsdp", "reshard_after_forward": False, "prefetch": False}),
    "hsdp": ("plain", {}, {"strategy": "hsdp"}),
    "hsdp resumed": ("hsdp", {}, {"strategy": "hsdp"}),
}
RESUMED_AT = 3


def batch_of(rank: int) -> Batch:
    """Eight articles of the rank's own whose first word gives their class away."""
    numbers = torch.Generator().manual_seed(rank)
    tokens = torch.randint(5, 50, (8, 8), generator=numbers, dtype=torch.int32)
    labels = torch.arange(8) % 4
    tokens[:, 0] = labels + 1
    return tokens, labels


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def restored(config: TrainConfig, states: States) -> Trainee:
    """Return a new trainee with what rank 0 has saved, read by every rank as a run that goes on reads it."""
    file = Path("states.pt")
    if dist.get_rank() == 0:
        torch.save(states, file)
    dist.barrier()
    trainee = build_trainee(replace(config, training=replace(config.training, seed=7)), CPU)
    trainee.put_back(torch.load(file, weights_only=True))
    return trainee


def recorder_of(trainee: Trainee) -> StepRecorder:
    folder = Path("recorded")
    folder.mkdir(exist_ok=True)
    rank = dist.get_rank()
    return StepRecorder(trainee.model, folder=folder, rank=rank, clock=MonotonicClock(), samples_per_rank=8, warmup_steps=1)


def gradients(
    training: dict[str, Any], distributed: dict[str, Any], *, resumed: bool = False, recorded: bool = False
) -> tuple[list[list[Tensor]], list[float]]:
    """Return every step's gradients, as the optimizer meets them, and its loss."""
    base = TrainConfig(model=TINY)
    config = replace(base, training=replace(base.training, **training), distributed=replace(base.distributed, **distributed))
    trainee = build_trainee(config, CPU)
    steps: list[list[Tensor]] = []

    def keep(*_: object) -> None:
        steps.append([whole(p.grad).clone() for p in trainee.model.parameters() if p.grad is not None])

    trainee.optimizer.register_step_pre_hook(keep)
    losses = []
    watching = recorder_of(trainee) if recorded else None
    with watching or nullcontext():
        for step in range(STEPS):
            if resumed and step == RESUMED_AT:
                trainee = restored(config, trainee.states())
                trainee.optimizer.register_step_pre_hook(keep)
            losses.append(one_step(trainee, config, watching))
    return steps, losses


def one_step(trainee: Trainee, config: TrainConfig, watching: StepRecorder | None) -> float:
    listening = Unrecorded()
    batches = iter([batch_of(dist.get_rank())])
    if watching is None:
        train_step(trainee, batches, listening, config, learning_rate=0.003)
        return listening.loss
    with watching.step():
        train_step(trainee, batches, watching, config, learning_rate=0.003)
    assert watching.last is not None and watching.last.loss is not None
    return watching.last.loss


def largest_difference(left: list[list[Tensor]], right: list[list[Tensor]]) -> list[float]:
    """Return each step's largest difference on any rank."""
    own = [max(float((a - b).abs().max()) for a, b in zip(*pair, strict=True)) for pair in zip(left, right, strict=True)]
    worst = torch.tensor(own)
    dist.all_reduce(worst, op=dist.ReduceOp.MAX)
    return worst.tolist()


def apart(steps: list[list[Tensor]]) -> list[float]:
    """Return how far each step's gradients are from those of rank 0, on any rank."""
    whole_steps = [torch.cat([gradient.flatten() for gradient in step]) for step in steps]
    of_rank_0 = [gradients.clone() for gradients in whole_steps]
    for gradients in of_rank_0:
        dist.broadcast(gradients, 0)
    return largest_difference([[own] for own in whole_steps], [[theirs] for theirs in of_rank_0])


def compare_options() -> None:
    seen: dict[str, list[list[Tensor]]] = {}
    for name, (base, training, distributed) in COMBINATIONS.items():
        how = {"resumed": "resumed" in name, "recorded": "recorded" in name}
        seen[name], losses = gradients(training, distributed, **how)
        difference = largest_difference(seen[name], seen[base])
        row = {"name": name, "difference": difference, "apart": apart(seen[name]), "losses": losses}
        if dist.get_rank() == 0:
            print(json.dumps(row), flush=True)


def evaluate_a_prime_number() -> None:
    """13 articles on three ranks, in batches of two: every rank comes to the figures of one process with all of them.

    Sharded ranks, whose shares of the articles are of different lengths, come to them too.
    """
    rank, world_size = dist.get_rank(), dist.get_world_size()
    numbers = np.random.default_rng(0)
    text = EncodedText(tokens=numbers.integers(1, 50, (13, 8), dtype=np.int32), labels=numbers.integers(0, 4, 13))
    trainee = build_trainee(TrainConfig(model=TINY), CPU)
    place = RankContext(rank=rank, local_rank=rank, world_size=world_size, local_world_size=world_size, launcher="torchrun")
    loss, accuracy, count = evaluate(trainee, text, 2, place)
    shards = build_trainee(replace(TrainConfig(model=TINY), distributed=DistributedConfig(strategy="fsdp")), CPU)
    of_shards = evaluate(shards, text, 2, place)
    with torch.inference_mode():
        logits = trainee.module.eval()(torch.from_numpy(text.tokens).long())
        labels = torch.from_numpy(text.labels)
        expected = float(torch.nn.functional.cross_entropy(logits, labels)), float((logits.argmax(1) == labels).double().mean())
    if rank == 0:
        print(
            json.dumps(
                {"name": "evaluation", "got": [loss, accuracy], "expected": expected, "count": count, "sharded": of_shards}
            )
        )


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    if dist.get_world_size() == 3:
        evaluate_a_prime_number()
    else:
        compare_options()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
    end_process(0)
