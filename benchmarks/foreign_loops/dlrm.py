"""A recommender: dense features through an MLP, categories through tables with dense gradients, all their pairs, an MLP."""

import argparse
import os
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributed import init_process_group
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.nn.parallel import DistributedDataParallel

parser = argparse.ArgumentParser(description="recommend")
parser.add_argument("--mode", default="plain")
parser.add_argument("--mini-batch-size", type=int, default=256)
args = parser.parse_args()
tables, rows, width, dense = 8, 10_000, 32, 13


def mlp(*sizes: int) -> nn.Sequential:
    steps: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        steps += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*steps[:-1])


class Recommender(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.ModuleList(nn.EmbeddingBag(rows, width, mode="sum") for _ in range(tables))
        self.bottom = mlp(dense, 512, 256, width)
        self.top = mlp(width + (tables + 1) * tables // 2, 1024, 512, 1)

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        x = self.bottom(numbers)
        looked_up = torch.stack([x, *(table(categories[:, i : i + 1]) for i, table in enumerate(self.emb))], dim=1)
        pairs = torch.bmm(looked_up, looked_up.transpose(1, 2))
        i, j = torch.tril_indices(tables + 1, tables + 1, -1)
        clicks: torch.Tensor = self.top(torch.cat([x, pairs[:, i, j]], dim=1))
        return clicks.squeeze(1)


torch.set_num_threads(1)
model: nn.Module = Recommender()
if os.environ.get("WORLD_SIZE", "1") != "1":
    init_process_group("gloo")
    cap_mb = 5 if args.mode == "cap5" else None
    model = DistributedDataParallel(model, static_graph=args.mode == "static", bucket_cap_mb=cap_mb)
    if args.mode == "fp16":
        model.register_comm_hook(None, fp16_compress_hook)
optimizer = torch.optim.Adagrad(model.parameters(), lr=0.01)
step = 0
while True:
    x, c = torch.rand(args.mini_batch_size, dense), torch.randint(rows, (args.mini_batch_size, tables))
    y = torch.randint(2, (args.mini_batch_size,)).float()
    sends = args.mode != "accumulate" or step % 2 == 1
    if isinstance(model, DistributedDataParallel):
        model.require_backward_grad_sync = sends
    loss: torch.Tensor = F.binary_cross_entropy_with_logits(model(x, c), y)
    torch.autograd.backward(loss)
    if sends:
        optimizer.step()
        optimizer.zero_grad()
    step += 1
