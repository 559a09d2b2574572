"""A loop of the user's own in one process: none notices that it is recorded, and what it lacks is said."""

import copy
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from commprof.commbench.errors import BadInput
from commprof.commbench.recorder.own_loop import OwnLoop, record_steps
from commprof.commbench.recorder.pace_probe import PaceRecorder
from commprof.commbench.recorder.phases import PHASES, Phase
from commprof.commbench.recorder.steps import StepRecorder
from commprof.commbench.records.rundir import read_info
from commprof.commbench.timing import FakeClock
from tests.distributed.conftest import run_in, steps_of


@pytest.fixture
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=torch._C._distributed_c10d.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def test_a_model_may_be_copied_and_saved_while_it_is_recorded(tmp_path: Path, group: None) -> None:
    model = DistributedDataParallel(network())
    with record_steps(model, samples_per_rank=1, folder=tmp_path / "run") as recorder, recorder.step():
        copied = copy.deepcopy(model)
        torch.save(model, io.BytesIO())
        recorder.begin("backward")
        model(torch.ones(1, 8)).sum().backward()
    assert not vars(copied).keys() & vars(recorder).keys()
    assert copied._comm_hooks == []


def test_a_hook_built_into_torch_may_come_later(tmp_path: Path, group: None) -> None:
    model = DistributedDataParallel(network())
    with record_steps(model, samples_per_rank=1, folder=tmp_path / "run") as recorder, recorder.step():
        model._register_builtin_comm_hook(dist.BuiltinCommHookType.FP16_COMPRESS)  # type: ignore[no-untyped-call]
        model(torch.ones(1, 8)).sum().backward()
    assert len(steps_of(tmp_path / "run")) == 1


def train(recorder: OwnLoop, model: nn.Module, steps: int = 3) -> int:
    trained = 0
    for batch in recorder.steps([torch.ones(1, 8)] * steps):
        loss = model(batch).sum()
        recorder.begin("backward")
        loss.backward()
        recorder.begin("optimizer")
        trained += 1
    return trained


@pytest.mark.parametrize("broken", ["_file._writer", "phases._clock", "phases._gradients"])
def test_its_own_error_ends_the_recording_and_not_the_training(
    tmp_path: Path, group: None, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    model = DistributedDataParallel(network())
    with record_steps(model, samples_per_rank=1, folder=tmp_path / "run") as recorder:
        assert train(recorder, model) == 3
        *way, name = broken.split(".")
        place = attrgetter(*way)(recorder) if way else recorder
        setattr(place, name, _Broken(getattr(place, name)))
        assert train(recorder, model) == 3
        assert not any(p._post_accumulate_grad_hooks for p in model.parameters())
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())
    model.register_comm_hook(None, dist.algorithms.ddp_comm_hooks.default_hooks.allreduce_hook)  # type: ignore[attr-defined]
    assert len(steps_of(tmp_path / "run")) == 3
    info = read_info(tmp_path / "run")
    assert info.status == "failed"
    assert info.failure is not None and info.failure.endswith("was not recorded any more: OSError: nobody thought of this")
    told = [line for line in capsys.readouterr().err.splitlines() if "not recorded any more" in line]
    assert told == ["commprof: rank 0 is not recorded any more, the training goes on (OSError: nobody thought of this)"]


class _Broken:
    """Fails at what is called in a step, and at nothing that is called to put things back."""

    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> object:
        if name in ("append", "mark", "begin"):

            def fail(*_: object) -> None:
                raise OSError("nobody thought of this")

            return fail
        return getattr(self._inner, name)


def test_a_missing_backward_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = network()
    with record_steps(model, samples_per_rank=1, folder=tmp_path / "run") as recorder:
        for batch in recorder.steps([torch.ones(1, 8)] * 3):
            model(batch).sum().backward()
    told = [line for line in capsys.readouterr().err.splitlines() if "gradients came" in line]
    words = 'put recorder.begin("backward") before loss.backward()'
    assert told[0].startswith("commprof: step 0: gradients came outside of a backward phase")
    assert all(line.endswith(words) for line in told)
    assert len(told) == 2, "at the first step, and at the end"
    (unseen,) = read_info(tmp_path / "run").unseen
    assert unseen.endswith(words)
    assert len(steps_of(tmp_path / "run")) == 3


