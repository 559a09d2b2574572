"""Accuracy on held-out articles, each counted once over all ranks whatever the remainder."""

import torch
from torch import Tensor
from torch.nn import functional

from commprof.commbench.ranks.launched import RankContext
from commprof.commbench.ranks.runtime import gather_values
from commprof.commbench.timing import host_wait
from commprof.train.sharding import is_sharded
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
    num_most = -(-len(text.labels) // context.world_size)  # of any rank's: sharded ranks gather parameters together
    tokens, labels = torch.from_numpy(text.tokens[mine]), torch.from_numpy(text.labels[mine])
    totals = torch.zeros(3, dtype=torch.float64)
    for start in range(0, num_most, batch_size):
        with host_wait:  # a sharded model gathers from all ranks
            totals += _totals(trainee, tokens[start : start + batch_size], labels[start : start + batch_size])
    module.train()
    loss_sum, correct_sum, count = (sum(column) for column in zip(*gather_values(totals.tolist(), trainee.device), strict=True))
    return loss_sum / count, correct_sum / count, int(count)


def _totals(trainee: Trainee, tokens: Tensor, labels: Tensor) -> Tensor:
    """Return a batch's summed loss, right answers and samples, shape [3]."""
    with trainee.autocast():
        logits = _logits(trainee, tokens)
    wanted = labels.to(trainee.device)
    loss = functional.cross_entropy(logits.float(), wanted, reduction="sum")
    correct = (logits.argmax(1) == wanted).sum()
    return torch.tensor([float(loss), float(correct), float(len(wanted))], dtype=torch.float64)


def _logits(trainee: Trainee, tokens: Tensor) -> Tensor:
    """Return a batch's logits; a sharded model gathers its parameters in its hooks, also for a rank that has none left."""
    batch = tokens.to(trainee.device).long()
    if not is_sharded(trainee.model):
        plain: Tensor = trainee.module.forward(batch)
        return plain
    filled = batch if len(batch) else batch.new_ones((1, batch.shape[1]))
    logits: Tensor = trainee.model(filled)
    return logits[: len(batch)]
