"""A word-level LSTM: batches first, hidden state thrown away, Adam; the decoder is the largest tensor and is ready first."""

import argparse
import os
from typing import Any

import torch
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

WORDS, WIDTH, LENGTH, BATCH = 6000, 384, 32, 8


class RNNModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Embedding(WORDS, WIDTH)
        self.rnn = nn.LSTM(WIDTH, WIDTH, num_layers=2, batch_first=True)
        self.drop = nn.Dropout(0.2)
        self.decoder = nn.Linear(WIDTH, WORDS)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        output, _ = self.rnn(self.drop(self.encoder(words)))
        scores: torch.Tensor = self.decoder(self.drop(output))
        return scores


def wrapped(model: nn.Module, mode: str) -> Any:  # noqa: ANN401  a model, wrapped or not
    if "RANK" not in os.environ:
        return model
    torch.distributed.init_process_group("gloo")
    ddp = nn.parallel.DistributedDataParallel(model, bucket_cap_mb=5 if mode == "cap5" else None, static_graph=mode == "static")
    if mode == "fp16":
        ddp.register_comm_hook(None, default_hooks.fp16_compress_hook)
    return ddp


def train(mode: str) -> None:
    torch.set_num_threads(1)
    model = wrapped(RNNModel(), mode)
    optimizer = torch.optim.Adam(model.parameters())
    criterion = nn.CrossEntropyLoss()
    parts = 2 if mode == "accumulate" else 1
    while True:
        optimizer.zero_grad()
        for part in range(parts):
            words = torch.randint(WORDS, (BATCH, LENGTH + 1))
            if hasattr(model, "require_backward_grad_sync"):
                model.require_backward_grad_sync = part == parts - 1
            scores = model(words[:, :-1])
            loss = criterion(scores.reshape(-1, WORDS), words[:, 1:].reshape(-1)) / parts
            loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()


parser = argparse.ArgumentParser()
parser.add_argument("--mode", default="plain")
train(parser.parse_args().mode)
