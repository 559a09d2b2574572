"""Loading torch, which is most of what a short run takes."""

import gc
from importlib import import_module

_TRAINING = ("torch.nn.parallel", "torch._dynamo")  # the latter is loaded by any optimizer's first use


def load_torch(*, to_train: bool = False) -> None:
    """Import torch without looking for garbage meanwhile, a third of the time it would take otherwise.

    Nothing that was loaded is garbage later either, so later collections, those within measured steps, leave it out.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        for module in ("torch.distributed", *(_TRAINING if to_train else ())):
            import_module(module)
        gc.freeze()
    finally:
        if enabled:
            gc.enable()
