"""What a run needs to go on where it ended, to the last bit: one file a checkpoint, whole or not there at all.

    checkpoints/step-00000040.pt    after 40 steps: model, optimizer, loss scaler, every rank's random state, the configuration

Rank 0 writes for all ranks, and the file gets its name only when all of it is on disk: whenever the run was killed, what
has the name is complete for every rank. The sampler's place and the learning rate follow from the step: a run goes on only
with the articles, the batch, the schedule and the ranks that it began with. Files are read as untrusted; nothing is unpickled.
"""

import math
import pickle
import re
import shlex
import signal
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from commprof.commbench.errors import BadInput, Interrupted, RunFailed
from commprof.commbench.ranks.launched import RankContext
from commprof.commbench.ranks.runtime import broadcast_text, gather_text, gather_values
from commprof.commbench.ranks.stopping import StopRequest, stopped_by
from commprof.commbench.records.quantities import MAX_TIME_S
from commprof.commbench.records.rundir import keep_records, replacing
from commprof.commbench.records.training import EvaluationMeasurement, StepMeasurement
from commprof.commbench.timing import host_wait
from commprof.commbench.units import format_bytes
from commprof.train.config.types import ProfilingConfig, TrainConfig
from commprof.train.sharding import is_sharded
from commprof.train.text.articles import source_identity
from commprof.train.trainee import States, Trainee

