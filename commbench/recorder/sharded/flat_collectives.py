"""What does FullyShardedDataParallel send? Its calls of torch.distributed, seen where its own modules make them.

It gathers in one module (_flat_param) and reduces in another (_runtime_utils), by the name `dist` of each. While a model is
recorded that name may stand for torch.distributed as it is but for the functions that are looked at. So nobody else's calls
come by, and of its own those of other models, of checkpoints and of summon_full_params go on as they came: a gather is a unit's
where it sends that unit's shard for a pass, a reduction where the unit's gradient is the last that was ready, an all-reduce
among copies where it is of what such a reduction put out.

What is looked at is sent as it came, or on ranks that are to send nothing a copy stands for it (unsent.py, flat_fill.py).
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor

from commprof.commbench.recorder.own_work import OwnWork
from commprof.commbench.recorder.sharded.flat_fill import Piece, keep_within, pieces_of, stand_everywhere
from commprof.commbench.recorder.sharded.marks import as_it_is
from commprof.commbench.recorder.sharded.unsent import Unsent
from commprof.commbench.records.sharding import Mark

_GATHERING: Final = "torch.distributed.fsdp._flat_param"
_REDUCING: Final = "torch.distributed.fsdp._runtime_utils"
_GATHERS: Final = ("all_gather", "all_gather_into_tensor", "all_gather_single")  # by device, and by torch's version
_REDUCTIONS: Final = ("reduce_scatter_tensor", "reduce_scatter_single")

Watch = Callable[..., Any]


class Named:
    """torch.distributed in a module that knows it as `dist`, with a watch before some of its functions."""

    def __init__(self, module: Any, watches: dict[str, Watch]) -> None:  # noqa: ANN401
        self._module, self._earlier = module, module.dist
        for name, watch in watches.items():
            setattr(self, name, as_it_is(partial(self._pass_by, watch, name)))
        self._module.dist = self

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  whatever torch.distributed has
        return getattr(self._earlier, name)

    def release(self) -> None:
        """Give the name back, where nobody has given it to something else since."""
        if self._module.dist is self:
            self._module.dist = self._earlier

    def _pass_by(self, watch: Watch, name: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        return watch(partial(getattr(self._earlier, name), *args, **kwargs), *args, **kwargs)


class FlatCollectives:
    """Looks at what the units send while a step is under way: their reductions, and with `alone`, which sends none, gathers."""

    def __init__(self, outers: Sequence[Any], mark: Callable[..., None], own_work: OwnWork, *, alone: bool) -> None:
        self._outers, self._mark, self._own_work, self._alone = tuple(outers), mark, own_work, alone
        self._unsent = [(Unsent(), Unsent()) for _ in outers]  # of each unit's gathers and of its reductions
        self._kept_within: dict[int, tuple[Piece, ...]] = {}
        self._named: list[Named] = []
        self._hooks: list[Any] = []
        self._reducing: int | None = None
        self._reduced: tuple[int, Tensor] | None = None  # what copies are to all-reduce next
        self.told: Callable[[int, int, torch.dtype], None] | None = None
        self.in_step = False

    def put(self) -> None:
        """Stand between the units and what they call; they must be of a torch that `can_be_seen`."""
        reductions: dict[str, Watch] = dict.fromkeys(_REDUCTIONS, self._reduce) | {"all_reduce": self._among_copies}
        self._named.append(Named(sys.modules[_REDUCING], reductions))
        if self._alone:
            self._named.append(Named(sys.modules[_GATHERING], dict.fromkeys(_GATHERS, self._gather)))
        flats = [(number, outer._handle.flat_param) for number, outer in enumerate(self._outers)]
        trained = [(number, flat) for number, flat in flats if flat.requires_grad]
        self._hooks = [flat.register_post_accumulate_grad_hook(partial(self._ready, number)) for number, flat in trained]

    def release(self) -> None:
        self.in_step = False
        while self._hooks:
            self._hooks.pop().remove()
        while self._named:
            self._named.pop().release()

    def _ready(self, number: int, _flat: Tensor) -> None:
        """Note that a unit's gradient is whole: FullyShardedDataParallel reduces it next, if it does."""
        self._reducing, self._reduced = number, None

    def _gather(self, send: Callable[[], Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        number = self._of_a_pass(*args) if self.in_step else None
        if number is None:
            return send()
        outer = self._outers[number]
        places, own = _places(*args[:2]), args[1]

        def sent() -> None:
            send()
            if number not in self._kept_within:  # in its first pass, of which nothing is timed
                self._kept_within[number] = pieces_of(outer._handle.flat_param, places, outer.process_group.rank())

        def amend() -> None:
            keep_within(places, self._kept_within[number])

        knows = number in self._kept_within
        fill = partial(stand_everywhere, places, own) if knows else sent
        self._mark("gather_sent", number)
        meanwhile = amend if knows else None
        self._unsent[number][0].stand_in(own, outer.process_group, send=sent, fill=fill, meanwhile=meanwhile)
        self._mark("gather_landed", number)
        return None

    def _of_a_pass(self, _places: object = None, own: object = None, *_: object) -> int | None:
        """Return the unit whose shard this is, in a forward or a backward pass."""
        if not isinstance(own, Tensor):
            return None
        where = own.data_ptr(), own.numel(), own.dtype
        with suppress(AttributeError):  # of a torch that keeps its handles otherwise, on all ranks alike
            for number, outer in enumerate(self._outers):
                handle = outer._handle
                flat = handle.flat_param
                if (flat.data_ptr(), flat.numel(), flat.dtype) == where:
                    return None if handle._training_state.name == "SUMMON_FULL_PARAMS" else number
        return None

    def _reduce(self, send: Callable[[], Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        number = self._reduces(args, kwargs.get("group")) if self.in_step else None
        if number is None:
            return send()
        shard, gradient = args[:2]
        group = self._outers[number].process_group
        self._own_work.do(self._note, number, gradient)
        mark = partial(self._mark, unit=number)
        for name in ("reduce_begun", "reduce_filled", "reduce_sent"):
            mark(name)
        sent = None
        if self._alone:
            fill = partial(_sum_of_own, shard, gradient, group)
            self._unsent[number][1].stand_in(gradient, group, send=send, fill=fill)
        else:
            sent = send()
        mark("reduce_landed")
        self._reducing = None
        if copies_of(self._outers[number]) is None:
            self._ends(number)
        else:
            self._reduced = number, shard
        return sent

    def _reduces(self, args: Sequence[Any], group: object) -> int | None:
        """Return the unit whose gradient this is: that which was ready last, if it is of its size and sent to its group."""
        number = self._reducing
        if number is None or len(args) < 2:
            return None
        outer = self._outers[number]
        with suppress(AttributeError):
            shard_elements = outer._handle.flat_param._sharded_size.numel()
            elements = [shard_elements, shard_elements * outer.process_group.size()]
            if group is outer.process_group and [each.numel() for each in args[:2]] == elements:
                return number
        return None

    def _note(self, number: int, gradient: Tensor) -> None:
        if self.told is not None:
            self.told(number, gradient.numel() * gradient.element_size(), gradient.dtype)

    def _among_copies(self, send: Callable[[], Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        reduced = self._reduced
        if not self.in_step or reduced is None or not args or args[0] is not reduced[1]:
            return send()
        number, shard = reduced
        self._reduced = sent = None
        group = copies_of(self._outers[number])
        if self._alone and group is not None:
            self._unsent[number][1].stand_in(shard, group, send=send, fill=partial(shard.mul_, group.size()))
        else:
            sent = send()
        self._ends(number)
        return sent

    def _ends(self, number: int) -> None:
        ended: tuple[Mark, Mark] = ("reduced", "kept")
        for name in ended:
            self._mark(name, number)


def can_be_seen() -> bool:
    """Whether this torch makes its calls where they are looked for."""
    return all(getattr(sys.modules.get(module), "dist", None) is not None for module in (_GATHERING, _REDUCING))


def copies_of(outer: Any) -> dist.ProcessGroup | None:  # noqa: ANN401
    """Return the group of a unit's copies; None where there are none."""
    return outer._inter_node_pg if "HYBRID" in outer.sharding_strategy.name else None


def _places(output: Tensor | Sequence[Tensor], own: Tensor) -> Sequence[Tensor]:
    """Return where each rank's shard is gathered: gloo is given a list, and a device's own library the whole."""
    return output.view(-1, own.numel()).unbind() if isinstance(output, Tensor) else output


def _sum_of_own(shard: Tensor, gradient: Tensor, group: dist.ProcessGroup) -> None:
    """Put the sum of gradients that are all as this rank's into its shard: what follows makes it their mean."""
    torch.mul(gradient.view(group.size(), -1)[group.rank()], group.size(), out=shard)
