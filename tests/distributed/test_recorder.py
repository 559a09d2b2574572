"""The recorder's promises, checked inside one process: a gloo group of one, or none, and a fake clock."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from commbench.records import StepMeasurement
from commbench.rundir import read_records
from commbench.timing import FakeClock, MonotonicClock
from train.recorder import StepRecorder


@pytest.fixture
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=torch._C._distributed_c10d.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def test_phases_and_the_rest_of_the_step_are_timed_exactly(tmp_path: Path) -> None:
    clock = FakeClock()
    model = network()
    with StepRecorder(model, folder=tmp_path, rank=3, clock=clock, warmup_steps=1) as recorder:
        for index in range(3):
            with recorder.step(num_samples=7, profiled=index == 2):
                with recorder.phase("data"):
                    clock.advance(0.5)
                with recorder.phase("forward"):
                    clock.advance(1.0)
                    loss = model(torch.ones(1, 8)).sum()
                clock.advance(0.25)
                recorder.note_loss(loss)
    steps = list(read_records(tmp_path / "steps.rank00003.jsonl", StepMeasurement))
    assert [(s.data_s, s.forward_s, s.backward_s, s.step_s) for s in steps] == [(0.5, 1.0, 0.0, 1.75)] * 3
    assert [(s.warmup, s.profiled, s.counts) for s in steps] == [
        (True, False, False),
        (False, False, True),
        (False, True, False),
    ]
    assert steps[0].loss == pytest.approx(float(loss.detach()))
    assert not (tmp_path / "gradients.json").exists()


def test_gradients_are_noted_in_the_order_backward_yields_them(tmp_path: Path) -> None:
    clock = FakeClock()
    model = network()
    for parameter in model.parameters():  # every gradient takes a second; hooks run in the order they were registered
        parameter.register_post_accumulate_grad_hook(lambda p: clock.advance(1.0))
    with StepRecorder(model, folder=tmp_path, rank=0, clock=clock, warmup_steps=0) as recorder:
        for _ in range(2):
            with recorder.step(num_samples=1):
                loss = model(torch.ones(1, 8)).sum()
                clock.advance(10.0)
                with recorder.phase("backward"):
                    loss.backward()
        timeline = recorder.timeline()
    assert [p.ready_s for p in timeline.parameters] == [1.0, 2.0, 3.0, 4.0]
    assert {p.name for p in timeline.parameters[:2]} == {"2.weight", "2.bias"}
    assert timeline.parameters[0].num_bytes in (4 * 64, 4 * 4)
    assert timeline.backward_s == 4.0
    assert timeline.num_steps == 2


def test_leaving_takes_every_hook_off(tmp_path: Path) -> None:
    model = network()
    with StepRecorder(model, folder=tmp_path, rank=0, clock=MonotonicClock(), warmup_steps=0):
        assert all(p._post_accumulate_grad_hooks for p in model.parameters())
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())


def test_recording_leaves_gradients_as_ddp_makes_them(tmp_path: Path, group: None) -> None:
    """To the bit: the same mean over ranks, whichever path the bucket takes."""
    data = torch.randn(5, 8)
    gradients = []
    for recorded in (False, True):
        model = DistributedDataParallel(network(), bucket_cap_mb=0.0001)
        recorder = StepRecorder(model, folder=tmp_path, rank=0, clock=MonotonicClock(), warmup_steps=0)
        if recorded:
            recorder.__enter__()
        for _ in range(3):
            with recorder.step(1) if recorded else torch.enable_grad():
                loss = model(data).square().sum()
                with recorder.phase("backward") if recorded else torch.enable_grad():
                    loss.backward()
        if recorded:
            recorder.__exit__(None, None, None)
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == 4
    assert all(torch.equal(plain, seen) for plain, seen in zip(*gradients, strict=True))
