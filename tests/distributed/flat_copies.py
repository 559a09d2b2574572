"""FullyShardedDataParallel over two shards in two copies: `forked_ranks.py 4 flat_copies.py FOLDER`. Ends with 0 if losses and
weights are those of a loop that nobody records, to the bit, and if checkpoints of ranks that send nothing are whole."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.fsdp as sharding
from torch import Tensor, nn
from torch.distributed.fsdp import _flat_param, _runtime_utils

from commprof.commbench.ranks.stopping import end_process
from commprof.commbench.recorder.own_loop import record_steps
from commprof.commbench.records.training import EXCHANGED_PASSES

STEPS = EXCHANGED_PASSES + 3
Sharded = sharding.FullyShardedDataParallel


def wrapped(groups: Any) -> Any:  # noqa: ANN401
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3))
    how: dict[str, Any] = {"device_id": torch.device("cpu"), "use_orig_params": True}
    how |= {"process_group": groups, "sharding_strategy": sharding.ShardingStrategy.HYBRID_SHARD}
    model[0] = Sharded(model[0], **how)
    return Sharded(model, **how)


def train(groups: Any, folder: Path | None, *, compute_only: bool = False, failing: bool = False) -> list[Tensor]:  # noqa: ANN401
    """Return each step's loss, and at last each unit's shard. `failing`: rank 0 is not recorded to the end."""
    model = wrapped(groups)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    recorder = None if folder is None else record_steps(model, samples_per_rank=4, folder=folder, compute_only=compute_only)
    torch.manual_seed(dist.get_rank())
    losses = []
    with recorder or nullcontext():
        for step in range(STEPS):
            if failing and recorder is not None and step == EXCHANGED_PASSES and dist.get_rank() == 0:
                recorder.units.mark = None  # type: ignore[assignment, method-assign]
            with nullcontext() if recorder is None else recorder.step():
                loss = model(torch.randn(4, 5)).square().mean()
                loss.backward()
                model.clip_grad_norm_(1.0)
                optimizer.step()
                optimizer.zero_grad()
                if compute_only:
                    assert_whole(model)
            losses.append(loss.detach())
    assert _flat_param.dist is _runtime_utils.dist is dist
    return losses + [unit._handle.flat_param.detach().clone() for unit in Sharded.fsdp_modules(model)]


def assert_whole(model: Any) -> None:  # noqa: ANN401
    """Fail unless a checkpoint has what lies on the shards' ranks, within a step in which nothing is sent."""
    with Sharded.state_dict_type(model, sharding.StateDictType.FULL_STATE_DICT):
        saved = model.state_dict()["0.weight"].flatten()
    unit = model.module[0]
    shards = [torch.empty_like(unit._handle.flat_param) for _ in range(2)]
    dist.all_gather(shards, unit._handle.flat_param.detach(), group=unit.process_group)
    assert torch.equal(saved, torch.cat(shards)[: len(saved)])


def main(folder: Path) -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    shards, copies = ([dist.new_group(ranks) for ranks in of] for of in ([[0, 1], [2, 3]], [[0, 2], [1, 3]]))
    groups = shards[rank // 2], copies[rank % 2]
    plain, recorded = train(groups, None), train(groups, folder / "recorded")
    assert all(map(torch.equal, plain, recorded)), "a recorded loop is another training"
    alone = train(groups, folder / "alone", compute_only=True)
    assert all(bool(tensor.isfinite().all()) for tensor in alone)
    assert not torch.equal(alone[-1], plain[-1])
    train(groups, folder / "failing", compute_only=True, failing=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    sys.stderr.flush()
    end_process(0)
