"""HFCallback: records what transformers.Trainer trains."""

from typing import Any

import torch
from transformers import TrainerCallback

from commprof.commbench.foreign.recording import Recording


class HFCallback(TrainerCallback):  # type: ignore[misc]  # transformers has no types where it is missing
    """Records from the beginning of the training to its end, on every rank; arguments as Recording has them."""

    def __init__(self, **told: Any) -> None:  # noqa: ANN401
        self._recording = Recording(**told)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        """Start; the arguments are transformers' own."""
        self._recording.start(torch.device(args.device))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        """Stop, and put the run together."""
        self._recording.stop()