def test_a_loop_need_not_be_indented(tmp_path: Path) -> None:
    model = network()
    recorder = record_steps(model, samples_per_rank=1, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert recorder.start() is recorder
    assert train(recorder, model) == 3
    recorder.stop()
    assert read_info(tmp_path / "run").status == "completed"
    assert (len(steps_of(tmp_path / "run")), not any(p._post_accumulate_grad_hooks for p in model.parameters())) == (3, True)


def test_a_script_that_never_stops_is_stopped_as_it_ends(tmp_path: Path) -> None:
    """One Python loads torch and becomes two, which end as Python ends."""
    (tmp_path / "script.py").write_text(
        "import os, torch\n"
        "from commprof import record_steps\n"
        "other = os.fork()\n"
        "ending = 'well' if other else 'badly'\n"
        "model = torch.nn.Linear(2, 2)\n"
        "recorder = record_steps(model, samples_per_rank=1, folder=ending, warmup_steps=0).start()\n"
        "for batch in recorder.steps([torch.ones(1, 2)] * 3):\n"
        "    recorder.begin('backward')\n"
        "    model(batch).sum().backward()\n"
        "other and os.waitpid(other, 0)\n"
        "ending == 'well' or 1 / 0\n"
    )
    run_in(tmp_path, sys.executable, "script.py")
    for ending, status, failure in (
        ("well", "completed", None),
        ("badly", "failed", "rank 0: ZeroDivisionError: division by zero"),
    ):
        info = read_info(tmp_path / ending)
        assert (info.status, info.failure) == (status, failure)
        assert (tmp_path / ending / "gradients.json").exists()


@dataclass
class _Ticking(FakeClock):
    """A clock that is later at every look."""

    ticks: list[float] = field(default_factory=list)

    def mark(self) -> float:
        self.now_s += self.ticks.pop() if self.ticks else 1.0
        return self.now_s


@given(
    phases=st.lists(st.sampled_from(PHASES), min_size=1, max_size=8),
    ticks=st.lists(st.integers(1, 1000).map(float), max_size=20),
)
def test_a_steps_phases_sum_to_the_step(
    tmp_path_factory: pytest.TempPathFactory, phases: list[Phase], ticks: list[float]
) -> None:
    clock = _Ticking(ticks=list(ticks))
    folder = tmp_path_factory.mktemp("run")
    recorder = StepRecorder(network(), folder=folder, rank=0, clock=clock, samples_per_rank=1, warmup_steps=0)
    with patch.object(PaceRecorder, "take"), recorder:  # its work takes a hundred times as long as the steps
        for _ in recorder.steps(range(2)):
            for phase in phases:
                recorder.begin(phase)
    for step in steps_of(folder):
        assert step.data_s + step.forward_s + step.backward_s + step.optimizer_s == step.step_s


def test_a_step_of_several_batches(tmp_path: Path) -> None:
    model = network()
    with record_steps(model, samples_per_rank=6, accumulation=3, folder=tmp_path / "run") as recorder:
        assert train(recorder, model, steps=8) == 8
    assert len(steps_of(tmp_path / "run")) == 2, "the third is not whole"
    info = read_info(tmp_path / "run")
    assert info.workload is not None
    assert info.workload.accumulation == 3


def test_micro_batches_marked_by_hand_are_counted(tmp_path: Path) -> None:
    model = network()
    with record_steps(model, samples_per_rank=4, folder=tmp_path / "run") as recorder:
        for _ in range(3):
            with recorder.step():
                for _ in range(2):
                    recorder.begin("forward")
                    loss = model(torch.ones(2, 8)).sum()
                    recorder.begin("backward")
                    loss.backward()
    info = read_info(tmp_path / "run")
    assert info.workload is not None
    assert info.workload.accumulation == 2


def test_what_ddp_will_be_asked_for_can_be_said_on_one_rank(tmp_path: Path) -> None:
    with record_steps(network(), samples_per_rank=1, folder=tmp_path / "run", bucket_cap_mb=0.5):
        pass
    info = read_info(tmp_path / "run")
    assert info.workload is not None
    assert (info.workload.kind, info.workload.first_bucket_bytes, info.workload.bucket_cap_bytes) == ("none", 2**19, 2**19)


def test_wrong_numbers_are_refused_before_anything_is_made(tmp_path: Path, group: None) -> None:
    with pytest.raises(BadInput, match="accumulation=0: use at least 1"):
        record_steps(network(), samples_per_rank=1, accumulation=0)
    with pytest.raises(BadInput, match="bucket_cap_mb=-1: use what DDP is given"):
        record_steps(network(), samples_per_rank=1, bucket_cap_mb=-1)
    with pytest.raises(BadInput, match=r"compute_only keeps gradients and shards on their rank, .* \(none\)"):
        record_steps(network(), samples_per_rank=1, compute_only=True)
