"""Run by every rank: the same few steps under many options, compared by their gradients.

Rank 0 prints one JSON object a combination: the largest difference of any gradient from its base's, over all steps and
ranks (0 is equality to the bit), the ranks' own disagreement, the first and the last loss.
"""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from commprof.commbench.ranks.launched import RankContext
from commprof.commbench.ranks.stopping import end_process
from commprof.train.config.types import ModelConfig, TrainConfig
from commprof.train.evaluation import evaluate
from commprof.train.step import train_step
from commprof.train.text.batches import Batch
from commprof.train.text.dataset import EncodedText
from commprof.train.trainee import build_trainee
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
    "bf16": ("plain", {}, {"communication_hook": "bf16", **BUCKETS}),
    "delayed bf16": ("bf16", {}, {"communication_hook": "bf16", "synchronisation": "delayed", **BUCKETS}),
    "fp16": ("plain", {}, {"communication_hook": "fp16"}),
    "powersgd": ("plain", {}, {"communication_hook": "powersgd", "powersgd_start": 3}),
    "float16 clipped": ("plain", {"precision": "float16", "clip_norm": 1000.0}, {}),
    "bfloat16": ("plain", {"precision": "bfloat16"}, {}),
    "clipped": ("plain", {"clip_norm": 0.01}, {}),
}


def batch_of(rank: int) -> Batch:
    """Eight articles of the rank's own whose first word gives their class away."""
    numbers = torch.Generator().manual_seed(rank)
    tokens = torch.randint(5, 50, (8, 8), generator=numbers, dtype=torch.int32)
    labels = torch.arange(8) % 4
    tokens[:, 0] = labels + 1
    return tokens, labels


def gradients(training: dict[str, Any], distributed: dict[str, Any]) -> tuple[list[list[Tensor]], list[float]]:
    """Return every step's gradients, as the optimizer meets them, and its loss."""
    base = TrainConfig(model=TINY)
    config = replace(base, training=replace(base.training, **training), distributed=replace(base.distributed, **distributed))
    trainee = build_trainee(config, CPU)
    steps: list[list[Tensor]] = []

    def keep(*_: object) -> None:
        steps.append([p.grad.clone() for p in trainee.model.parameters() if p.grad is not None])

    trainee.optimizer.register_step_pre_hook(keep)
    recorder, losses = Unrecorded(), []
    for _ in range(STEPS):
        train_step(trainee, iter([batch_of(dist.get_rank())]), recorder, config, learning_rate=0.003)
        losses.append(recorder.loss)
    return steps, losses


def largest_difference(left: list[list[Tensor]], right: list[list[Tensor]]) -> list[float]:
    """Return each step's largest difference on any rank."""
    own = [max(float((a - b).abs().max()) for a, b in zip(*pair, strict=True)) for pair in zip(left, right, strict=True)]
    worst = torch.tensor(own)
    dist.all_reduce(worst, op=dist.ReduceOp.MAX)
    return worst.tolist()


def of_rank_0(steps: list[list[Tensor]]) -> list[list[Tensor]]:
    copies = [[gradient.clone() for gradient in step] for step in steps]
    for gradient in (each for step in copies for each in step):
        dist.broadcast(gradient, 0)
    return copies


def compare_options() -> None:
    seen: dict[str, list[list[Tensor]]] = {}
    for name, (base, training, distributed) in COMBINATIONS.items():
        seen[name], losses = gradients(training, distributed)
        apart = largest_difference(seen[name], of_rank_0(seen[name]))
        row = {"name": name, "difference": largest_difference(seen[name], seen[base]), "apart": apart, "losses": losses}
        if dist.get_rank() == 0:
            print(json.dumps(row), flush=True)


def evaluate_a_prime_number() -> None:
    """13 articles on three ranks, in batches of two: every rank comes to the figures of one process with all of them."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    numbers = np.random.default_rng(0)
    text = EncodedText(tokens=numbers.integers(1, 50, (13, 8), dtype=np.int32), labels=numbers.integers(0, 4, 13))
    trainee = build_trainee(TrainConfig(model=TINY), CPU)
    place = RankContext(rank=rank, local_rank=rank, world_size=world_size, local_world_size=world_size, launcher="torchrun")
    loss, accuracy, count = evaluate(trainee, text, 2, place)
    with torch.inference_mode():
        logits = trainee.module.eval()(torch.from_numpy(text.tokens).long())
        labels = torch.from_numpy(text.labels)
        expected = float(torch.nn.functional.cross_entropy(logits, labels)), float((logits.argmax(1) == labels).double().mean())
    if rank == 0:
        print(json.dumps({"name": "evaluation", "got": [loss, accuracy], "expected": expected, "count": count}), flush=True)


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
