"""A loop under DeepSpeed's engine, as its users write them: what benchmarks.deepspeed_zero records and predicts.

    commprof record -- python benchmarks/zero_loop.py --stage 2

It trains a multilayer perceptron (mlp) or a transformer's encoder (encoder) of some 14 MB, in fp32 on the host.
"""

import argparse
import os
from pathlib import Path

import deepspeed
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

WIDTHS = {"mlp": 768, "encoder": 256}
_CLASSES = 10


def mlp(width: int) -> nn.Module:
    layers = [layer for _ in range(6) for layer in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(width, _CLASSES))


class Encoder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        one = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True)
        self.blocks = nn.TransformerEncoder(one, 4, enable_nested_tensor=False)
        self.head = nn.Linear(width, _CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(inputs).mean(dim=1))
        return logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", type=int, default=2)
    parser.add_argument("--model", choices=WIDTHS, default="mlp")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--losses", type=Path, metavar="FILE", help="keep rank 0's losses there, a line each, to the bit")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    world_size, width = int(os.environ.get("WORLD_SIZE", "1")), WIDTHS[args.model]
    batch = 64 if args.model == "mlp" else 8
    model = mlp(width) if args.model == "mlp" else Encoder(width)
    shape = (width,) if args.model == "mlp" else (16, width)
    count = batch * args.accumulation * args.steps
    data = TensorDataset(torch.randn(count, *shape), torch.randint(_CLASSES, (count,)))
    config = {
        "train_micro_batch_size_per_gpu": batch,
        "gradient_accumulation_steps": args.accumulation,
        "train_batch_size": batch * args.accumulation * world_size,
        "zero_optimization": {
            "stage": args.stage,
            "reduce_bucket_size": 1_200_000,
            "stage3_prefetch_bucket_size": 1_200_000,
        },
        "gradient_clipping": 1.0,
        "steps_per_print": 1_000_000,
    }
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # minutes of C++, for an all-reduce of inference alone
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    criterion = nn.CrossEntropyLoss()
    losses = []
    for inputs, labels in DataLoader(data, batch_size=batch):
        loss = criterion(engine(inputs), labels)
        engine.backward(loss)
        engine.step()
        losses.append(loss.detach())
    if args.losses is not None and os.environ.get("RANK", "0") == "0":
        args.losses.write_text("".join(f"{float(loss).hex()}\n" for loss in losses))
    torch.distributed.destroy_process_group()  # else gloo's threads may end the process with an abort of their own


if __name__ == "__main__":
    main()
