"""When does DDP pay on wires that others have measured? The rules of thumb, played through the simulator.

    make benchmark-guidelines          a minute or two; results in docs/results/guidelines.md

A training that nobody here has the GPUs for is made up: T_1 = FLOP of a step / (UTILISATION x the device's peak), a third of it
forward, and each gradient ready when its share of backward's FLOP is done, the embedding's last. The wire is a published curve
(`commprof import --preset`). `commprof predict` reads both as it reads measured runs; the speedup is its schedule's, at a
fixed batch per rank. Small models reach less of a peak, take longer than made up here, and so have a larger R.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmarks.machine import describe_machine
from commprof.analysis.advice.predict import predict_runs
from commprof.analysis.readers.as_run import understand, write_run
from commprof.analysis.readers.presets import preset, preset_names
from commprof.analysis.runs.load import load_runs
from commprof.commbench.records.buckets import CAP_BYTES, FIRST_CAP_BYTES
from commprof.commbench.records.rundir import RecordWriter, create_run, now_utc, write_document, write_text
from commprof.commbench.records.training import GradientTimeline, ParameterTiming, StepMeasurement
from commprof.commbench.records.types import SCHEMA_VERSION, RankInfo, RunInfo, SoftwareInfo, Workload
from commprof.commbench.units import format_seconds
from commprof.train.config.flops import flops_per_token, peak_flops_per_s
from commprof.train.config.types import TrainConfig, load_train_config
from commprof.train.model import TextClassifier, count_parameters, gradient_bytes

UTILISATION = 0.4
STEPS = 10
ACCUMULATION = 4
CONFIGS = Path("configs")
DEVICES = {"a100": "A100-SXM4-40GB", "h100": "H100 80GB HBM3", "b200": "B200", "rtx4090": "RTX 4090", "v100": "V100-PCIE-16GB"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What is trained: a configuration's model, samples a rank and step, and the form in which gradients are sent."""

    config: str = "gpt-124m"
    samples: int = 64
    hook: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One rank's step, a step of N ranks with all communication exposed and as scheduled, in seconds; and the world size."""

    world_size: int
    single_s: float
    comm_s: float
    step_s: float

    @property
    def ratio(self) -> float:
        """R = W / T_comm, W being N T_1."""
        return self.world_size * self.single_s / self.comm_s

    def speedup(self, micro_batches: int = 1) -> float:
        return self.world_size * micro_batches * self.single_s / ((micro_batches - 1) * self.single_s + self.step_s)


def write_profile(folder: Path, training: Training, wire: str) -> None:
    """Write the run of one rank that was made up."""
    config = load_train_config(CONFIGS / f"{training.config}.yaml")
    with torch.device("meta"):
        model = TextClassifier(config.model, num_classes=4)
    device = next(device for name, device in DEVICES.items() if wire.startswith(name))
    peak = peak_flops_per_s(device, "bfloat16") or peak_flops_per_s(device, "float16")
    assert peak is not None
    tokens = training.samples * config.model.sequence_length
    step_s = tokens * flops_per_token(config.model, count_parameters(model)) / (UTILISATION * peak)
    create_run(folder, _run_info(config, training, model, device))
    with RecordWriter(folder / "steps.rank00000.jsonl") as writer:
        for index in range(STEPS):
            writer.append(_step(index, step_s, training.samples))
    write_document(folder / "gradients.json", _timeline(model, 2 / 3 * step_s))


def outcome(training: Training, wire: str) -> Outcome:
    """Predict a training on a wire, at the number of ranks that the wire was measured on."""
    with tempfile.TemporaryDirectory() as name:
        profile, bench = Path(name) / "profile", Path(name) / "bench"
        write_profile(profile, training, wire)
        sweep = understand(preset(wire), wire, op=None, ranks=None)
        write_run(bench, sweep, wire)
        n = sweep.ranks.value
        predicted = predict_runs(load_runs([profile, bench]), [n])
    (scheduled,) = (own for own in predicted.predictions if own.model == "schedule")
    (law,) = predicted.break_evens
    return Outcome(world_size=n, single_s=predicted.single_step_s, comm_s=law.comm_s, step_s=scheduled.step_s)


