"""About how long will each stage of a study take? A step of each model is tried, the rest are rules of thumb.

    training step   one rank's, tried with the model itself (train/trial.py); ranks that share cores take turns
    all-reduce      2(N-1)/N S over the wire's payload rate; 1 GB/s where the wire is the machine's own
    start           imports and, for several ranks, the process group: 3 s, and 1.5 s a rank and core

What has been measured already is listed as such. Where SLURM starts the ranks, this machine's step stands for theirs.
"""

import math
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from commprof.commbench.errors import RunFailed
from commprof.commbench.machine.hardware import usable_cores
from commprof.commbench.machine.wire import parse_wire
from commprof.commbench.units import format_seconds, parse_bytes, printable
from commprof.study.config import ModelConfig, ScriptConfig, StudyConfig, train_config
from commprof.study.files import is_measured
from commprof.study.plan import Plan, Stage
from commprof.study.trial import Tried, try_script
from commprof.train.config.schedule import count_steps
from commprof.train.config.types import TrainConfig
from commprof.train.text.dataset import prepare_data

_OWN_WIRE_BYTES_PER_S = 1e9
_START_S, _START_PER_RANK_S = 3.0, 1.5
_TRIAL_TIMEOUT_S = 120.0


def plan_table(study: StudyConfig, plan: Plan, folder: Path) -> str:
    """Lay out the stages with the estimated time of each and of all, 80 columns."""
    trials = _Trials(study)
    lines = [f"{'stage':40}  {'ranks':>5}  {'wire':>9}  {'about':>10}"]
    total_s = 0.0
    for stage in plan.stages:
        done = is_measured(folder / stage.name)
        seconds = 0.0 if done else _stage_s(study, stage, trials)
        total_s += seconds
        about = "measured" if done else format_seconds(seconds)
        lines.append(f"{stage.name:40}  {stage.world_size:>5}  {stage.wire or 'own':>9}  {about:>10}")
    return "\n".join([*lines, f"{_about(total_s)} in {folder}, by rules of thumb; launcher: {study.launcher}"])


class _Trials:
    """What a try of each training has told, tried when that is first asked for: a study with nothing left to do tries none."""

    def __init__(self, study: StudyConfig, logs: Path | None = None, *, lenient: bool = False) -> None:
        self._study, self._logs, self._lenient = study, logs, lenient
        self._known: dict[str, Tried] = {}

    def of(self, name: str) -> Tried:
        """Return what was told; raise RunFailed where no step can be tried, or say so and return no numbers if `lenient`."""
        if name not in self._known:
            self._known[name] = self._try(next(own for own in self._study.trainings if own.name == name))
        return self._known[name]

    def _try(self, training: ModelConfig | ScriptConfig) -> Tried:
        try:
            if isinstance(training, ScriptConfig):
                return try_script(self._study, training, self._logs)
            num_bytes = gradient_bytes(train_config(self._study, training))
            return Tried(step_s=tried_step_s(self._study, training), start_s=_START_S, gradient_bytes=num_bytes)
        except RunFailed as error:
            if not self._lenient:
                raise
            sys.stderr.write(f"{printable(str(error))}\n")
            return Tried(step_s=math.nan, start_s=math.nan, gradient_bytes=0)


class TimeLeft:
    """How long the stages that are left will take: by the estimate, corrected by what the done ones took in truth.

    A study of one script ends here with RunFailed where its step cannot be tried: nothing else of it could be measured.
    """

    def __init__(self, study: StudyConfig, logs: Path | None = None) -> None:
        self._study = study
        self._trials = _Trials(study, logs, lenient=bool(study.models) or len(study.scripts) > 1)
        self._taken_s = self._estimated_s = 0.0

    def note(self, stage: Stage, taken_s: float) -> None:
        """Take notice of a stage that has been run."""
        self._taken_s += taken_s
        self._estimated_s += _stage_s(self._study, stage, self._trials)

    def words(self, stages: Iterable[Stage]) -> str:
        """Return the time that these stages will take: "about 4 minutes"."""
        correction = self._taken_s / self._estimated_s if self._estimated_s else 1.0
        return _about(correction * sum(_stage_s(self._study, stage, self._trials) for stage in stages))


def gradient_bytes(config: TrainConfig) -> int:
    """Return about how many bytes DDP sends per step: float32, the embedding included."""
    model = config.model
    per_layer = 4 * model.d_model**2 + 2 * model.d_model * model.feed_forward
    return 4 * (model.layers * per_layer + (model.vocabulary + model.sequence_length) * model.d_model)


def _about(seconds: float) -> str:
    if math.isnan(seconds):
        return "an unknown time"
    return f"about {seconds / 60:.0f} minutes" if seconds >= 90 else f"about {seconds:.0f} s"


def _stage_s(study: StudyConfig, stage: Stage, trials: _Trials) -> float:
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
    assert stage.model is not None
    tried = trials.of(stage.model)
    comm_s = _all_reduce_s(stage, tried.gradient_bytes) if stage.kind == "train" else 0.0
    return start_s - _START_S + tried.start_s + _steps_of(study, stage) * (tried.step_s * crowding + comm_s)


def _steps_of(study: StudyConfig, stage: Stage) -> int:
    """Return how many steps a training takes; a script may end before."""
    training = next(own for own in study.trainings if own.name == stage.model)
    if isinstance(training, ScriptConfig):
        return training.max_steps
    config = train_config(study, training)
    articles, _ = prepare_data(config.data, config.model)
    return count_steps(len(articles.labels), config, stage.world_size)


def _all_reduce_s(stage: Stage, message_bytes: int) -> float:
    rate = _OWN_WIRE_BYTES_PER_S if stage.wire is None else parse_wire(stage.wire).payload_bytes_per_s
    return 2 * (stage.world_size - 1) / stage.world_size * message_bytes / rate


def tried_step_s(study: StudyConfig, model: ModelConfig) -> float:
    """Try a step of one rank, with as many threads as the study's ranks have; raise RunFailed where it cannot be taken."""
    backend = () if study.backend == "auto" else (f"distributed.backend={study.backend}",)
    words = [model.config, *study.overrides, *model.overrides, *backend]
    command = [sys.executable, "-P", "-m", "commprof.train.trial", *words]
    environ = os.environ | {"OMP_NUM_THREADS": str(study.threads_per_rank)}
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=_TRIAL_TIMEOUT_S, check=True)
        return float(done.stdout.split()[-1])
    except subprocess.TimeoutExpired:
        reason = f"not within {_TRIAL_TIMEOUT_S:g} s"
    except (subprocess.CalledProcessError, ValueError, IndexError) as error:
        told = str(getattr(error, "stderr", error)).strip().splitlines() or [f"{error}, and nothing said why"]
        reason = printable(told[-1][:300])
    raise RunFailed(f"a step of {model.name} could not be tried: {reason}")
