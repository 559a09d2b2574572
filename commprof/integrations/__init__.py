"""How is a training recorded that a library's loop runs? One line: a callback.

    from commprof.integrations import HFCallback, LightningCallback

    transformers.Trainer(..., callbacks=[HFCallback()])
    lightning.Trainer(..., callbacks=[LightningCallback()])

Each takes `folder`, `experiment`, `samples_per_rank` and `dataset`, all by name and all of them optional, as record_steps has
them. Neither library is imported before its callback is asked for.
"""

TYPE_CHECKING = not __name__  # false; true to type checkers
if TYPE_CHECKING:
    from commprof.integrations.hf import HFCallback
    from commprof.integrations.lightning import LightningCallback

__all__ = ["HFCallback", "LightningCallback"]


def __getattr__(name: str) -> object:
    """Import a callback's module, and with it its library."""
    if name == "HFCallback":
        from commprof.integrations.hf import HFCallback

        return HFCallback
    if name == "LightningCallback":
        from commprof.integrations.lightning import LightningCallback

        return LightningCallback
    raise AttributeError(f"module 'commprof.integrations' has no attribute {name!r}")
