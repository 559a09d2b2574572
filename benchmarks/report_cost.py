"""What does `commprof report` cost for a study of 24 cells, how large are its pages, and how soon is one ready in a browser?

    make benchmark-report          about two minutes; results in docs/results/report-cost.md

The study is made up: four models on six wires, each cell with a profile, a bench and compute-only and synchronised runs on 2
and 4 ranks, 200 steps each, its predictions written before. Seconds are a whole process', from start to end, peak memory the
largest process' among it and those that it starts. A page is ready when its load event has fired (domComplete): a frame of a
page that notes the time holds it, in headless Chromium.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.machine import describe_machine
from benchmarks.made_up_study import write_bench
from benchmarks.processes import run_together
from benchmarks.startup import SCRIPT
from benchmarks.trace_growth import Costs, measure
from commprof.analysis.study.predictions import write_predictions
from commprof.commbench.errors import CommprofError, RunFailed
from commprof.commbench.records.rundir import RecordWriter, create_run, write_document, write_text
from commprof.commbench.records.training import BucketTiming, GradientTimeline, ParameterTiming, StepMeasurement
from commprof.commbench.records.types import (
    SCHEMA_VERSION,
    RankInfo,
    RunInfo,
    RunKind,
    SoftwareInfo,
    Workload,
)
from commprof.commbench.units import format_bytes, parse_line_rate

MODELS = {"tiny": 1_000_000, "small": 2_000_000, "medium": 5_000_000, "large": 10_000_000}
WIRES = ("100mbit", "200mbit", "500mbit", "1gbit", "2.5gbit", "10gbit")
RANKS = (2, 4)
MAX_S, MAX_PEAK_BYTES, MAX_PAGE_BYTES, MAX_READY_S = 10.0, 1e9, 3e6, 0.3
TIMEOUT_S = 600.0
_STEPS, _SAMPLES, _LATENCY_S = 200, 20, 200e-6
_PARAMETERS = 40
_FRAME = """<!doctype html><title>wait</title><script>const start = performance.now()</script>
<iframe src="{page}" width="1100" height="900"
 onload="document.title = 'ready ' + (performance.now() - start).toFixed(1) + ' ms'"></iframe>
"""
_READY = re.compile(r"ready ([\d.]+) ms")


def add_study(root: Path, models: Iterable[str] = MODELS, wires: Iterable[str] = WIRES) -> Path:
    """Write the runs of all cells and their predictions."""
    models, wires = list(models), list(wires)
    rng = np.random.default_rng(0)
    create_run(root, _info("study", max(RANKS), root.name))
    for wire in wires:
        for ranks in RANKS:
            _add_bench(root / f"bench-n{ranks}-{wire}", ranks, wire, rng)
    for model in models:
        _add_training(root / f"{model}-profile-n1", model, 1, None, 0.0, rng)
        for wire in wires:
            for ranks in RANKS:
                sent_s = _transfer_s(4 * MODELS[model], ranks, wire)
                _add_training(root / f"{model}-compute-n{ranks}-{wire}", model, ranks, wire, None, rng)
                _add_training(root / f"{model}-train-n{ranks}-{wire}", model, ranks, wire, sent_s, rng)
            write_predictions(root, model, wire, grid=True)
    return root


def _transfer_s(num_bytes: int, ranks: int, wire: str) -> float:
    return _LATENCY_S * (ranks - 1) + 2 * (ranks - 1) / ranks * num_bytes * 8 / parse_line_rate(wire)


def _info(kind: RunKind, ranks: int, run_id: str, wire: str | None = None, workload: Workload | None = None) -> RunInfo:
    return RunInfo(
        schema_version=SCHEMA_VERSION,
        run_id=run_id,
        kind=kind,
        status="completed",
        started_at="2026-01-01T00:00:00.000+00:00",
        ended_at="2026-01-01T00:01:00.000+00:00",
        command=("commprof", kind),
        backend="gloo",
        world_size=ranks,
        num_nodes=ranks,
        launcher="torchrun",
        cores_per_node=8,
        threads_per_rank=1,
        ranks=tuple(RankInfo(rank=r, local_rank=0, hostname=f"host{r}", device_name="made up") for r in range(ranks)),
        software=SoftwareInfo(python="3.11", torch="2.13"),
        environ={},
        workload=workload,
        wire=wire,
    )


def _add_bench(path: Path, ranks: int, wire: str, rng: np.random.Generator) -> None:
    times = {2**k: _transfer_s(2**k, ranks, wire) * rng.lognormal(0, 0.05, _SAMPLES) for k in range(3, 27)}
    write_bench(path, _info("bench", ranks, path.name, wire), times, apart=1.05)


def _add_training(path: Path, model: str, ranks: int, wire: str | None, sent_s: float | None, rng: np.random.Generator) -> None:
    """Write a training run; `sent_s` None is a compute-only one."""
    num_parameters = MODELS[model]
    workload = Workload(
        experiment=model,
        num_parameters=num_parameters,
        gradient_bytes=4 * num_parameters,
        samples_per_rank=32,
        sequence_length=128,
        first_bucket_bytes=2**20,
        bucket_cap_bytes=25 * 2**20,
        synchronised=sent_s is not None,
    )
    create_run(path, _info("train", ranks, path.name, wire, workload))
    step_s = num_parameters * 5e-8
    for rank in range(ranks):
        with RecordWriter(path / f"steps.rank{rank:05d}.jsonl") as writer:
            for step, factor in enumerate(rng.lognormal(0, 0.03, _STEPS).tolist()):
                writer.append(_step(step, factor * step_s, sent_s or 0.0, synchronised=sent_s is not None))
    write_document(path / "gradients.json", _gradients(num_parameters, 0.6 * step_s, sent_s or 0.0))


def _step(step: int, compute_s: float, sent_s: float, *, synchronised: bool) -> StepMeasurement:
    return StepMeasurement(
        step=step,
        data_s=0.02 * compute_s,
        forward_s=0.3 * compute_s,
        backward_s=0.6 * compute_s + sent_s,
        optimizer_s=0.08 * compute_s,
        step_s=compute_s + sent_s,
        num_samples=32,
        loss=1.4 / (1 + 0.01 * step),
        warmup=step < 5,
        profiled=False,
        synchronised=synchronised,
    )


def _gradients(num_parameters: int, backward_s: float, sent_s: float) -> GradientTimeline:
    size = 4 * num_parameters // _PARAMETERS
    return GradientTimeline(
        rank=0,
        num_steps=_STEPS,
        backward_s=backward_s + sent_s,
        parameters=tuple(
            ParameterTiming(name=f"layers.{index}.weight", num_bytes=size, ready_s=backward_s * (index + 1) / _PARAMETERS)
            for index in range(_PARAMETERS)
        ),
        buckets=(
            BucketTiming(
                index=0, num_bytes=4 * num_parameters, ready_s=backward_s, launched_s=backward_s, done_s=backward_s + sent_s
            ),
        ),
    )


def ready_s(page: Path, chromium: str) -> float:
    """Return the seconds until the page's load event; raise RunFailed where the browser does not say."""
    with tempfile.TemporaryDirectory() as folder:
        frame = Path(folder) / "frame.html"
        write_text(frame, _FRAME.format(page=page.resolve().as_uri()))
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
        flags += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder}/profile"]
        printed = run_together([[chromium, *flags, "--dump-dom", frame.as_uri()]], TIMEOUT_S)
    found = _READY.search(printed)
    if found is None:
        raise RunFailed(f"{chromium} did not load {page}: {printed[:200]!r}")
    return float(found[1]) / 1e3


