"""The recorder's promises: phases on a fake clock, and gradients that stay what DDP makes of them, on real ranks."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from commprof.commbench.errors import BadInput
from commprof.commbench.recorder.sharded.choice import sends_because
from commprof.commbench.recorder.sharded.collective_tap import collective_of
from commprof.commbench.recorder.steps import StepRecorder
from commprof.commbench.records.rundir import read_document, read_records
from commprof.commbench.records.sharding import UNITS_FILE, ShardingTimeline
from commprof.commbench.records.training import StepMeasurement
from commprof.commbench.timing import Clock, FakeClock, MonotonicClock
from commprof.train.activations import counting_held
from tests.forked import Zygote


@pytest.fixture
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=torch._C._distributed_c10d.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def recorder_of(model: nn.Module, folder: Path, clock: Clock | None = None) -> StepRecorder:
    clock = clock or MonotonicClock()
    return StepRecorder(model, folder=folder, rank=0, clock=clock, samples_per_rank=8, warmup_steps=0)


def test_phases_and_the_rest_of_the_step_are_timed_exactly(tmp_path: Path) -> None:
    clock = FakeClock()
    model = network()
    with StepRecorder(model, folder=tmp_path, rank=3, clock=clock, samples_per_rank=1, warmup_steps=1) as recorder:
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
    with StepRecorder(model, folder=tmp_path, rank=0, clock=clock, samples_per_rank=1, warmup_steps=0) as recorder:
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
    with StepRecorder(model, folder=tmp_path, rank=0, clock=MonotonicClock(), samples_per_rank=1, warmup_steps=0):
        assert all(p._post_accumulate_grad_hooks for p in model.parameters())
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_recording_leaves_gradients_as_ddp_makes_them(zygote: Zygote, tmp_path: Path, num_ranks: int) -> None:
    """To the bit while recording; afterwards too on two ranks, on three but for the order of a sum in new buckets."""
    script = Path(__file__).with_name("recorded_loops.py")
    done = zygote.run(tmp_path, script, tmp_path, "cpu", ranks=num_ranks)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])  # gloo of torch 2.9 has words of its own before it
    assert len(told) == 13
    for case, seen in told.items():
        assert (seen["while"], seen["steps"]) == (0.0, 4), case
        assert seen["after"] <= (0.0 if num_ranks == 2 else 2e-4), case


def test_the_users_hook_is_back_in_its_place_afterwards(tmp_path: Path, group: None) -> None:
    calls = []

    def hook(state: object, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        calls.append(state)
        return default_hooks.allreduce_hook(None, bucket)  # type: ignore[arg-type]

    model = DistributedDataParallel(network())
    model.register_comm_hook("mine", hook)
    with recorder_of(model, tmp_path) as recorder, recorder.step():
        model(torch.ones(1, 8)).sum().backward()
    assert calls == ["mine"]
    with pytest.raises(RuntimeError, match="only be called once"):
        model.register_comm_hook(None, default_hooks.allreduce_hook)
    model(torch.ones(1, 8)).sum().backward()
    assert calls == ["mine", "mine"]


def test_a_model_without_a_hook_has_none_afterwards(tmp_path: Path, group: None) -> None:
    model = DistributedDataParallel(network())
    for _ in range(2):  # it can be recorded again
        with recorder_of(model, tmp_path) as recorder, recorder.step():
            model(torch.ones(1, 8)).sum().backward()
    model.register_comm_hook(None, default_hooks.allreduce_hook)


def test_a_hook_built_into_torch_is_refused_in_words(tmp_path: Path, group: None) -> None:
    model = DistributedDataParallel(network())
    model._register_builtin_comm_hook(dist.BuiltinCommHookType.FP16_COMPRESS)
    with pytest.raises(BadInput, match="ddp_comm_hooks"):
        recorder_of(model, tmp_path).__enter__()
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())


def test_one_call_per_phase_and_a_step_per_batch(tmp_path: Path) -> None:
    clock = FakeClock()
    with recorder_of(network(), tmp_path, clock) as recorder:

        def batches() -> Iterator[int]:
            for number in range(5):
                clock.advance(0.5)
                yield number
            clock.advance(9.0)  # to find out that there are no more

        for number in recorder.steps(batches()):
            clock.advance(1.0)
            recorder.begin("backward")
            clock.advance(2.0)
            recorder.begin("forward")
            clock.advance(0.25)
            recorder.begin("backward")
            clock.advance(4.0)
            recorder.begin("optimizer")
            clock.advance(0.125)
            if number == 3:
                break
    steps = list(read_records(tmp_path / "steps.rank00000.jsonl", StepMeasurement))
    assert [s.step for s in steps] == [0, 1, 2], "the one left by break is not whole"
    for s in steps:
        assert (s.data_s, s.forward_s, s.backward_s, s.optimizer_s) == (0.5, 1.25, 6.0, 0.125)
        assert (s.step_s, s.last_backward_s, s.num_samples) == (7.875, 4.0, 8)


def test_the_last_batch_ends_the_recording(tmp_path: Path) -> None:
    with recorder_of(network(), tmp_path) as recorder:
        assert list(recorder.steps("abc")) == ["a", "b", "c"]
    assert len(list(read_records(tmp_path / "steps.rank00000.jsonl", StepMeasurement))) == 3


def test_phases_where_they_mean_nothing_are_refused(tmp_path: Path) -> None:
    with recorder_of(network(), tmp_path) as recorder:
        with pytest.raises(BadInput, match="outside of a step"):
            recorder.begin("forward")
        with recorder.step(), pytest.raises(BadInput, match="use one of data, forward, backward, optimizer"):
            recorder.begin("forwards")  # type: ignore[arg-type]


def test_a_step_that_torchs_profiler_watches_is_marked(tmp_path: Path) -> None:
    with recorder_of(network(), tmp_path) as recorder:
        with recorder.step():
            pass
        with torch.profiler.profile(), recorder.step():
            pass
    steps = read_records(tmp_path / "steps.rank00000.jsonl", StepMeasurement)
    assert [s.profiled for s in steps] == [False, True]


class Slow(nn.Linear):
    """A layer that takes a second of a made-up clock in forward."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(8, 8)
        self.clock = clock

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        self.clock.advance(1.0)
        return super().forward(features)


