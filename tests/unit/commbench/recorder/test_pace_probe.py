from pathlib import Path

import pytest
import torch

from commprof.commbench.recorder import pace_probe
from commprof.commbench.recorder.pace_probe import PaceRecorder
from commprof.commbench.recorder.steps import StepRecorder
from commprof.commbench.records.rundir import read_records
from commprof.commbench.records.training import PaceProbe, pace_file
from commprof.commbench.timing import FakeClock, MonotonicClock
from tests.brief_probe import IN_EARNEST

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _in_earnest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace_probe, "_WORK", IN_EARNEST)


def test_a_run_is_probed_before_between_and_after_its_steps_and_its_random_numbers_stay(tmp_path: Path) -> None:
    model = torch.nn.Linear(4, 4)
    torch.manual_seed(1)
    expected = torch.rand(20)
    torch.manual_seed(1)
    drawn = []
    clock = MonotonicClock()
    with StepRecorder(model, folder=tmp_path, rank=0, clock=clock, samples_per_rank=1, warmup_steps=2) as recorder:
        for _ in range(20):
            with recorder.step():
                drawn.append(torch.rand(1))
    probes = list(read_records(tmp_path / pace_file(0), PaceProbe))
    assert [probe.step for probe in probes] == [0, 8, 16, 20]
    assert all(len(probe.samples_s) == 5 for probe in probes)
    assert {probe.work for probe in probes} == {"8 products of 256 x 256 and a copy of 32 MiB"}
    assert torch.equal(torch.cat(drawn), expected)


def test_no_step_is_probed_twice_and_a_device_without_a_clock_not_at_all(tmp_path: Path) -> None:
    pace = PaceRecorder(tmp_path, 1, CPU, MonotonicClock())
    pace.take(4)
    pace.take(4)
    assert [probe.step for probe in read_records(tmp_path / pace_file(1), PaceProbe)] == [4]
    PaceRecorder(tmp_path, 2, torch.device("meta"), MonotonicClock()).take(0)
    PaceRecorder(tmp_path, 3, CPU, FakeClock()).take(0)  # a clock that does not run
    assert not (tmp_path / pace_file(2)).exists() and not (tmp_path / pace_file(3)).exists()


@pytest.mark.parametrize(("num_steps", "due"), [(0, False), (4, False), (8, True), (9, False), (512, True), (513, False)])
def test_a_long_run_is_probed_ever_less_often(tmp_path: Path, num_steps: int, due: bool) -> None:
    assert PaceRecorder(tmp_path, 0, CPU, FakeClock()).due(num_steps) is due
