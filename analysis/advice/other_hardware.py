"""What would other hardware bring: more ranks, another wire, faster computation?

The same model and draws as the advice. A published wire (readers/presets.py) has one time a size: its own spread is not known.
It lies between GPUs and is shown to a computation on GPUs alone.
"""

from collections.abc import Iterator

from commprof.analysis.advice.results import WhatIf
from commprof.analysis.readers.as_run import measurements, understand
from commprof.analysis.readers.presets import preset, preset_names
from commprof.analysis.scaling.speedup import work_s
from commprof.analysis.step.estimate import AS_MEASURED, Setting, estimate, interval, saved, speedup
from commprof.analysis.step.inputs import SingleRank, StepInputs
from commprof.analysis.step.predict import too_disturbed
from commprof.analysis.wire.cost import fit_cost
from commprof.analysis.wire.results import CostModel

_ALTERNATIVES = (
    ("twice the wire's bandwidth", Setting(bandwidth=2.0)),
    ("half the wire's latency", Setting(latency=0.5)),
    ("computation twice as fast", Setting(compute=2.0)),
)


def what_ifs(inputs: StepInputs, larger: StepInputs | None, single: SingleRank) -> list[WhatIf]:
    """Return what each alternative brings. `larger` is the same training on more ranks, where that can be predicted."""
    kind, now = inputs.workload.scaling, estimate(inputs)
    now_s, untold = now.per_batch_s, too_disturbed(inputs, now) is not None

    def row(what: str, changed: Setting, on: StepInputs = inputs) -> WhatIf:
        then = estimate(on, changed)
        grown = work_s(1.0, on.world_size, kind) / work_s(1.0, inputs.world_size, kind)  # samples of a step by ours
        saved_s = saved(now_s, then.per_batch_s / grown, inputs.drift, inputs.between)
        return WhatIf(
            what=what,
            seconds_saved=float(saved_s[0]),
            interval_s=None if untold else interval(saved_s),
            speedup=speedup(on, single, changed, then),
        )

    found = []
    if larger is not None:
        carried = ", its wire extrapolated" if larger.extrapolated else ""
        found.append(row(f"{larger.world_size} ranks{carried}", AS_MEASURED, larger))
    found += [row(what, changed) for what, changed in _ALTERNATIVES]
    for name, cost in _published(inputs.world_size) if _on_gpus(inputs) else ():
        found.append(row(f"the wire of {name}", Setting(cost=cost)))
    return found


def published_note(inputs: StepInputs) -> str | None:
    """Say why no published wire is shown: the computation is not a GPU's, or none is of this world size."""
    world_size = inputs.world_size
    if not _on_gpus(inputs):
        return "published wires are between GPUs and this computation is a CPU's; profile on the GPU in question to see them"
    sizes = {preset(name).num_ranks for name in preset_names()}
    if world_size in sizes:
        return None
    listed = ", ".join(str(size) for size in sorted(size for size in sizes if size is not None))
    return f"no published wire of {world_size} ranks; there are some of {listed} ranks (commprof import --preset)"


def _on_gpus(inputs: StepInputs) -> bool:
    return inputs.workers == 1  # gloo has two


def _published(world_size: int) -> Iterator[tuple[str, CostModel]]:
    for name in preset_names():
        sweep = preset(name)
        if sweep.num_ranks == world_size and sweep.op == "all_reduce":
            yield name, fit_cost(list(measurements(understand(sweep, name, op=None, ranks=None))))
