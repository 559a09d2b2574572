"""What would other hardware bring: more ranks, another wire, faster computation?

The same model and draws as the advice. A published wire (presets.py) has one time a size: its own spread is not known.
"""

from collections.abc import Iterator

from analysis.advice_results import WhatIf
from analysis.cost import fit_cost
from analysis.estimate import Floats, Setting, estimate, interval
from analysis.import_run import measurements, understand
from analysis.presets import preset, preset_names
from analysis.results import CostModel
from analysis.scaling import work_s
from analysis.situation import Situation

_ALTERNATIVES = (
    ("twice the wire's bandwidth", Setting(bandwidth=2.0)),
    ("half the wire's latency", Setting(latency=0.5)),
    ("computation twice as fast", Setting(compute=2.0)),
)


def what_ifs(situation: Situation, larger: Situation | None, single_s: float) -> list[WhatIf]:
    """Return what each alternative brings. `larger` is the same training on more ranks, where that can be predicted."""
    kind = situation.workload.scaling
    work = work_s(single_s, situation.world_size, kind)
    now_s = estimate(situation).per_batch_s

    def row(what: str, then_s: Floats) -> WhatIf:
        saved_s = now_s - then_s
        span = interval(saved_s)
        return WhatIf(what=what, seconds_saved=float(saved_s[0]), interval_s=span, speedup=work / float(then_s[0]))

    found = []
    if larger is not None:
        grown = work_s(single_s, larger.world_size, kind) / work  # samples of its step by samples of ours
        carried = ", its wire extrapolated" if larger.extrapolated else ""
        found.append(row(f"{larger.world_size} ranks{carried}", estimate(larger).per_batch_s / grown))
    found += [row(what, estimate(situation, changed).per_batch_s) for what, changed in _ALTERNATIVES]
    for name, cost in _published(situation.world_size):
        found.append(row(f"the wire of {name}", estimate(situation, Setting(cost=cost)).per_batch_s))
    return found


def published_note(world_size: int) -> str | None:
    """Say which world sizes have a published wire, where this one has none."""
    sizes = {preset(name).num_ranks for name in preset_names()}
    if world_size in sizes:
        return None
    listed = ", ".join(str(size) for size in sorted(size for size in sizes if size is not None))
    return f"no published wire of {world_size} ranks; there are some of {listed} ranks (commprof import --preset)"


def _published(world_size: int) -> Iterator[tuple[str, CostModel]]:
    for name in preset_names():
        sweep = preset(name)
        if sweep.num_ranks == world_size and sweep.op == "all_reduce":
            yield name, fit_cost(list(measurements(understand(sweep, name, op=None, ranks=None))))