def lines(costs: Costs, pages: Sequence[Path], largest: Path, ready: Sequence[float]) -> Iterator[str]:
    """Yield Markdown: the costs and whether each aim is met in every repeat."""
    seconds = [own for own, _ in costs["report"]]
    peaks = [own for _, own in costs["report"]]
    sizes = [page.stat().st_size for page in pages]
    yield "| what | median (range) | aim | met |"
    yield "|---|---|---|---|"
    yield f"| time | {_spread(seconds)} s | under {MAX_S:g} s | {_met(max(seconds) < MAX_S)} |"
    yield f"| peak memory | {format_bytes(max(peaks))} | under 1 GB | {_met(max(peaks) < MAX_PEAK_BYTES)} |"
    yield (
        f"| size of a page, {len(pages)} of them | {median(sizes) / 1e6:.2f} MB ({min(sizes) / 1e6:.2f} to "
        f"{max(sizes) / 1e6:.2f}) | under 3 MB | {_met(max(sizes) < MAX_PAGE_BYTES)} |"
    )
    if ready:
        yield f"| {largest.parent.name}'s page ready | {_spread(ready)} s | under 0.3 s | {_met(max(ready) < MAX_READY_S)} |"
    else:
        yield "| page ready | not measured: no chromium here | under 0.3 s | - |"


def _spread(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _met(every: bool) -> str:
    return "yes" if every else "NO"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="where the result goes")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="repeats (5)")
    args = parser.parse_args()
    busy = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        with tempfile.TemporaryDirectory() as folder:
            root = add_study(Path(folder) / "study")
            costs = measure({"report": [str(SCRIPT), "report", str(root)]}, args.repeats)
            pages = sorted(root.rglob("report.html"))
            largest = max(pages, key=lambda page: page.stat().st_size)
            ready = [ready_s(largest, chromium) for _ in range(args.repeats)] if chromium else []
            told = list(lines(costs, pages, largest, ready))
    except CommprofError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    head = ["# What a report costs", "", describe_machine()]
    head += [f"- {args.repeats} repeats; load before them {busy} (1, 5, 15 minutes); no traces among the runs", ""]
    head += [f"A study of {len(MODELS)} models on {len(WIRES)} wires, {len(pages) - 1} cells, and a page for each:", ""]
    write_text(args.out / "report-cost.md", "\n".join([*head, *told]) + "\n")
    sys.stdout.write("\n".join([*head, *told]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
