"""A small GPT on random tokens, trained as one trains a language model: tied weights, AdamW, clipping, a get_batch."""

import argparse
import os
from contextlib import nullcontext

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel as DDP

vocab_size, block_size, n_embd, n_head, n_layer, batch_size = 2048, 64, 256, 8, 4, 8


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.c_attn, self.c_proj = nn.Linear(n_embd, 3 * n_embd), nn.Linear(n_embd, n_embd)
        self.mlp = nn.Sequential(nn.Linear(n_embd, 4 * n_embd), nn.GELU(), nn.Linear(4 * n_embd, n_embd))

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        q, k, v = (y.view(b, t, n_head, c // n_head).transpose(1, 2) for y in self.c_attn(self.ln_1(x)).split(n_embd, dim=2))
        x = x + self.c_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, c))
        y: Tensor = x + self.mlp(self.ln_2(x))
        return y


class GPT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab_size, n_embd), nn.Embedding(block_size, n_embd)
        self.h = nn.ModuleList(Block() for _ in range(n_layer))
        self.ln_f, self.lm_head = nn.LayerNorm(n_embd), nn.Linear(n_embd, vocab_size, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, idx: Tensor, targets: Tensor) -> Tensor:
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1]))
        for block in self.h:
            x = block(x)
        return F.cross_entropy(self.lm_head(self.ln_f(x)).flatten(0, 1), targets.flatten())


def get_batch() -> tuple[Tensor, Tensor]:
    data = torch.randint(vocab_size, (batch_size, block_size + 1))
    return data[:, :-1], data[:, 1:]


parser = argparse.ArgumentParser()
parser.add_argument("--mode", default="plain")
mode = parser.parse_args().mode

torch.set_num_threads(1)
torch.manual_seed(1337 + int(os.environ.get("RANK", "0")))
model: nn.Module = GPT()
if "RANK" in os.environ:
    dist.init_process_group("gloo")
    model = DDP(model, bucket_cap_mb=5 if mode == "cap5" else None, static_graph=mode == "static")
    if mode == "fp16":
        model.register_comm_hook(None, default_hooks.fp16_compress_hook)
optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, betas=(0.9, 0.95))
grad_accum = 2 if mode == "accumulate" else 1

while True:
    for micro in range(grad_accum):
        x, y = get_batch()
        last = micro == grad_accum - 1
        with model.no_sync() if isinstance(model, DDP) and not last else nullcontext():
            loss = model(x, y) / grad_accum
            loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
