"""The roof: one door for every verb, the launcher and the study; and, for scripts, `from commprof import record_steps`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from commprof.commbench.recorder.own_loop import record_steps
    from commprof.commbench.recorder.steps import StepRecorder

__all__ = ["StepRecorder", "record_steps"]


def __getattr__(name: str) -> object:
    """Bring torch only to those who ask for a recorder."""
    if name == "record_steps":
        from commprof.commbench.recorder.own_loop import record_steps

        return record_steps
    if name == "StepRecorder":
        from commprof.commbench.recorder.steps import StepRecorder

        return StepRecorder
    raise AttributeError(f"module 'commprof' has no attribute {name!r}")