def test_a_unit_that_keeps_shards_of_fewer_ranks_between_its_passes_is_told_of_none(group: None, tmp_path: Path) -> None:
    """As reshard_after_forward=8 leaves it on 16 ranks: what lies there then is neither whole nor the shard of before."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (1,))
    block = fully_shard(nn.Linear(8, 8), mesh=mesh)
    model = fully_shard(nn.Sequential(block), mesh=mesh)

    def keep_others(module: nn.Module, _arguments: object, _output: object) -> None:
        module._parameters["weight"] = nn.Parameter(block._parameters["weight"].detach().clone())

    block.register_forward_hook(keep_others)
    recorder = one_step(recorder_of(model, tmp_path), model)
    assert not (tmp_path / UNITS_FILE).exists()
    assert any("shards of fewer ranks" in text for text in recorder.unseen())


def one_step(recorder: StepRecorder, model: nn.Module) -> StepRecorder:
    with recorder, recorder.step():
        with recorder.phase("forward"):
            loss = model(torch.ones(2, 8)).sum()
        with recorder.phase("backward"):
            loss.backward()
    return recorder


def test_a_root_that_an_evaluation_left_whole_is_a_unit(group: None, tmp_path: Path) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = fully_shard(nn.Linear(8, 8), mesh=init_device_mesh("cpu", (1,)))
    with torch.no_grad():
        model(torch.ones(2, 8))
    one_step(recorder_of(model, tmp_path), model)
    (unit,) = read_document(tmp_path / UNITS_FILE, ShardingTimeline).units
    assert (unit.name, unit.num_bytes, unit.reduce_bytes) == ("", 288, 288)


def test_a_collective_that_the_script_sets_meanwhile_stays(group: None, tmp_path: Path) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = fully_shard(nn.Linear(8, 8), mesh=init_device_mesh("cpu", (1,)))
    earlier = collective_of(model, "_reduce_scatter_comm")
    with recorder_of(model, tmp_path):
        mine = type(earlier)()
        model.set_custom_reduce_scatter(mine)
    assert collective_of(model, "_reduce_scatter_comm") is mine


def test_a_script_may_set_where_communication_has_its_memory_while_it_is_recorded(group: None, tmp_path: Path) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = fully_shard(nn.Linear(8, 8), mesh=init_device_mesh("cpu", (1,)))
    with recorder_of(model, tmp_path):
        model.set_allocate_memory_from_process_group_for_comm(True)
    assert type(collective_of(model, "_all_gather_comm")).__name__ == "ProcessGroupAllocAllGather"


def test_ranks_whose_script_all_reduces_by_a_hook_cannot_be_kept_from_it(group: None) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = fully_shard(nn.Linear(8, 8), mesh=init_device_mesh("cpu", (1,)))
    assert sends_because(model) == ""
    model.set_all_reduce_hook(lambda reduced: None)
    assert sends_because(model) == "its reductions go through an all-reduce hook of the script's own"


def test_units_of_a_sharded_model_are_timed_exactly_and_left_as_they_were(group: None, tmp_path: Path) -> None:
    """On one rank; the root has no parameters of its own, and is no unit. Outside of steps nothing is marked."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    clock = FakeClock()
    mesh = init_device_mesh("cpu", (1,))
    blocks = [fully_shard(Slow(clock), mesh=mesh) for _ in range(2)]
    model = fully_shard(nn.Sequential(*blocks), mesh=mesh)
    hooks = [(len(module._forward_pre_hooks), len(module._forward_hooks)) for module in model.modules()]
    recorder = recorder_of(model, tmp_path, clock)
    with recorder:
        for _ in range(3):
            with counting_held(model) as held, recorder.step():
                recorder.units.held_bytes = lambda: held.now_bytes
                with recorder.phase("forward"):
                    loss = model(torch.ones(2, 8)).sum()
                with recorder.phase("backward"):
                    loss.backward()
            with torch.no_grad():
                model(torch.ones(2, 8))
        recorder.units.tell(optimizer_bytes=7, activation_bytes=9)
        recorder.units.tell(peak_bytes=11)
    found = read_document(tmp_path / UNITS_FILE, ShardingTimeline)
    assert [(unit.name, unit.num_bytes, unit.num_tensors, unit.resharded) for unit in found.units] == [
        ("0", 288, 2, True),
        ("1", 288, 2, True),
    ]
    assert {(unit.gather_bytes, unit.reduce_bytes, unit.reduce_dtype) for unit in found.units} == {(288, 288, "float32")}
    assert (found.num_steps, found.num_others) == (3, 0)
    assert (found.optimizer_bytes, found.activation_bytes, found.peak_bytes) == (7, 9, 11)
    assert [unit.activation_bytes for unit in found.units] == [64, 64], "its input, 2 x 8 float32"
    took = {(span.until, span.unit): span.samples_s for span in found.spans if any(span.samples_s)}
    assert took == {("done", 0): (1, 1, 1), ("done", 1): (1, 1, 1)}
    assert [(span.until, span.unit) for span in found.spans if span.gathers and span.until.endswith("ready")] == [
        *(("ready", 0), ("ready", 1), ("back_ready", 1), ("back_ready", 0)),
    ]
    assert [span.unit for span in found.spans if span.until == "kept"] == [1, 0]
    assert [(len(module._forward_pre_hooks), len(module._forward_hooks)) for module in model.modules()] == hooks
