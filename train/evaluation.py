"""Accuracy on held-out articles, each counted once over all ranks whatever the remainder."""

import torch
from torch.nn import functional

from commprof.commbench.ranks.launched import RankContext
from commprof.commbench.ranks.runtime import gather_values
from commprof.train.text.dataset import EncodedText
from commprof.train.trainee import Trainee


@torch.inference_mode()
def evaluate(trainee: Trainee, text: EncodedText, batch_size: int, context: RankContext) -> tuple[float, float, int]:
    """Return (mean loss, accuracy, number of samples) over all ranks; rank r takes every world_size-th article from r.

    In training's precision, but never compiled: the last batch has another size.
    """
    module = trainee.module
    module.eval()
    mine = slice(context.rank, None, context.world_size)
    tokens, labels = torch.from_numpy(text.tokens[mine]), torch.from_numpy(text.labels[mine])
    totals = torch.zeros(3, dtype=torch.float64)
    for start in range(0, len(labels), batch_size):
        with trainee.autocast():
            logits = module.forward(tokens[start : start + batch_size].to(trainee.device).long())
        wanted = labels[start : start + batch_size].to(trainee.device)
        loss = functional.cross_entropy(logits.float(), wanted, reduction="sum")
        correct = (logits.argmax(1) == wanted).sum()
        totals += torch.tensor([float(loss), float(correct), float(len(wanted))], dtype=torch.float64)
    module.train()
    loss_sum, correct_sum, count = (sum(column) for column in zip(*gather_values(totals.tolist(), trainee.device), strict=True))
    return loss_sum / count, correct_sum / count, int(count)
