"""Benches of one wire, made up, and what is judged of them."""

from collections.abc import Sequence
from pathlib import Path

from commprof.analysis.health.evidence import Evidence
from commprof.analysis.health.results import Verdict
from commprof.analysis.health.run_health import health
from commprof.analysis.health.stability import stability
from commprof.analysis.runs.load import Run
from commprof.commbench.machine.facts import HostInfo
from commprof.commbench.records.types import BurstMeasurement, CollectiveMeasurement
from tests.factory import collective, run_info

SIZES = [2**k for k in range(10, 27)]
STEADY = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0, 1.01, 0.99, 1.0]


def evidence(
    measurements: Sequence[CollectiveMeasurement] = (),
    *,
    hosts: tuple[HostInfo, ...] | None = None,
    bursts: tuple[BurstMeasurement, ...] = (),
    **info: object,
) -> Evidence:
    run = Run(
        path=Path("runs/it"),
        info=run_info(**info),  # type: ignore[arg-type]
        collectives=tuple(measurements),
        steps={},
        gradients=None,
    )
    return Evidence(run=run, hosts=hosts, telemetry=None, bursts=bursts, links=())


def at(size: int, factor: float = 1.0, wobbles: Sequence[float] = STEADY, **fields: object) -> CollectiveMeasurement:
    """One size of a wire of 10 us + S / 10 GB/s."""
    return collective(size, [factor * (10e-6 + size / 1e10) * wobble for wobble in wobbles], **fields)  # type: ignore[arg-type]


def judged(name: str, found: Evidence) -> Verdict:
    (verdict,) = [verdict for verdict in (*health(found), *stability(found)) if verdict.name == name]
    return verdict