def report() -> Iterator[str]:
    """Yield Markdown: models over wires, then what each change does to the middle one."""
    models = {name: Training(config=name) for name in ("medium-25m", "gpt-124m", "gpt-350m")}
    changes = {
        "64 samples": Training(),
        "8 samples": Training(samples=8),
        "256 samples": Training(samples=256),
        "bf16 gradients": Training(hook="bf16"),
    }
    found = {(own, wire): outcome(own, wire) for own in {*models.values(), *changes.values()} for wire in preset_names()}
    yield "Speedup, and R in brackets; 64 samples a rank and step, of 256 (medium-25m) or 512 tokens, float32 gradients:\n"
    yield from _table("wire", models)
    for wire in preset_names():
        yield f"| {wire} | " + " | ".join(_cell(found[own, wire]) for own in models.values()) + " |"
    yield "\nThe step of one rank, and all its buckets sent one by one:\n"
    yield from _table("wire", models)
    for wire in preset_names():
        times = (found[own, wire] for own in models.values())
        yield f"| {wire} | " + " | ".join(f"{format_seconds(o.single_s)}, {format_seconds(o.comm_s)}" for o in times) + " |"
    yield "\ngpt-124m with something changed:\n"
    yield from _table("wire", [*changes, f"{ACCUMULATION} micro-batches of 64"])
    for wire in preset_names():
        cells = [_cell(found[own, wire]) for own in changes.values()]
        base = found[changes["64 samples"], wire]
        accumulated = f"{base.speedup(ACCUMULATION):.2f}x ({ACCUMULATION * base.ratio:.3g})"
        yield f"| {wire} | " + " | ".join([*cells, accumulated]) + " |"


def _table(corner: str, columns: Sequence[str] | dict[str, Training]) -> Iterator[str]:
    yield f"| {corner} | " + " | ".join(columns) + " |"
    yield "|---" * (len(columns) + 1) + "|"


def _cell(own: Outcome) -> str:
    return f"{own.speedup():.2f}x ({own.ratio:.3g})"


def _timeline(model: nn.Module, backward_s: float) -> GradientTimeline:
    """Return when gradients are ready: from the last layer to the first, matrices in proportion to their size."""
    parameters = list(model.named_parameters())[::-1]
    work = [0 if p.dim() < 2 or name.startswith("embedding") else p.numel() for name, p in parameters]
    ready, done = [], 0
    for (name, parameter), own in zip(parameters, work, strict=True):
        done += own
        at_s = backward_s * done / sum(work)
        ready.append(ParameterTiming(name=name, num_bytes=parameter.numel() * 4, ready_s=at_s))
    return GradientTimeline(rank=0, num_steps=STEPS, backward_s=backward_s, parameters=tuple(ready), buckets=())


def _step(index: int, step_s: float, samples: int) -> StepMeasurement:
    return StepMeasurement(
        step=index,
        data_s=0.0,
        forward_s=step_s / 3,
        backward_s=2 / 3 * step_s,
        optimizer_s=0.0,
        step_s=step_s,
        num_samples=samples,
        loss=None,
        warmup=False,
        profiled=False,
        synchronised=True,
    )


def _run_info(config: TrainConfig, training: Training, model: nn.Module, device: str) -> RunInfo:
    workload = Workload(
        experiment=training.config,
        num_parameters=count_parameters(model),
        gradient_bytes=gradient_bytes(model),
        samples_per_rank=training.samples,
        sequence_length=config.model.sequence_length,
        first_bucket_bytes=FIRST_CAP_BYTES,
        bucket_cap_bytes=CAP_BYTES,
        synchronised=True,
        communication_hook=training.hook,
    )
    return RunInfo(
        schema_version=SCHEMA_VERSION,
        run_id="made-up",
        kind="train",
        status="completed",
        started_at=now_utc(),
        command=("benchmarks.guidelines",),
        backend="nccl",
        world_size=1,
        num_nodes=1,
        launcher="single",
        cores_per_node=1,
        threads_per_rank=1,
        ranks=(RankInfo(rank=0, local_rank=0, hostname="made-up", device_name=device),),
        software=SoftwareInfo(python="none"),
        environ={},
        workload=workload,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the result there (printed only)")
    args = parser.parse_args()
    head = (
        f"# When DDP pays, by rule and by simulation\n\n{describe_machine()}\n- made up: {UTILISATION:.0%} of each GPU's peak"
    )
    head += " (bfloat16, float16 on V100); the wires are published curves; nothing here was run on a GPU\n"
    text = "\n".join([head, *report(), ""])
    if args.out is not None:
        write_text(args.out / "guidelines.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
