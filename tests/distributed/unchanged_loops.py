"""Loops as people write them: none of them knows of commprof."""

import contextlib
import copy
import io
import os
import time
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

STEPS = 12
LONG_S = 0.2  # a pause that stands out of any step here


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def loader(**options: int) -> DataLoader[tuple[torch.Tensor, ...]]:
    return DataLoader(TensorDataset(torch.ones(4 * STEPS, 8)), batch_size=4, **options)  # type: ignore[arg-type]


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=1e-3)


def pause() -> None:
    """Take time, as a computation would, of no core."""
    time.sleep(LONG_S)


def plain() -> None:
    model = network()
    optimizer = sgd(model)
    for (batch,) in loader():
        optimizer.zero_grad()
        model(batch).sum().backward()
        optimizer.step()


def accumulated() -> None:
    model = network()
    optimizer = sgd(model)
    for number, (batch,) in enumerate(loader(), 1):
        (model(batch).sum() / 3).backward()
        if number % 3 == 0:
            optimizer.step()
            optimizer.zero_grad()


def two_optimizers() -> None:
    model = network()
    optimizers = [sgd(model[0]), sgd(model[2])]
    for (batch,) in loader():
        model(batch).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def gan() -> None:
    makes, judges = nn.Linear(8, 8), nn.Linear(8, 1)
    optimizers = [sgd(judges), sgd(makes)]
    for (batch,) in loader():
        judges(makes(batch).detach()).sum().backward()
        optimizers[0].step()
        judges(makes(batch)).sum().backward()
        optimizers[1].step()


def scaled() -> None:
    """Every third step is left out by the scaler."""
    model = network()
    optimizer = sgd(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=10**6)
    for number, (batch,) in enumerate(loader()):
        optimizer.zero_grad()
        scale = float("inf") if number % 3 == 2 else 1.0
        scaler.scale(model(batch).sum() * scale).backward()
        scaler.step(optimizer)
        scaler.update()


def evaluated() -> None:
    model = network()
    optimizer = sgd(model)
    for number, (batch,) in enumerate(loader()):
        model.train()
        optimizer.zero_grad()
        model(batch).sum().backward()
        optimizer.step()
        if number % 2 == 0:
            model.eval()
            with torch.no_grad():
                pause()
                model(batch)
        else:
            pause()
            torch.save(model.state_dict(), io.BytesIO())


def frozen_mode() -> None:
    """Trained in evaluation mode throughout, as some fine-tune."""
    model = network().eval()
    optimizer = sgd(model)
    for (batch,) in loader():
        model(batch).sum().backward()
        optimizer.step()


def generator() -> None:
    """Batches of any size from a generator, and none of a loader."""

    def batches() -> Iterator[torch.Tensor]:
        for number in range(STEPS):
            yield torch.ones(1 + number % 2 * 4, 8)

    model = network()
    optimizer = sgd(model)
    for batch in batches():
        model(batch).sum().backward()
        optimizer.step()


def workers() -> None:
    model = network()
    optimizer = sgd(model)
    for _ in range(2):
        for (batch,) in loader(num_workers=2):
            model(batch).sum().backward()
            optimizer.step()


def saved_and_copied() -> None:
    model = network()
    optimizer = sgd(model)
    for (batch,) in loader():
        model(batch).sum().backward()
        optimizer.step()
        copied = copy.deepcopy(model)
        copied(batch)
        written = io.BytesIO()
        torch.save(model, written)
        assert b"commprof" not in written.getvalue()
        written.seek(0)
        torch.load(written, weights_only=False)(batch)


def os_exit() -> None:
    plain()
    os._exit(0)


def compiled() -> None:
    model = torch.compile(network(), backend="eager")
    optimizer = sgd(model)  # type: ignore[arg-type]
    for (batch,) in loader():
        optimizer.zero_grad()
        model(batch).sum().backward()
        optimizer.step()


def compiled_in_place() -> None:
    model = network()
    model.compile(backend="eager")
    optimizer = sgd(model)
    for (batch,) in loader():
        optimizer.zero_grad()
        model(batch).sum().backward()
        optimizer.step()


