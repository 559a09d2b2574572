"""How much does autograd hold for a backward pass? Counted in one step, by the hooks that autograd has for what it saves."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from commprof.train.sharding import own_shard


class Held:
    """The bytes held now and at most; memory that several saved tensors share counts once, a parameter's not at all."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._users: Counter[int] = Counter()
        self._now = 0
        self.peak_bytes = 0

    def pack(self, tensor: Tensor) -> "_Saved":
        storage = tensor.untyped_storage()
        own = storage.data_ptr() in {own_shard(p.detach()).untyped_storage().data_ptr() for p in self._model.parameters()}
        return _Saved(tensor.detach(), self, storage.data_ptr(), 0 if own else storage.nbytes())

    def add(self, place: int, num_bytes: int) -> None:
        self._now += num_bytes if self._users[place] == 0 else 0
        self._users[place] += 1
        self.peak_bytes = max(self.peak_bytes, self._now)

    def remove(self, place: int, num_bytes: int) -> None:
        self._users[place] -= 1
        self._now -= num_bytes if self._users[place] == 0 else 0


class _Saved:
    """One saved tensor, for as long as autograd's graph has it."""

    def __init__(self, tensor: Tensor, held: Held, place: int, num_bytes: int) -> None:
        self.tensor, self._held, self._place, self._num_bytes = tensor, held, place, num_bytes
        held.add(place, num_bytes)

    def __del__(self) -> None:
        self._held.remove(self._place, self._num_bytes)


@contextmanager
def counting_held(model: nn.Module) -> Iterator[Held]:
    """Count what forward passes inside save for their backward."""
    held = Held(model)
    with saved_tensors_hooks(held.pack, lambda saved: saved.tensor):
        yield held
