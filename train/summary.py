"""What a training run came to: time and throughput, memory, and how much of the devices' peak it used."""

import resource
import sys
from pathlib import Path
from statistics import median

import torch

from commprof.commbench.ranks.runtime import gather_values
from commprof.commbench.records.rundir import read_document, read_info, read_records, write_document
from commprof.commbench.records.slowdown import Slowdown
from commprof.commbench.records.training import EvaluationMeasurement, StepMeasurement, TrainingSummary
from commprof.commbench.records.types import RunInfo
from commprof.commbench.units import format_bytes, format_number, format_seconds, printable
from commprof.train.config.flops import flops_per_token, peak_flops_per_s
from commprof.train.config.types import TrainConfig

SUMMARY_FILE = "training.json"
_RSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024


def peak_memory_bytes(device: torch.device) -> list[int]:
    """Return each rank's most memory: what torch had allocated of its GPU, or the resident size of its process."""
    if device.type == "cuda":
        own = torch.cuda.max_memory_allocated(device)
    else:
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT_BYTES
    return [int(value) for (value,) in gather_values([float(own)], device)]


def write_summary(run: Path, config: TrainConfig, memory_bytes: list[int]) -> None:
    """Write training.json, unless no step counts: a run that went on shortly before its end only warmed up."""
    info = read_info(run)
    steps = _counted(run)
    if not steps:
        return
    assert info.workload is not None
    summary = TrainingSummary(
        num_steps=len(steps),
        step_s=median(step.step_s for step in steps),
        samples_per_step=info.world_size * steps[0].num_samples,
        tokens_per_sample=config.model.sequence_length,
        flops_per_token=flops_per_token(config.model, info.workload.num_parameters),
        peak_flops_per_s=_peak_of_all(info, config.training.precision),
        peak_memory_bytes=tuple(memory_bytes),
        memory_kind="resident" if info.on_cpu else "allocated",
    )
    write_document(run / SUMMARY_FILE, summary)


def summary_text(run: Path) -> str:
    """Return the lines that end `commprof train`."""
    info = read_info(run)
    every_step = list(read_records(run / "steps.rank00000.jsonl", StepMeasurement))
    steps = [step for step in every_step if step.counts]
    if not steps:
        return f"no step counts: all of them warmed up or were traced\nrun: {printable(str(run))}"
    summary = read_document(run / SUMMARY_FILE, TrainingSummary)
    phases = "  ".join(
        f"{name} {format_seconds(median(getattr(step, f'{name}_s') for step in steps))}"
        for name in ("data", "forward", "backward", "optimizer")
    )
    lines = [
        f"step {format_seconds(summary.step_s)} (median of {len(steps)})",
        f"  {phases}",
        *_throughput(info, summary),
        f"memory {format_bytes(max(summary.peak_memory_bytes))} {summary.memory_kind} at most on a rank",
    ]
    if (slowdown := Slowdown.of([every_step])) is not None:
        lines.append(str(slowdown))
    if (run / "evaluations.jsonl").exists():
        *_, last = read_records(run / "evaluations.jsonl", EvaluationMeasurement)
        lines.append(f"accuracy {last.accuracy:.4f} on {last.num_samples} articles after {last.elapsed_s:.0f} s")
    return "\n".join([*lines, printable(f"run: {run}")])


def _throughput(info: RunInfo, summary: TrainingSummary) -> tuple[str, str]:
    work = info.workload
    assert work is not None
    parts = "" if work.accumulation == 1 else f" in {work.accumulation} micro-batches"
    on_each = f"{work.samples_per_rank} samples on each{parts} ({work.scaling} scaling)"
    share = summary.model_flop_utilisation
    used = "" if share is None else f", {share:.1%} of the peak in FLOP/s"
    ranks = f"{info.world_size} rank{'s' * (info.world_size > 1)}"
    return (
        f"{format_number(summary.samples_per_s)} samples/s on {ranks}, {on_each}",
        f"{format_number(summary.tokens_per_s)} tokens/s{used}",
    )


def _peak_of_all(info: RunInfo, precision: str) -> float | None:
    if info.on_cpu:
        return None
    peaks = [peak_flops_per_s(rank.device_name, precision) for rank in info.ranks]
    return None if None in peaks else sum(peak for peak in peaks if peak is not None)


def _counted(run: Path) -> list[StepMeasurement]:
    return [step for step in read_records(run / "steps.rank00000.jsonl", StepMeasurement) if step.counts]
