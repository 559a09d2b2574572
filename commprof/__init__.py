"""Will N GPUs make this training faster, by how much, what holds it back, and what should change?

    import commprof as cp

    runs = cp.load("runs/*")            runs.steps, runs.collectives, runs.buckets, runs.links, runs.info: DataFrames
    cp.fit(runs), cp.predict(runs, n=[2, 4, 8]), cp.advise(runs), cp.check(runs)
    cp.trace("runs/TRAIN"), cp.extrapolate("table.csv", n=[16])

Each answer has `.to_frame()`, `.plot()` and, printed, the words of the verb of its name. `cp.record_steps` records a training
loop of one's own. Nothing is imported before it is asked for.
"""

TYPE_CHECKING = not __name__  # false; true to type checkers, and either to what completes names in an editor
if TYPE_CHECKING:
    from commprof.analysis.advice.results import Budget
    from commprof.analysis.health.check import Demands
    from commprof.api.advised import Advised, advise
    from commprof.api.checked import Checked, check
    from commprof.api.extrapolated import Extrapolated, extrapolate
    from commprof.api.fitted import Fitted, fit
    from commprof.api.predicted import Predicted, predict
    from commprof.api.runs import Runs, load
    from commprof.api.traced import Traced, trace
    from commprof.commbench.errors import BadInput, CommprofError, UnusableData
    from commprof.commbench.recorder.own_loop import record_steps
    from commprof.commbench.recorder.steps import StepRecorder

    __version__: str

__all__ = [
    "Advised",
    "BadInput",
    "Budget",
    "Checked",
    "CommprofError",
    "Demands",
    "Extrapolated",
    "Fitted",
    "Predicted",
    "Runs",
    "StepRecorder",
    "Traced",
    "UnusableData",
    "advise",
    "check",
    "extrapolate",
    "fit",
    "load",
    "predict",
    "record_steps",
    "trace",
]

_HOMES = {
    "commprof.analysis.advice.results": ("Budget",),
    "commprof.analysis.health.check": ("Demands",),
    "commprof.api.advised": ("Advised", "advise"),
    "commprof.api.checked": ("Checked", "check"),
    "commprof.api.extrapolated": ("Extrapolated", "extrapolate"),
    "commprof.api.fitted": ("Fitted", "fit"),
    "commprof.api.predicted": ("Predicted", "predict"),
    "commprof.api.runs": ("Runs", "load"),
    "commprof.api.traced": ("Traced", "trace"),
    "commprof.commbench.errors": ("BadInput", "CommprofError", "UnusableData"),
    "commprof.commbench.recorder.own_loop": ("record_steps",),
    "commprof.commbench.recorder.steps": ("StepRecorder",),
}


def __getattr__(name: str) -> object:
    """Import what is asked for, once."""
    if name == "__version__":
        from importlib.metadata import version

        return version("commprof")
    for module, names in _HOMES.items():
        if name in names:
            from importlib import import_module

            found: object = getattr(import_module(module), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module 'commprof' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__", "__doc__", "__file__", "__path__"])
