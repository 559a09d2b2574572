"""TensorBoard's curves of a run: an optional extra, written by rank 0 to <run>/tensorboard."""

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from commprof.commbench.errors import BadInput

Plot = Callable[[int, Mapping[str, float]], None]


def check_tensorboard() -> None:
    """Raise BadInput where the package is missing."""
    if importlib.util.find_spec("tensorboard") is None:
        raise BadInput("training.tensorboard=true needs a package that is missing; pip install 'commprof[tensorboard]'")


@contextmanager
def board(folder: Path, *, first_step: int, enabled: bool) -> Iterator[Plot]:
    """Yield a function that plots values by name at a step; what was plotted from `first_step` on before is hidden."""
    if not enabled:
        yield lambda step, values: None
        return
    from torch.utils.tensorboard import SummaryWriter

    def plot(step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    with SummaryWriter(str(folder), purge_step=first_step or None) as writer:
        yield plot
