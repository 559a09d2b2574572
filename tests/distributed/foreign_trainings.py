"""Trainings of every kind, recorded on the ranks that run this: `forked_ranks.py N foreign_trainings.py FOLDER NAME...`."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel as DDP

from commprof.commbench.ranks.stopping import end_process
from commprof.commbench.recorder.element_counts import own_shard
from commprof.commbench.recorder.own_loop import record_steps
from commprof.commbench.records.training import EXCHANGED_PASSES

STEPS = 4
Wrap = Callable[[nn.Module], nn.Module]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def fsdp1(model: nn.Module, *, keep_names: bool = True, strategy: str = "FULL_SHARD") -> nn.Module:
    from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy

    def wrap(module: nn.Module) -> nn.Module:
        return FullyShardedDataParallel(
            module, device_id=torch.device("cpu"), use_orig_params=keep_names, sharding_strategy=ShardingStrategy[strategy]
        )

    model[0] = wrap(model[0])  # type: ignore[index, operator]
    return wrap(model)


def fsdp1_of_two_groups(model: nn.Module) -> nn.Module:
    """The inner unit is each rank's own, as an expert's: what it reduces must not reach the other."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    groups = [dist.new_group([rank]) for rank in range(dist.get_world_size())]
    any_model: Any = model
    any_model[0] = FullyShardedDataParallel(
        any_model[0], groups[dist.get_rank()], device_id=torch.device("cpu"), use_orig_params=True
    )
    return FullyShardedDataParallel(model, device_id=torch.device("cpu"), use_orig_params=True)


def register_own_hook(model: Any) -> None:  # noqa: ANN401
    """As a script of FullyShardedDataParallel may: torch takes one hook, and ends the job that asks for a second."""
    from torch.distributed.algorithms._comm_hooks import default_hooks as of_shards

    model.register_comm_hook(of_shards.DefaultState(model.process_group), of_shards.reduce_scatter_hook)


def fsdp2(model: nn.Module, *shape: int) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(
        "cpu", shape or (dist.get_world_size(),), mesh_dim_names=("copies", "shards")[-len(shape or (1,)) :]
    )
    fully_shard(model, mesh=mesh)
    return model


def fsdp1_in_copies(model: nn.Module) -> nn.Module:
    """All ranks shard one copy: with a shard on every rank torch would neither shard nor make copies."""
    from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy

    own = [dist.new_group([rank]) for rank in range(dist.get_world_size())][dist.get_rank()]
    assert dist.group.WORLD is not None
    return FullyShardedDataParallel(
        model,
        (dist.group.WORLD, own),
        sharding_strategy=ShardingStrategy.HYBRID_SHARD,
        device_id=torch.device("cpu"),
        use_orig_params=True,
    )


def fsdp2_ignoring_biases(model: Any) -> nn.Module:  # noqa: ANN401
    from torch.distributed.fsdp import fully_shard

    biases = {model[0].bias, model[2].bias}
    fully_shard(model[0], ignored_params=biases)
    fully_shard(model, ignored_params=biases)
    return model  # type: ignore[no-any-return]


def fsdp2_together(model: Any) -> nn.Module:  # noqa: ANN401
    """The last two modules are one unit, as a head with its norm often is; the root has no parameters left."""
    from torch.distributed.fsdp import fully_shard

    fully_shard(model[0])
    fully_shard([model[1], model[2]])
    fully_shard(model)
    return model  # type: ignore[no-any-return]


def fsdp2_checkpointed(model: Any) -> nn.Module:  # noqa: ANN401
    """Backward does the last unit's forward again."""
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
    from torch.distributed.fsdp import fully_shard

    fully_shard(model[2])
    model[2] = checkpoint_wrapper(model[2])
    fully_shard(model)
    return model  # type: ignore[no-any-return]


