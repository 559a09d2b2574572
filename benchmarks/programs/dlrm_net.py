"""A deep learning recommendation model: embedding bags with offsets, two MLPs, the dots of all pairs; random click logs."""

import argparse
import os

import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
from torch.nn.parallel import DistributedDataParallel as DDP


class DLRM_Net(nn.Module):
    def create_mlp(self, ln, sigmoid_layer):
        layers = nn.ModuleList()
        for i in range(0, ln.size - 1):
            n, m = int(ln[i]), int(ln[i + 1])
            LL = nn.Linear(n, m)
            LL.weight.data.normal_(0.0, np.sqrt(2 / (m + n)))
            layers.append(LL)
            layers.append(nn.Sigmoid() if i == sigmoid_layer else nn.ReLU())
        return nn.Sequential(*layers)

    def create_emb(self, m, ln):
        emb_l = nn.ModuleList()
        for n in ln:
            EE = nn.EmbeddingBag(int(n), m, mode="sum")
            nn.init.uniform_(EE.weight, -np.sqrt(1 / n), np.sqrt(1 / n))
            emb_l.append(EE)
        return emb_l

    def __init__(self, m_spa, ln_emb, ln_bot, ln_top):
        super().__init__()
        self.emb_l = self.create_emb(m_spa, ln_emb)
        self.bot_l = self.create_mlp(ln_bot, -1)
        self.top_l = self.create_mlp(ln_top, ln_top.size - 2)

    def apply_emb(self, lS_o, lS_i):
        return [E(lS_i[k], lS_o[k]) for k, E in enumerate(self.emb_l)]

    def interact_features(self, x, ly):
        batch_size, d = x.shape
        T = torch.cat([x, *ly], dim=1).view((batch_size, -1, d))
        Z = torch.bmm(T, torch.transpose(T, 1, 2))
        _, ni, nj = Z.shape
        li = torch.tensor([i for i in range(ni) for j in range(i)])
        lj = torch.tensor([j for i in range(nj) for j in range(i)])
        return torch.cat([x, Z[:, li, lj]], dim=1)

    def forward(self, dense_x, lS_o, lS_i):
        x = self.bot_l(dense_x)
        return self.top_l(self.interact_features(x, self.apply_emb(lS_o, lS_i)))


def random_batch(n, m_den, ln_emb, lookups):
    lS_o = [torch.arange(0, n * lookups, lookups) for _ in ln_emb]
    lS_i = [torch.randint(int(size), (n * lookups,)) for size in ln_emb]
    return torch.rand(n, m_den), lS_o, lS_i, torch.randint(2, (n, 1)).float()


def run():
    parser = argparse.ArgumentParser(description="Train Deep Learning Recommendation Model (DLRM)")
    parser.add_argument("--arch-sparse-feature-size", type=int, default=16)
    parser.add_argument("--arch-embedding-size", type=str, default="-".join(["12000"] * 8))
    parser.add_argument("--arch-mlp-bot", type=str, default="13-512-256-64-16")
    parser.add_argument("--arch-mlp-top", type=str, default="512-256-1")
    parser.add_argument("--mini-batch-size", type=int, default=640)
    parser.add_argument("--num-batches", type=int, default=3000)
    parser.add_argument("--num-indices-per-lookup", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--print-freq", type=int, default=10)
    args = parser.parse_args()

    np.random.seed(123)
    torch.manual_seed(123 + int(os.environ.get("RANK", 0)))
    ln_bot = np.fromstring(args.arch_mlp_bot, dtype=int, sep="-")
    ln_emb = np.fromstring(args.arch_embedding_size, dtype=int, sep="-")
    m_spa, num_fea = args.arch_sparse_feature_size, ln_emb.size + 1
    num_int = (num_fea * (num_fea - 1)) // 2 + int(ln_bot[-1])
    ln_top = np.fromstring(f"{num_int}-{args.arch_mlp_top}", dtype=int, sep="-")

    dlrm = DLRM_Net(m_spa, ln_emb, ln_bot, ln_top)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        dist.init_process_group("gloo")
        dlrm = DDP(dlrm)
    loss_fn = torch.nn.BCELoss(reduction="mean")
    optimizer = torch.optim.SGD(dlrm.parameters(), lr=args.learning_rate)
    total_loss = 0.0
    for j in range(args.num_batches):
        X, lS_o, lS_i, T = random_batch(args.mini_batch_size, int(ln_bot[0]), ln_emb, args.num_indices_per_lookup)
        Z = dlrm(X, lS_o, lS_i)
        E = loss_fn(Z, T)
        optimizer.zero_grad()
        E.backward()
        optimizer.step()
        total_loss += E.item()
        if (j + 1) % args.print_freq == 0:
            print(f"Finished training it {j + 1}/{args.num_batches}, loss {total_loss / args.print_freq:.6f}")
            total_loss = 0.0


if __name__ == "__main__":
    run()
