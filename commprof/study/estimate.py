"""About how long will each stage of a study take? Answered before anything runs, so by rules of thumb.

    training step   6 FLOP per parameter outside the embedding and token (forward and backward), plus attention's 12 L s d per
                    token, over the measured rate of a product of this machine's host; 1/3 of it, since a small
                    model's operations are short; ranks that share cores take turns
    all-reduce      2(N-1)/N S over the wire's payload rate; 1 GB/s where the wire is the machine's own
    start           imports and, for several ranks, the process group: 3 s, and 1.5 s a rank and core

What has been measured already is listed as such. On GPUs the estimate is too long, by a lot.
"""

import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from commprof.commbench.machine.hardware import usable_cores
from commprof.commbench.units import format_seconds, parse_bytes
from commprof.study.files import is_measured
from commprof.study.plan import Plan, Stage, StudyConfig, train_config
from commprof.testbed.wire import parse_wire
from commprof.train.config.schedule import count_steps
from commprof.train.config.types import TrainConfig
from commprof.train.text.dataset import prepare_data

_STEP_SHARE = 1 / 3
_OWN_WIRE_BYTES_PER_S = 1e9
_START_S, _START_PER_RANK_S = 3.0, 1.5
_MATRIX = 512
_TRIAL_S = 0.3


def plan_table(study: StudyConfig, plan: Plan, folder: Path) -> str:
    """Lay out the stages with the estimated time of each and of all, 80 columns."""
    rate = _flop_per_s()
    lines = [f"{'stage':40}  {'ranks':>5}  {'wire':>9}  {'about':>10}"]
    total_s = 0.0
    for stage in plan.stages:
        done = is_measured(folder / stage.name)
        seconds = 0.0 if done else _stage_s(study, stage, rate)
        total_s += seconds
        about = "measured" if done else format_seconds(seconds)
        lines.append(f"{stage.name:40}  {stage.world_size:>5}  {stage.wire or 'own':>9}  {about:>10}")
    return "\n".join([*lines, f"{_about(total_s)} in {folder}, by rules of thumb; launcher: {study.launcher}"])


class TimeLeft:
    """How long the stages that are left will take: by the estimate, corrected by what the done ones took in truth."""

    def __init__(self, study: StudyConfig) -> None:
        self._study, self._rate = study, _flop_per_s()
        self._taken_s = self._estimated_s = 0.0

    def note(self, stage: Stage, taken_s: float) -> None:
        """Take notice of a stage that has been run."""
        self._taken_s += taken_s
        self._estimated_s += _stage_s(self._study, stage, self._rate)

    def words(self, stages: Iterable[Stage]) -> str:
        """Return the time that these stages will take: "about 4 minutes"."""
        correction = self._taken_s / self._estimated_s if self._estimated_s else 1.0
        return _about(correction * sum(_stage_s(self._study, stage, self._rate) for stage in stages))


def step_flop(config: TrainConfig, samples: int) -> float:
    """Return the floating-point operations of one training step of one rank."""
    model = config.model
    per_layer = 4 * model.d_model**2 + 2 * model.d_model * model.feed_forward
    attention = 12 * model.layers * model.sequence_length * model.d_model
    return samples * model.sequence_length * (6 * model.layers * per_layer + attention)


def gradient_bytes(config: TrainConfig) -> int:
    """Return about how many bytes DDP sends per step: float32, the embedding included."""
    model = config.model
    per_layer = 4 * model.d_model**2 + 2 * model.d_model * model.feed_forward
    return 4 * (model.layers * per_layer + (model.vocabulary + model.sequence_length) * model.d_model)


def _about(seconds: float) -> str:
    return f"about {seconds / 60:.0f} minutes" if seconds >= 90 else f"about {seconds:.0f} s"


def _stage_s(study: StudyConfig, stage: Stage, flop_per_s: float) -> float:
    n, cores = stage.world_size, usable_cores()
    machines = 1 if study.launcher != "slurm" else -(-n // study.slurm.ranks_per_node)
    crowding = max(1.0, n / machines * study.threads_per_rank / cores)
    start_s = _START_S + _START_PER_RANK_S * n / machines / cores
    if stage.kind == "bench":
        # Even where time is short each size, doubling up to the largest, has a cold call, a warm-up, a check and three samples.
        return start_s + max(study.bench.seconds, 12 * _all_reduce_s(stage, parse_bytes(study.bench.max_bytes)))
    if stage.kind == "contention":
        largest = parse_bytes(study.contention.max_bytes)
        return start_s + 4 * (study.contention.rounds + 3) * _all_reduce_s(stage, largest)
    model = next(model for model in study.models if model.name == stage.model)
    config = train_config(study, model)
    training, _ = prepare_data(config.data, config.model)
    steps = count_steps(len(training.labels), config, n)
    samples = config.training.batch_size
    compute_s = step_flop(config, samples) / (flop_per_s * _STEP_SHARE) * crowding
    comm_s = _all_reduce_s(stage, gradient_bytes(config)) if stage.kind == "train" else 0.0
    return start_s + steps * (compute_s + comm_s)


def _all_reduce_s(stage: Stage, message_bytes: int) -> float:
    rate = _OWN_WIRE_BYTES_PER_S if stage.wire is None else parse_wire(stage.wire).payload_bytes_per_s
    return 2 * (stage.world_size - 1) / stage.world_size * message_bytes / rate


def _flop_per_s() -> float:
    """Time a matrix product for a moment: all the threads that numpy takes, divided by this process's cores."""
    left, right = np.ones((_MATRIX, _MATRIX), dtype=np.float32), np.ones((_MATRIX, _MATRIX), dtype=np.float32)
    left @ right
    start_s, count = time.monotonic(), 0
    while time.monotonic() - start_s < _TRIAL_S:
        left @ right
        count += 1
    return 2 * _MATRIX**3 * count / (time.monotonic() - start_s) / usable_cores()
