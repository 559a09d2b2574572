"""The loops of training_cost.py, on the ranks that run this: bare, recorded, watched, and the trainer's own.

python -m benchmarks.training_cost_loops MODEL GROUPS FOLDER      prints what rank 0 found, as JSON
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from commprof.commbench.foreign.arming import Armed
from commprof.commbench.foreign.asked import Asked
from commprof.commbench.foreign.watch import Watch
from commprof.commbench.ranks.launched import RankContext, detect_rank
from commprof.commbench.recorder.bucket_tap import tap_of
from commprof.commbench.recorder.gradients import GradientRecorder
from commprof.commbench.recorder.own_work import OwnWork
from commprof.commbench.recorder.pace_probe import PaceRecorder
from commprof.commbench.recorder.steps import StepRecorder
from commprof.commbench.timing import MonotonicClock
from commprof.train.config.types import TrainConfig, load_train_config
from commprof.train.loop import train
from commprof.train.text.batches import batches_of
from commprof.train.text.dataset import prepare_data
from commprof.train.trainee import Trainee, build_trainee

REPO = Path(__file__).parents[1]
BATCHES = {"small": 4, "large": 1}
ORDERS = ("ARWTA", "ATWRA")
KINDS = {"wall": "time", "cpu": "processor time"}
SKIPPED = 3  # of each block: first steps of a new reducer, and the block's own start
STEPS = SKIPPED + 5  # of each block: what comes after eight, a probe and what is saved, lies behind its last step
METERED = "RW" * 6
PROBED_STEPS = 17  # a probe and a save after the eighth and the sixteenth

Loop = Callable[[int], None]


def rank_main(name: str, groups: int, folder: Path) -> dict[str, Any]:
    """Do every block as one rank; return the seconds of its steps by kind, and of the own work in the metered ones."""
    torch.set_num_threads(1)
    context = detect_rank(os.environ)
    if context.world_size > 1:
        dist.init_process_group("gloo")
    words = [f"training.batch_size={BATCHES[name]}"]
    config = shortened(load_train_config(REPO / "configs" / f"{name}.yaml", words))
    trainee = build_trainee(config, torch.device("cpu"))
    loops = loops_of(config, trainee, context, folder)
    stamps: list[tuple[float, ...]] = []
    meter = Meter()
    trainee.optimizer.register_step_post_hook(
        lambda *_: stamps.append((time.perf_counter(), time.process_time(), meter.spent_s))
    )

    def block(arm: str) -> list[list[float]]:
        """Return the clock's seconds, the processor's and the meter's of each step that counts."""
        stamps.clear()
        loops[arm](STEPS)
        return [[b - a for a, b in pairwise(times)] for times in zip(*stamps[SKIPPED - 1 :], strict=True)]

    arms = "".join(ORDERS[group % 2] for group in range(groups))
    blocks = [_said(block(arm), name, number, len(arms)) for number, arm in enumerate(arms)]
    found: dict[str, Any] = {kind: [times[index] for times in blocks] for index, kind in enumerate(KINDS)}
    with meter.reading():
        found |= {f"own {arm}": [] for arm in "RW"}
        for arm in METERED:
            found[f"own {arm}"].append(block(arm)[-1])
        loops["W"](PROBED_STEPS)
    found |= {"probes": meter.probes_s, "saves": meter.saves_s}
    if context.world_size > 1:
        dist.destroy_process_group()
    return found if context.rank == 0 else {}


def _said(times: list[list[float]], name: str, number: int, count: int) -> list[list[float]]:
    sys.stderr.write(f"{name}: block {number + 1}/{count}\n")
    return times


class Meter:
    """Adds up what the recorder does inside of real steps, whose computation has its code and its data out of the caches."""

    def __init__(self) -> None:
        self.spent_s = 0.0
        self.probes_s: list[float] = []
        self.saves_s: list[float] = []
        self._is_inside = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Time all that goes through OwnWork, and each gradient's hook, while the block runs."""
        hook = GradientRecorder._ready_hook
        timed = {
            (OwnWork, "do"): self._adding(OwnWork.do),
            (GradientRecorder, "_ready_hook"): lambda recorder, name: self._adding(hook(recorder, name)),
            (PaceRecorder, "take"): _listing(PaceRecorder.take, self.probes_s),
            (Watch, "_save"): _listing(Watch._save, self.saves_s),
        }
        patches = [mock.patch.object(owner, name, work) for (owner, name), work in timed.items()]
        for patch in patches:
            patch.start()
        yield
        for patch in patches:
            patch.stop()

    def _adding(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            if self._is_inside:
                return work(*args, **kwargs)
            self._is_inside, start_s = True, time.perf_counter()
            result = work(*args, **kwargs)
            self._is_inside, self.spent_s = False, self.spent_s + time.perf_counter() - start_s
            return result

        return timed


def _listing(work: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        start_s = time.perf_counter()
        result = work(*args, **kwargs)
        seconds.append(time.perf_counter() - start_s)
        return result

    return timed


def shortened(config: TrainConfig) -> TrainConfig:
    training = replace(config.training, max_steps=STEPS, evaluate=False)
    return replace(config, training=training, profiling=replace(config.profiling, warmup_steps=0, trace_steps=0))


def loops_of(config: TrainConfig, trainee: Trainee, context: RankContext, folder: Path) -> dict[str, Loop]:
    training, evaluation = prepare_data(config.data, config.model)
    batches = [(tokens.long(), labels) for tokens, labels in islice(batches_of(training, config, context, trainee.device), 8)]
    optimizer = trainee.optimizer

    def bare(steps: int) -> None:
        for tokens, labels in islice(cycle(batches), steps):
            loss = functional.cross_entropy(trainee.model(tokens), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()

    def recorded(steps: int) -> None:
        with recorder_of(trainee.model, context, fresh(folder, context)) as recorder:
            for tokens, labels in recorder.steps(islice(cycle(batches), steps)):
                loss = functional.cross_entropy(trainee.model(tokens), labels)
                recorder.begin("backward")
                loss.backward()  # type: ignore[no-untyped-call]
                recorder.begin("optimizer")
                optimizer.step()
                optimizer.zero_grad()
                recorder.note_loss(loss)

    def trainer(_: int) -> None:
        train(config, trainee, training, evaluation, context, fresh(folder, context))

    def watched(steps: int) -> None:
        own = str(fresh(folder, context))
        armed = Armed(Asked(folder=own, notes=own))
        armed.arm()
        bare(steps)
        disarm(armed, trainee.model)

    return {"A": bare, "R": recorded, "W": watched, "T": trainer}


def disarm(armed: Armed, model: nn.Module) -> None:
    """Take the watch off, and on all ranks together what it leaves: DDP's hook, which does what DDP does."""
    armed.disarm()
    tap = tap_of(model) if isinstance(model, DistributedDataParallel) else None
    if tap is not None:
        tap.detach()


def recorder_of(model: nn.Module, context: RankContext, folder: Path) -> StepRecorder:
    clock = MonotonicClock()
    return StepRecorder(model, folder=folder, rank=context.rank, clock=clock, samples_per_rank=1, warmup_steps=0)


def fresh(folder: Path, context: RankContext) -> Path:
    """Return an empty folder of this rank's own."""
    own = folder / f"rank{context.rank}"
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    return own


if __name__ == "__main__":
    told = rank_main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
    if told:
        sys.stdout.write(json.dumps(told))