def fsdp2_and_tensor_parallel(model: Any, *, shards: int = 1) -> nn.Module:  # noqa: ANN401
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    shape = (shards, dist.get_world_size() // shards)
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=("shards", "tensors"))
    parallelize_module(model, mesh["tensors"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
    fully_shard(model, mesh=mesh["shards"])
    return model  # type: ignore[no-any-return]


def tensor_parallel(model: nn.Module) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
    return parallelize_module(model, init_device_mesh("cpu", (dist.get_world_size(),)), plan)


def replicated(model: nn.Module) -> nn.Module:
    from torch.distributed._composable.replicate import replicate

    return replicate(model)


def replicated_by_fsdp2(model: nn.Module) -> nn.Module:
    from torch.distributed._composable.replicate_with_fsdp import replicate

    return replicate(model)  # type: ignore[return-value]


def compiled(mode: str) -> Wrap:
    def wrap(model: nn.Module) -> nn.Module:
        torch._dynamo.reset()
        torch._dynamo.config.optimize_ddp = mode
        # Under python_reducer whatever watches a parameter's gradient is compiled, for each of them: one layer is enough.
        inner = model[0] if mode == "python_reducer" else model  # type: ignore[index]
        return torch.compile(DDP(inner), backend="eager")  # type: ignore[return-value]

    return wrap


def hooked(hook: Any, state: Callable[[], object] = lambda: None) -> Wrap:  # noqa: ANN401
    def wrap(model: nn.Module) -> nn.Module:
        ddp = DDP(model)
        ddp.register_comm_hook(state(), hook)
        return ddp

    return wrap


def own_hook(state: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    return default_hooks.fp16_compress_hook(None, bucket)  # type: ignore[arg-type]


def builtin(model: nn.Module) -> nn.Module:
    ddp = DDP(model)
    ddp._register_builtin_comm_hook(dist.BuiltinCommHookType.FP16_COMPRESS)  # type: ignore[no-untyped-call]
    return ddp


KINDS: dict[str, Wrap] = {
    "ddp": DDP,
    "caps": lambda model: DDP(model, bucket_cap_mb=0.0003, find_unused_parameters=True, gradient_as_bucket_view=True),
    "static": lambda model: DDP(model, static_graph=True),
    "fp16": hooked(default_hooks.fp16_compress_hook),
    "own hook": hooked(own_hook),
    "powersgd": hooked(powerSGD_hook, lambda: PowerSGDState(None, start_powerSGD_iter=2)),
    "compiled in parts": compiled("ddp_optimizer"),
    "compiled whole": compiled("no_optimization"),
    "python_reducer": compiled("python_reducer"),
    "joined": DDP,
    "builtin hook": builtin,
    "zero_redundancy_optimizer": DDP,
    "given bare": DDP,
    "compute_only": DDP,
    "compute_only hook": hooked(own_hook),
    "compute_only fsdp2": fsdp2,
    "compute_only hsdp": lambda model: fsdp2(model, 2, 1),
    "compute_only fsdp1": fsdp1,
    "compute_only fsdp1 hybrid": fsdp1_in_copies,
    "fsdp1": fsdp1,
    "fsdp1 flat": partial(fsdp1, keep_names=False),
    "fsdp1 unsharded": partial(fsdp1, strategy="NO_SHARD"),
    "fsdp1 own hook": fsdp1,
    "fsdp1 of two groups": fsdp1_of_two_groups,
    "fsdp1 hybrid": fsdp1_in_copies,
    "fsdp2": fsdp2,
    "fsdp2 ignoring": fsdp2_ignoring_biases,
    "fsdp2 together": fsdp2_together,
    "fsdp2 checkpointed": fsdp2_checkpointed,
    "fsdp2 tensor_parallel": fsdp2_and_tensor_parallel,
    "fsdp2 tensors whole": partial(fsdp2_and_tensor_parallel, shards=2),
    "hsdp": lambda model: fsdp2(model, 2, 1),
    "tensor_parallel": tensor_parallel,
    "replicate": replicated,
    "replicate of fsdp2": replicated_by_fsdp2,
    "hand_made": lambda model: model,
    "none": lambda model: model,
}


def optimizer_of(name: str, model: nn.Module) -> torch.optim.Optimizer:
    if name == "zero_redundancy_optimizer":
        from torch.distributed.optim import ZeroRedundancyOptimizer

        return ZeroRedundancyOptimizer(model.parameters(), torch.optim.SGD, lr=0.1)
    return torch.optim.SGD(model.parameters(), lr=0.1)


def num_steps(name: str, rank: int = 0) -> int:
    """Of ranks that join, the second has a batch less and stands in for itself until the first is done."""
    if name == "joined":
        return STEPS - rank
    return STEPS + (EXCHANGED_PASSES if name.startswith("compute_only") else 0)


def train(name: str, folder: Path) -> None:
    bare = network()
    model = KINDS[name](bare)
    optimizer = optimizer_of(name, model)
    given = bare if name == "given bare" else model
    quiet = name.startswith("compute_only")
    torch.manual_seed(1 + dist.get_rank())
    joining = model.join() if name == "joined" else nullcontext()  # type: ignore[operator]
    recording = record_steps(given, samples_per_rank=2, warmup_steps=1, folder=folder, compute_only=quiet)
    with recording as recorder, joining:
        rank = dist.get_rank()
        for batch in recorder.steps(torch.ones(2, 8) * (1 + rank) for _ in range(num_steps(name, rank))):
            if name == "fsdp1 own hook" and recorder.num_steps == 2:
                register_own_hook(model)
            loss = model(batch).square().mean()
            if name == "compute_only fsdp2":  # the root stays whole until after backward: twice this rank's half
                first, second = model[0].weight.chunk(2)  # type: ignore[index]
                assert torch.equal(first, second) == (recorder.num_steps >= EXCHANGED_PASSES)
            elif name.startswith("compute_only fsdp1"):
                _assert_apart(model._handle.flat_param._full_param_padded, apart=recorder.num_steps >= EXCHANGED_PASSES)  # type: ignore[union-attr]
            recorder.begin("backward")
            if name == "python_reducer":
                with torch._dynamo.compiled_autograd._enable(torch.compile(backend="eager")):
                    loss.backward()
            else:
                loss.backward()
            recorder.begin("optimizer")
            if name == "hand_made":
                for parameter in model.parameters():
                    dist.all_reduce(parameter.grad)
            if quiet and "fsdp" not in name and recorder.num_steps >= EXCHANGED_PASSES:
                _assert_apart(next(model.parameters()).grad)
            if name == "fsdp1 of two groups":
                _assert_apart(next(model.module[0].parameters()).grad)  # type: ignore[index, union-attr]
            optimizer.step()
            optimizer.zero_grad()
    if name == "ddp":
        model(torch.ones(2, 8)).sum().backward()  # a process group, a reducer and a model as before
        assert not vars(model).keys() & {"register_comm_hook"}
    if name == "fsdp1":
        register_own_hook(model)  # its place is free again
    del optimizer


def _assert_apart(tensor: Tensor | None, *, apart: bool = True) -> None:
    """Fail unless the ranks, whose batches differ, have other elements there, or with `apart` False the same."""
    assert tensor is not None
    own = own_shard(tensor)
    others = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(others, own)
    assert torch.equal(others[0], others[1]) != apart


def main(folder: Path, names: list[str]) -> None:
    dist.init_process_group("gloo")
    for name in names:
        train(name, folder / name.replace(" ", "-"))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
    sys.stderr.flush()
    end_process(0)
