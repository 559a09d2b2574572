"""What happens to somebody else's job when the recorder in it fails? Nothing: one line, and it goes on alone.

All that the recorder does inside a job goes through `OwnWork.do`. Without a `let_go` an error is raised as it is, for
trainings that would rather end than go unrecorded.
"""

import sys
from collections.abc import Callable
from typing import ParamSpec

from commprof.commbench.errors import Interrupted
from commprof.commbench.units import printable

P = ParamSpec("P")


class OwnWork:
    """Does the recorder's work until it first fails, and none after that."""

    def __init__(self, let_go: Callable[[str], None] | None = None) -> None:
        self._let_go = let_go
        self.ended = False

    @property
    def may_end(self) -> bool:
        """Whether a failure ends the work and nothing else."""
        return self._let_go is not None

    def do(self, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Do a piece of work; its error, whatever it is, must not reach the job that is only looked at."""
        if self.ended:
            return
        try:
            work(*args, **kwargs)
        except Exception as error:
            if not self.ended_by(error):
                raise

    def do_anyway(self, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Do what is to be done even after a failure: to put things back."""
        try:
            work(*args, **kwargs)
        except Exception as error:
            if not self.ended_by(error):
                raise

    def ended_by(self, error: Exception) -> bool:
        """End the work for an error in it; return False where the error is to be raised."""
        if self._let_go is None or isinstance(error, Interrupted):  # a signal asked the job to end, not this work
            return False
        self.ended = True
        self._let_go(" ".join(f"{type(error).__name__}: {error}".split())[:300])
        return True


def say(text: str) -> None:
    """Write one line of the recorder's own into a job's standard error; one that is closed hears nothing."""
    if sys.stderr is not None and not sys.stderr.closed:
        sys.stderr.write(f"commprof: {printable(text)}\n")
        sys.stderr.flush()
