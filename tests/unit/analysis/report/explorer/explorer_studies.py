"""Made-up studies for the page's what-if: a wire that is no line, steps that vary, names that would be script."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from commprof.commbench.records.types import CollectiveMeasurement, Workload
from tests.factory import (
    MIB,
    collective,
    contended,
    step,
    timeline,
    write_contentions,
    write_measurements,
    write_training_run,
)
from tests.unit.analysis.strategies.sharded_steps import BY_ITSELF_S, ONE_RANK, sharding, write_benches, write_sharded_run

WORDS = "</script><script>alert(1)</script>"
PARAMETERS = [(f"{WORDS}{i}", size, 0.004 * (i + 1)) for i, size in enumerate([5 * MIB, 64, MIB, 3 * MIB, 2048, 7 * MIB] * 3)]


def bench(world_size: int) -> list[CollectiveMeasurement]:
    """A wire that is no line: noise, and a jump at 256 KiB where an algorithm changes."""
    random_time = random.Random(world_size)
    sizes = [2**k for k in range(10, 25)]
    pace = [random_time.uniform(0.7, 1.4) * (2 if size >= 2**18 else 1) for size in sizes]
    return [
        collective(size, [way * (40e-6 * world_size + size / 2e9)] * 5, world_size=world_size)
        for size, way in zip(sizes, pace, strict=True)
    ]


def study(root: Path, backend: str, work: Workload) -> Path:
    """Runs of 1, 2 and 4 ranks; those on 4 contend, those on 2 computed beside each other and copied.

    Over gloo a bucket waits 7 ms for a core, elsewhere both sides slow down.
    """
    share = work.samples_per_rank // (2 if work.scaling == "strong" else 1)
    beside = replace(work, synchronised=False, samples_per_rank=share)
    timed = timeline(PARAMETERS, backward_s=0.08)  # the last gradient is there after 72 ms: 8 ms of copying
    steps = [step(i, forward_s=0.03 + 0.001 * (i % 5)) for i in range(20)]
    given: dict[str, Any] = {"gradients": timed, "backend": backend, "cores": 4}
    write_training_run(root / "profile", steps, workload=work, **given)
    write_training_run(root / "compute", steps, world_size=2, workload=beside, synchronised=False, **given)
    for world_size in (2, 4):
        write_measurements(root / f"bench{world_size}", bench(world_size), world_size=world_size, backend=backend)
    waits = [contended(size, [(1e-3, 1e-3, size / 1e9, size / 1e9 + 7e-3)]) for size in (MIB, 4 * MIB, 16 * MIB)]
    measured = waits if backend == "gloo" else [contended(MIB, [(1e-3, 1.3e-3, 1e-2, 1.6e-2)])]
    write_contentions(root / "contention", measured, world_size=4, backend=backend)
    return root


def shard(root: Path) -> None:
    """Add a rank sharded over itself whose spans vary from step to step, and benches of its collectives."""
    pace = np.random.default_rng(1).uniform(0.8, 1.3, size=(len(ONE_RANK), 12))
    still = sharding()
    spans = [
        replace(span, samples_s=tuple(float(seconds) for seconds in row * span.samples_s))
        for span, row in zip(still.spans, pace, strict=True)
    ]
    write_sharded_run(root / "sharded", replace(still, spans=tuple(spans)), BY_ITSELF_S)
    write_benches(root / "gathers4", 4, ["all_gather", "reduce_scatter"])


def folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.name != "analysis")
