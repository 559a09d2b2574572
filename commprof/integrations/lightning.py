"""LightningCallback: records what Lightning's Trainer trains, of `lightning` or of `pytorch_lightning`."""

import sys
from typing import Any

if "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules:
    from pytorch_lightning import Callback
else:
    from lightning.pytorch import Callback

from commprof.commbench.foreign.recording import Recording


class LightningCallback(Callback):  # type: ignore[misc]  # lightning has no types where it is missing
    """Records from the beginning of the training to its end, on every rank; arguments as Recording has them."""

    def __init__(self, **told: Any) -> None:  # noqa: ANN401
        self._recording = Recording(**told)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401
        """Start; the arguments are Lightning's own."""
        self._recording.start(pl_module.device)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401
        """Stop, and put the run together."""
        self._recording.stop()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ANN401
        """Stop without waiting for the other ranks."""
        self._recording.stop(f"{type(exception).__name__}: {exception}"[:1000])