_FORMAT = 2  # 1 had no loss scaler
_KEPT = 2
_MAX_BYTES = 16 * 2**30
_NAME = re.compile(r"step-(\d{8,})\.pt")
# How long a run lasts, what is noted of it and where things are, but not what is computed. The data are compared by content.
_MAY_CHANGE = {
    *("training.epochs", "training.max_steps", "training.checkpoint_every", "training.tensorboard"),
    *("loader.workers", "loader.prefetch", "loader.pinned", "distributed.backend", "distributed.timeout_s"),
    *("data.train_csv", "data.eval_csv", "data.download", "data.url", "data.cache_dir"),
    *(f"profiling.{field.name}" for field in fields(ProfilingConfig)),
}
# What zipfile and torch raise on a file that is not, or no longer, what was saved.
_DAMAGED = (
    *(OSError, RuntimeError, ValueError, LookupError, EOFError, TypeError, AttributeError, AssertionError, MemoryError),
    *(OverflowError, pickle.UnpicklingError, struct.error, zipfile.BadZipFile, zlib.error),
)
_FIELDS = {
    "step": int,
    "elapsed_s": float,
    "config": dict,
    "model": dict,
    "optimizer": dict,
    "scaler": dict,
    "random_states": list,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A run after `step` steps and `elapsed_s` seconds of training; `random_states[rank]` is the host's, then the GPU's."""

    path: Path
    step: int
    elapsed_s: float
    config: dict[str, str]
    model: dict[str, Any]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    random_states: list[list[Tensor]]


class CheckpointKeeper:
    """Writes a checkpoint every so many steps, and one more when any rank was asked to stop; the last two are kept.

    From here on `stop` also remembers SIGINT and SIGTERM: there is a step to finish and a checkpoint to write.
    """

    def __init__(self, config: TrainConfig, trainee: Trainee, *, context: RankContext, run: Path, stop: StopRequest) -> None:
        assert config.training.checkpoint_every is not None
        self._every = config.training.checkpoint_every
        self._config = comparable(config)
        self._trainee, self._device = trainee, trainee.device
        self._context, self._run, self._stop = context, run, stop
        stop.listen((signal.SIGINT, signal.SIGTERM))

    def after_step(self, done: int, elapsed_s: float) -> None:
        """Save where it is time to, `done` steps being done. Raises Interrupted on every rank when one was asked to stop."""
        signum = _largest(self._stop.signum, self._device)
        if signum or done % self._every == 0:
            self._save(done, elapsed_s)
        if signum:
            raise Interrupted(f"{stopped_by(signum)} after step {done}; {self._resuming_command()} goes on")

    def _resuming_command(self) -> str:
        several_here = self._context.world_size > 1 and self._context.num_nodes == 1
        ranks = ["--nproc", str(self._context.world_size)] if several_here else []
        return shlex.join(["commprof", "train", str(self._run / "config.yaml"), *ranks, "--resume", str(self._run)])

    def _save(self, done: int, elapsed_s: float) -> None:
        """Let rank 0 write for all; where it cannot, raise its RunFailed on every rank. No rank leaves before it is done."""
        with host_wait:
            own = self._trainee.states()
        states = gather_text(" ".join(state.numpy().tobytes().hex() for state in _random_states(self._device)), self._device)
        failure = self._write(done, elapsed_s, own, states) if self._context.rank == 0 else ""
        failure = broadcast_text(failure, self._device)
        if failure:
            raise RunFailed(failure)

    def _write(self, done: int, elapsed_s: float, own: States, states: Sequence[str]) -> str:
        """Write the file and return what went wrong, if anything."""
        document = {
            "format": _FORMAT,
            "step": done,
            "elapsed_s": elapsed_s,
            "config": self._config,
            "model": own[0],
            "optimizer": own[1],
            "scaler": self._trainee.scaler.state_dict(),
            "random_states": [[_from_hex(word) for word in text.split()] for text in states],
        }
        path = self._run / "checkpoints" / f"step-{done:08d}.pt"
        try:
            with replacing(path) as file:
                torch.save(document, file)
            _forget_older(self._run)
        except (OSError, RuntimeError) as error:
            disk = error.__context__  # torch's writer stumbles over its own position when the disk refuses
            reason = _first_line(disk if isinstance(disk, OSError) else error)
            return f"cannot write {path}: {reason}; make room, the checkpoints before are kept"
        return ""


def load_checkpoint(run: Path, config: TrainConfig, world_size: int) -> Checkpoint:
    """Return a run's latest checkpoint; raise BadInput where there is none, or it is damaged or of another configuration."""
    paths = _checkpoints(run)
    if not paths:
        raise BadInput(f"{run} has no checkpoint to go on from (training.checkpoint_every makes them); start a new run")
    path = paths[-1]
    document = _read(path)
    version = document.get("format") if isinstance(document, dict) else None
    if type(version) is int and version == 1:
        raise BadInput(f"{path} was made by an earlier commprof, which saved less; start anew, or go on with that commprof")
    if type(version) is not int or version != _FORMAT or not _fits(document) or path.name != f"step-{document['step']:08d}.pt":
        raise BadInput(f"{path} is not a checkpoint of this commprof; remove it to go on from the one before")
    checkpoint = Checkpoint(path=path, **{name: document[name] for name in _FIELDS})
    for key, value in comparable(config).items():
        if (earlier := checkpoint.config.get(key, value)) != value:
            mend = f"go on with what it began with, {run / 'config.yaml'}"
            raise BadInput(f"{path} was made with {key}={earlier}, not {value}; {mend}")
    if len(checkpoint.random_states) != world_size:
        raise BadInput(f"{path} was made by {len(checkpoint.random_states)} ranks, not {world_size}; use as many")
    return checkpoint


def _fits(document: dict[str, Any]) -> bool:
    """Say whether a checkpoint's fields are of their types: any may be a tensor, which compares as no number does."""
    if not all(isinstance(document.get(name), kind) for name, kind in _FIELDS.items()):
        return False
    words = all(isinstance(word, str) for pair in document["config"].items() for word in pair)
    ranks = all(isinstance(own, list) for own in document["random_states"])
    return words and ranks and document["step"] >= 0 and 0 <= document["elapsed_s"] <= MAX_TIME_S


def restore(checkpoint: Checkpoint, trainee: Trainee, context: RankContext) -> None:
    """Put model, optimizer, loss scaler and this rank's random numbers back to where they were.

    Raises BadInput where they do not fit, and RunFailed where the ranks do not see the same checkpoint.
    """
    seen = sorted({int(step) for (step,) in gather_values([float(checkpoint.step)], trainee.device)})
    if len(seen) > 1:
        raise RunFailed(f"the ranks see checkpoints of different steps {seen}; they need one shared folder, try again")
    try:
        if not is_sharded(trainee.model):
            _check_optimizer(checkpoint.optimizer, trainee.optimizer)
        trainee.put_back((checkpoint.model, checkpoint.optimizer))
        trainee.scaler.load_state_dict(checkpoint.scaler)
        host, *gpu = checkpoint.random_states[context.rank]
        torch.set_rng_state(host)
        for state in gpu:
            torch.cuda.set_rng_state(state, trainee.device)
    except _DAMAGED as error:
        mend = "remove it to go on from the one before"
        raise BadInput(f"{checkpoint.path} does not fit this training: {_first_line(error)}; {mend}") from None


def _check_optimizer(saved: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError for what torch would take unseen and stumble over in the first step."""
    fresh = optimizer.state_dict()["param_groups"]
    groups = saved["param_groups"]
    if not isinstance(groups, list) or len(groups) != len(fresh) or not all(map(_is_group_of, groups, fresh)):
        raise ValueError("its optimizer has other settings")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for place, state in saved["state"].items():
        if type(place) is not int or not 0 <= place < len(parameters) or not _is_state_of(state, parameters[place]):
            raise ValueError(f"its optimizer's state of parameter {str(place)[:20]} fits no such parameter")


def _is_group_of(saved: object, fresh: dict[str, Any]) -> bool:
    if not isinstance(saved, dict) or type(saved.get("lr")) is not float or not 0 <= saved["lr"] < math.inf:
        return False
    own = {**fresh, **saved, "lr": fresh["lr"]}
    return all(type(own[key]) is type(value) and own[key] == value for key, value in fresh.items())


def _is_state_of(saved: object, parameter: Tensor) -> bool:
    """Say whether this is what AdamW keeps of a parameter."""
    shapes = {"step": torch.Size(), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
    return (
        isinstance(saved, dict)
        and saved.keys() == shapes.keys()
        and all(isinstance(saved[name], Tensor) and saved[name].shape == shape for name, shape in shapes.items())
        and all(own.is_floating_point() for own in saved.values())
        and 1 <= float(saved["step"]) < math.inf
    )


def drop_later_records(run: Path, rank: int, step: int) -> None:
    """Remove what this rank recorded after a checkpoint's `step` steps: it will be measured again."""
    keep_records(run / f"steps.rank{rank:05d}.jsonl", StepMeasurement, lambda record: record.step < step)
    if rank == 0 and (path := run / "evaluations.jsonl").exists():
        keep_records(path, EvaluationMeasurement, lambda record: record.step <= step)


def comparable(config: TrainConfig) -> dict[str, str]:
    """Return what two configurations must share for one to go on with the other's run, as words by key."""
    ends_with_the_run = config.training.schedule == "cosine" and config.training.decay_updates is None
    may_change = _MAY_CHANGE - {"training.epochs", "training.max_steps"} if ends_with_the_run else _MAY_CHANGE
    flat = {}
    for section, value in asdict(config).items():
        keys = {f"{section}.{key}": each for key, each in value.items()} if isinstance(value, dict) else {section: value}
        flat.update({key: str(each) for key, each in keys.items() if key not in may_change})
    return {**flat, "data": source_identity(config.data)}


def _read(path: Path) -> Any:  # noqa: ANN401  whatever the file holds; the caller looks
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BadInput(f"{path} is larger than {format_bytes(_MAX_BYTES)}; this is not a checkpoint commprof wrote")
        with zipfile.ZipFile(path) as archive:  # torch itself takes a wrong byte for a weight
            if sum(entry.file_size for entry in archive.infolist()) > _MAX_BYTES:
                raise ValueError(f"it would unpack to more than {format_bytes(_MAX_BYTES)}")
            if (wrong := archive.testzip()) is not None:
                raise ValueError(f"the checksum of {wrong} is wrong")
        return torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        raise BadInput(f"cannot read {path}: {_first_line(error)}; remove it to go on from the one before") from None


def _checkpoints(run: Path) -> list[Path]:
    """Return a run's checkpoints, the latest last."""
    found = {path: _NAME.fullmatch(path.name) for path in (run / "checkpoints").glob("step-*.pt")}
    steps = {path: int(match[1]) for path, match in found.items() if match is not None and path.is_file()}
    return sorted(steps, key=steps.__getitem__)


def _forget_older(run: Path) -> None:
    for path in (*_checkpoints(run)[:-_KEPT], *(run / "checkpoints").glob(".step-*")):  # the latter: left by a killed write
        path.unlink(missing_ok=True)


def _largest(value: int, device: torch.device) -> int:
    """Return the largest of all ranks' values."""
    if not dist.is_initialized():
        return value
    largest = torch.tensor([value], device=device)
    with host_wait:
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return int(largest)


def _random_states(device: torch.device) -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _from_hex(word: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(word), dtype=torch.uint8)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
