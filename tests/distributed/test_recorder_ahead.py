"""The recorder on a device that works behind the host, a stand-in for CUDA: what it waits for, on whose timeline it marks."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from commprof.commbench.errors import BadInput
from commprof.commbench.foreign import watch
from commprof.commbench.foreign.recording import Recording
from commprof.commbench.recorder import own_loop
from commprof.commbench.recorder.own_loop import record_steps
from commprof.commbench.recorder.steps import StepRecorder
from commprof.commbench.records.rundir import read_document, read_info, read_records
from commprof.commbench.records.training import GradientTimeline, StepMeasurement
from commprof.commbench.timing import CudaClock, device_clock
from tests.fake_cuda import FakeCuda, fake_cuda

RANK_DEVICE = 1  # the thread's current device stays 0, as in a script that calls model.to(rank) and no set_device


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return fake_cuda(monkeypatch, 2)


@pytest.fixture
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=torch._C._distributed_c10d.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def recorder_of(model: nn.Module, folder: Path) -> StepRecorder:
    clock = device_clock(torch.device("cuda", RANK_DEVICE))
    return StepRecorder(model, folder=folder, rank=0, clock=clock, samples_per_rank=1, warmup_steps=0)


def one_step(recorder: StepRecorder, model: nn.Module, cuda: FakeCuda, seconds: float) -> None:
    with recorder.step():
        with recorder.phase("forward"):
            cuda.work(RANK_DEVICE, seconds)
            loss = model(torch.ones(1, 4)).sum()
        with recorder.phase("backward"):
            loss.backward()
            cuda.work(RANK_DEVICE, 2 * seconds)
        recorder.note_loss(loss)


def written(folder: Path) -> list[StepMeasurement]:
    return list(read_records(folder / "steps.rank00000.jsonl", StepMeasurement))


def test_a_step_is_read_when_the_next_one_has_been_asked_for(tmp_path: Path, cuda: FakeCuda) -> None:
    model = nn.Linear(4, 1)
    with recorder_of(model, tmp_path) as recorder:
        one_step(recorder, model, cuda, 1.0)
        assert (cuda.waits, written(tmp_path), recorder.last) == ([], [], None)
        one_step(recorder, model, cuda, 10.0)
        assert cuda.waits == ["event at 3"]  # the first step's end, with thirty seconds still to do
        assert [step.step for step in written(tmp_path)] == [0]
        one_step(recorder, model, cuda, 100.0)
        assert cuda.waits == ["event at 3", "event at 33"]
    steps = written(tmp_path)
    assert [(s.forward_s, s.backward_s, s.step_s) for s in steps] == [
        pytest.approx(times) for times in ((1, 2, 3), (10, 20, 30), (100, 200, 300))
    ]
    assert [step.step for step in steps] == [0, 1, 2]
    assert not [wait for wait in cuda.waits if wait.startswith("device")]


def test_events_are_used_again_from_step_to_step(tmp_path: Path, cuda: FakeCuda, group: None) -> None:
    model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1)))
    with recorder_of(model, tmp_path) as recorder:
        for _ in range(4):
            one_step(recorder, model, cuda, 1.0)
        made = cuda.made
        for _ in range(20):
            one_step(recorder, model, cuda, 1.0)
    assert cuda.made == made
    timeline = read_document(tmp_path / "gradients.json", GradientTimeline)
    assert timeline.num_steps == 24
    assert timeline.backward_s == pytest.approx(2.0)
    assert all(0 <= bucket.launched_s <= bucket.done_s <= timeline.backward_s for bucket in timeline.buckets)
    assert len(timeline.parameters) == 4


def test_a_mark_that_two_phases_share_is_used_again_once(tmp_path: Path, cuda: FakeCuda) -> None:
    model = nn.Linear(4, 1)
    with recorder_of(model, tmp_path) as recorder:
        for seconds in recorder.steps(range(1, 9)):
            cuda.work(RANK_DEVICE, seconds)
            loss = model(torch.ones(1, 4)).sum()
            recorder.begin("backward")
            loss.backward()
            cuda.work(RANK_DEVICE, 2 * seconds)
            recorder.begin("optimizer")
            cuda.work(RANK_DEVICE, 3 * seconds)
    steps = written(tmp_path)
    assert [step.step for step in steps] == list(range(8))
    for s in steps:
        assert (s.data_s, s.forward_s, s.backward_s, s.optimizer_s) == pytest.approx([n * (s.step + 1) for n in range(4)])
        assert s.step_s == pytest.approx(6 * (s.step + 1))


def test_after_an_error_nobody_waits_for_a_step_that_may_never_end(tmp_path: Path, cuda: FakeCuda) -> None:
    model = nn.Linear(4, 1)

    def broken() -> None:
        with recorder_of(model, tmp_path) as recorder:
            one_step(recorder, model, cuda, 1.0)
            one_step(recorder, model, cuda, 1.0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert cuda.waits == ["event at 3"]
    assert len(written(tmp_path)) == 1


def test_catching_up_reads_what_was_asked_for(tmp_path: Path, cuda: FakeCuda) -> None:
    model = nn.Linear(4, 1)
    with recorder_of(model, tmp_path) as recorder:
        one_step(recorder, model, cuda, 1.0)
        recorder.catch_up()
        assert recorder.last is not None
        assert recorder.last.step_s == pytest.approx(3.0)
        recorder.catch_up()
    assert len(written(tmp_path)) == 1


def test_an_own_loop_ends_with_its_last_step_read(tmp_path: Path, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_loop, "device_clock", lambda device: CudaClock(torch.device("cuda", RANK_DEVICE)))
    model = nn.Linear(4, 1)
    with record_steps(model, samples_per_rank=1, warmup_steps=0, folder=tmp_path / "run") as recorder:
        for _ in range(3):
            one_step(recorder, model, cuda, 1.0)
    assert [step.step_s for step in written(tmp_path / "run")] == pytest.approx([3.0] * 3)
    assert read_document(tmp_path / "run" / "gradients.json", GradientTimeline).num_steps == 3


def watched(run: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[nn.Module, torch.optim.Optimizer, Recording]:
    """Return a model with its optimizer, and the recording of it on a device's clock, which has begun."""
    monkeypatch.setattr(watch, "device_clock", lambda device: CudaClock(torch.device("cuda", RANK_DEVICE)))
    model = nn.Linear(4, 1)
    recording = Recording(run)
    recording.start(torch.device("cpu"))
    return model, torch.optim.SGD(model.parameters(), lr=0.1), recording


