"""A translation-sized encoder-decoder on copies of random sentences, compiled; warm-up by the inverse square root."""

import os
import sys

import torch
from torch import distributed, nn, optim

VOCABULARY, D_MODEL, HEADS, LAYERS, LENGTH, BATCH = 2000, 192, 6, 2, 40, 12


class Translator(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.position = nn.Embedding(VOCABULARY, D_MODEL), nn.Parameter(torch.randn(LENGTH, D_MODEL) * 0.02)
        self.transformer = nn.Transformer(
            D_MODEL, HEADS, LAYERS, LAYERS, 4 * D_MODEL, dropout=0.1, batch_first=True, norm_first=True
        )
        self.project = nn.Linear(D_MODEL, VOCABULARY)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(LENGTH - 1), persistent=False)

    def forward(self, source, target):
        source = self.embed(source) + self.position
        target = self.embed(target) + self.position[: LENGTH - 1]
        return self.project(self.transformer(source, target, tgt_mask=self.mask, tgt_is_causal=True))


class Sentences(torch.utils.data.IterableDataset):
    def __iter__(self):
        while True:
            sentence = torch.randint(VOCABULARY, (LENGTH,))
            yield sentence, sentence


steps = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
rank = int(os.environ.get("RANK", 0))
torch.manual_seed(rank)
model = Translator()
model = torch.compile(model)
if "RANK" in os.environ:
    distributed.init_process_group("gloo")
    model = nn.parallel.DistributedDataParallel(model)
loader = torch.utils.data.DataLoader(Sentences(), BATCH)
optimizer = optim.Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)
scheduler = optim.lr_scheduler.LambdaLR(optimizer, lambda n: D_MODEL**-0.5 * min((n + 1) ** -0.5, (n + 1) * 400**-1.5))
loss_of = nn.CrossEntropyLoss(label_smoothing=0.1)
for step, (source, target) in enumerate(loader):
    scores = model(source, target[:, :-1])
    loss = loss_of(scores.flatten(0, 1), target[:, 1:].flatten())
    loss.backward()
    optimizer.step()
    scheduler.step()
    optimizer.zero_grad()
    if step % 10 == 0 and rank == 0:
        print(step, loss.item())
    if step + 1 == steps:
        break
if "RANK" in os.environ:
    distributed.destroy_process_group()