def compiled_step() -> None:
    """Whatever stands in a compiled step is read by torch.compile, and nothing of ours is to be."""
    warnings.filterwarnings("error", message="Dynamo does not know how to trace")
    model = network()
    optimizer = sgd(model)
    step = torch.compile(optimizer.step, backend="eager")
    for (batch,) in loader():
        optimizer.zero_grad()
        model(batch).sum().backward()
        step()


def steps_in_backward() -> None:
    """Each parameter has an optimizer that steps once its gradient is there, so that no two gradients are kept."""
    model = network()
    optimizers = {parameter: torch.optim.SGD([parameter], lr=1e-3) for parameter in model.parameters()}

    def update(parameter: torch.Tensor) -> None:
        optimizers[parameter].step()  # type: ignore[index]
        optimizers[parameter].zero_grad()  # type: ignore[index]

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(update)
    for (batch,) in loader():
        model(batch).sum().backward()


def state_first() -> None:
    """A step before any backward pass makes the optimizer's state, as whoever loads a checkpoint needs it."""
    model = network()
    optimizer = sgd(model)
    optimizer.step()
    for (batch,) in loader():
        optimizer.zero_grad()
        model(batch).sum().backward()
        optimizer.step()


def no_backward_pass() -> None:
    model = network()
    optimizer = sgd(model)
    for (batch,) in loader():
        for parameter, gradient in zip(
            model.parameters(), torch.autograd.grad(model(batch).sum(), [*model.parameters()]), strict=True
        ):
            parameter.grad = gradient
        optimizer.step()


class ByParts(nn.Module):
    """Never called as a whole, as Lightning's modules are not."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = network()

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        return self.inside(batch).sum()  # type: ignore[no-any-return]


def by_parts() -> None:
    model = ByParts()
    optimizer = sgd(model)
    for (batch,) in loader():
        optimizer.zero_grad()
        model.training_step(batch).backward()
        optimizer.step()


def closure() -> None:
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=2)
    for (batch,) in loader():

        def again(batch: torch.Tensor = batch) -> torch.Tensor:
            optimizer.zero_grad()
            loss = model(batch).square().sum()
            loss.backward()
            return loss

        optimizer.step(again)


def master_weights() -> None:
    """The optimizer has copies, as libraries that train in half precision or shard an optimizer's state hand it."""
    model = network()
    masters = [nn.Parameter(p.detach().clone()) for p in model.parameters()]
    optimizer = torch.optim.SGD(masters, lr=1e-3)
    for (batch,) in loader():
        model(batch).sum().backward()
        for master, parameter in zip(masters, model.parameters(), strict=True):
            master.grad, parameter.grad = parameter.grad, None
        optimizer.step()
        with torch.no_grad():
            for master, parameter in zip(masters, model.parameters(), strict=True):
                parameter.copy_(master)


class Checkpointed(nn.Module):
    """Its parts' forward passes are done again in its backward pass; the older way also calls a backward pass in that."""

    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.first, self.inside, self.reentrant = nn.Linear(8, 8), network(), reentrant

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        first = self.first(batch)
        return checkpoint(self.inside, first, use_reentrant=self.reentrant)  # type: ignore[no-any-return,no-untyped-call]


def checkpointed(*, reentrant: bool = False) -> None:
    model = Checkpointed(reentrant=reentrant)
    optimizer = sgd(model)
    for (batch,) in loader():
        optimizer.zero_grad()
        model(batch).sum().backward()
        optimizer.step()


def checkpointed_reentrant() -> None:
    checkpointed(reentrant=True)


def failed_backward() -> None:
    """Every second backward pass fails, and the loop goes on, as after a loss of memory."""
    model = network()
    optimizer = sgd(model)
    for (batch,) in loader():
        optimizer.zero_grad()
        with contextlib.suppress(ValueError):
            _Fails.apply(model(batch)).sum().backward()  # type: ignore[no-untyped-call]
        model(batch).sum().backward()
        optimizer.step()


class _Fails(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.clone()

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        raise ValueError("no memory")


LOOPS: dict[str, Callable[[], None]] = {
    loop.__name__: loop
    for loop in (
        plain, accumulated, two_optimizers, gan, scaled, evaluated, frozen_mode, generator, workers, saved_and_copied, os_exit,
        compiled, compiled_in_place, by_parts, closure, master_weights,
        checkpointed, checkpointed_reentrant, failed_backward, compiled_step, steps_in_backward, state_first,
    )
}  # fmt: skip