@pytest.mark.parametrize(("failure", "num_read"), [(None, 3), ("a rank was lost", 2)])
def test_a_watched_training_that_went_well_ends_with_its_last_step_read(
    tmp_path: Path, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, failure: str | None, num_read: int
) -> None:
    model, optimizer, recording = watched(tmp_path / "run", monkeypatch)
    for _ in range(4):  # the first one shows what is trained
        model(torch.ones(1, 4)).sum().backward()
        cuda.work(RANK_DEVICE, 1.0)
        optimizer.step()
    recording.stop(failure)
    assert [step.step_s for step in written(tmp_path / "run")] == pytest.approx([1.0] * num_read)


def test_a_step_that_is_captured_into_a_graph_is_left_alone(
    tmp_path: Path, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To wait for the step before it, or to mark its phases, would break the capture and with it the training."""
    model, optimizer, recording = watched(tmp_path / "run", monkeypatch)
    for step in range(7):
        cuda.captures = step == 4
        before = (len(cuda.waits), cuda.made)
        model(torch.ones(1, 4)).sum().backward()
        cuda.work(RANK_DEVICE, 1.0)
        optimizer.step()
        assert not cuda.captures or (len(cuda.waits), cuda.made) == before
    recording.stop()
    assert [step.step for step in written(tmp_path / "run")] == [1, 2, 3, 4, 5]
    assert "a CUDA graph was captured: nothing tells of the steps that it replays" in read_info(tmp_path / "run").unseen


def test_a_device_that_has_no_clock_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    with (
        pytest.raises(BadInput, match="meta runs behind"),
        record_steps(nn.Linear(2, 2, device="meta"), samples_per_rank=1, folder=tmp_path / "r"),
    ):
        pass
    assert not (tmp_path / "r").exists()
