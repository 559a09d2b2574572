"""How is a training ended that knows nothing of us? As any Python program is, by SystemExit, which its loop may catch.

Such a loop goes on. Further steps may be its way of cleaning up, so that it has ten of them, told of with the first; then the
process ends without asking Python again, its output written and its exit code still 0.
"""

import os
import sys
from typing import Final

from commprof.commbench.recorder.own_work import say

FURTHER_STEPS: Final = 10


class Ending:
    """Ends a training once it has taken `max_steps`; None: never."""

    def __init__(self, max_steps: int | None) -> None:
        self._max_steps = max_steps
        self._further_steps: int | None = None

    @property
    def was_asked_for(self) -> bool:
        """Whether the training has been asked to end."""
        return self._further_steps is not None

    def is_due(self, num_steps: int) -> bool:
        return self._max_steps is not None and num_steps >= self._max_steps and not self.was_asked_for

    def ask(self) -> None:
        """Ask the training to end, as sys.exit(0) in its own loop would."""
        self._further_steps = 0
        raise SystemExit(0)

    def went_on(self, *, tells: bool) -> None:
        """Take notice of a step after the training was asked to end; `tells` on the one rank that speaks."""
        assert self._further_steps is not None, "nobody goes on who was not asked to end"
        self._further_steps += 1
        if self._further_steps == 1 and tells:
            say(
                f"the training caught SystemExit and goes on, unrecorded; unless it ends by itself its process is ended after "
                f"{FURTHER_STEPS} further steps"
            )
        if self._further_steps >= FURTHER_STEPS:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None and not stream.closed:
                    stream.flush()
            os._exit(0)
