"""How a run is asked to stop: by Ctrl-C, or by SIGTERM, a scheduler's way. No torch here."""

import ctypes
import signal
import sys
from types import FrameType

from commbench.errors import Interrupted

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded here: a forked child may only call it


def raise_on_sigterm() -> None:
    """Turn SIGTERM into Interrupted, so that the run is marked before it ends."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise Interrupted(f"stopped by {signal.Signals(signum).name}")

    signal.signal(signal.SIGTERM, stop)


class StopRequest:
    """Remembers a first SIGINT or SIGTERM so that the work in hand can be finished; a second one ends it at once."""

    def __init__(self) -> None:
        self.reason: str | None = None
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self._note)

    def __call__(self) -> bool:
        return self.reason is not None

    def _note(self, signum: int, frame: FrameType | None) -> None:
        again, self.reason = self.reason is not None, f"stopped by {signal.Signals(signum).name}"
        if again:
            raise Interrupted(self.reason)


def die_with_parent() -> None:
    """Ask Linux to end this process with the one that started it."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
