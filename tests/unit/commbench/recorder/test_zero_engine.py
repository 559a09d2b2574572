"""The recorder of engines on a stand-in that makes DeepSpeed's calls: which messages it tells, where, what it leaves alone."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from commprof.commbench.recorder.own_work import OwnWork
from commprof.commbench.recorder.sharded import zero_engine
from commprof.commbench.recorder.sharded.choice import unit_recorder
from commprof.commbench.recorder.sharded.zero_engine import ZeroRecorder
from commprof.commbench.records.sharding import ShardingTimeline
from commprof.commbench.timing import MonotonicClock
from tests.unit.commbench.recorder.engine_stand_in import DeepSpeedEngine, Stage2


def recorded(engine: Any, *, steps: int = 3) -> tuple[ZeroRecorder, ShardingTimeline | None]:  # noqa: ANN401
    clock = MonotonicClock()
    recorder = unit_recorder(engine, 0, clock, OwnWork())
    assert isinstance(recorder, ZeroRecorder)
    recorder.attach()
    for _ in range(steps):
        start = clock.mark()
        recorder.begin_step()
        engine.train_step()
        recorder.end_step()
        recorder.keep(start, recorder.take_step())
    recorder.release()
    return recorder, recorder.timeline()


def marks(timeline: ShardingTimeline) -> list[tuple[str, str | None]]:
    return [(span.until, None if span.unit is None else timeline.units[span.unit].name) for span in timeline.spans]


def test_stage_2_tells_buckets_the_norm_and_the_gather_that_one_rank_does_not_make(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients come from the last parameter on, two to a bucket: 2 + 6 elements, then 3 + 6."""
    _, timeline = recorded(DeepSpeedEngine(2, monkeypatch))
    assert timeline is not None and timeline.zero is not None
    first, second, norm, updated = "2.weight to 1.weight", "0.bias to 0.weight", "all_reduce 1", "updated parameters 1"
    assert marks(timeline) == [
        *[(mark, name) for name in (first, second) for mark in ("reduce_begun", "reduce_sent", "reduce_landed", "kept")],
        ("update_begun", None), ("reduce_sent", norm), ("reduce_landed", norm),
        ("gather_sent", updated), ("gather_landed", updated), ("update_ended", None), ("ended", None),
    ]  # fmt: skip
    by_name = {unit.name: unit for unit in timeline.units}
    assert [by_name[name].reduce_bytes for name in (first, second, norm)] == [32, 36, 4]
    assert {by_name[name].reduce_op for name in (first, second, norm)} == {"all_reduce"}
    assert (by_name[updated].gather_bytes, by_name[updated].gather_dtype) == (68, "float32")
    assert (timeline.zero.stage, timeline.zero.parameter_bytes, timeline.zero.master_bytes) == (2, 68, 68)
    assert (timeline.zero.bucket_bytes, timeline.optimizer_bytes, timeline.num_steps) == (32, 68, 3)


def test_stage_3_tells_when_a_gather_was_asked_for_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    _, timeline = recorded(DeepSpeedEngine(3, monkeypatch))
    assert timeline is not None and timeline.zero is not None
    ahead, bucket, norm = "1.weight to 2.weight", "0.weight to 2.weight", "all_reduce 1"
    assert marks(timeline) == [
        *[(mark, name) for name in ("0.weight", ahead) for mark in ("gather_sent", "gather_awaited", "gather_landed")],
        *[(mark, bucket) for mark in ("reduce_begun", "reduce_sent", "reduce_landed", "kept")],
        ("update_begun", None), ("reduce_sent", norm), ("reduce_landed", norm),
        ("gather_sent", "0.bias"), ("gather_landed", "0.bias"), ("update_ended", None), ("ended", None),
    ]  # fmt: skip
    by_name = {unit.name: unit for unit in timeline.units}
    assert (by_name[bucket].reduce_op, by_name[bucket].reduce_bytes, by_name[norm].reduce_op) == (
        "reduce_scatter",
        68,
        "all_reduce",
    )
    assert [by_name[name].gather_bytes for name in ("0.weight", ahead, "0.bias")] == [24, 32, 12]
    assert (timeline.zero.persistent_bytes, timeline.zero.overlaps) == (12, True)


@pytest.mark.parametrize("stage", [2, 3])
def test_all_taps_are_taken_off(stage: int, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = DeepSpeedEngine(stage, monkeypatch)
    before = [dict(vars(each)) for each in (engine.sender, engine.optimizer, *engine.module.parameters())]
    recorded(engine, steps=1)
    after = [dict(vars(each)) for each in (engine.sender, engine.optimizer, *engine.module.parameters())]
    assert [own.keys() for own in after] == [own.keys() for own in before]
    assert engine.sender.sent.count("all_reduce") == (3 if stage == 2 else 1)


def test_a_step_with_a_collective_that_is_not_known_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = DeepSpeedEngine(2, monkeypatch)
    plain = engine.train_step
    steps = iter(range(9))

    def compares_first() -> None:
        if next(steps) == 0:
            engine.sender.broadcast(engine.module[0].weight, 0)
        plain()

    engine.train_step = compares_first  # type: ignore[method-assign]
    recorder, timeline = recorded(engine, steps=3)
    assert timeline is not None and timeline.num_steps == 2
    assert not list(recorder.unseen())


def test_where_every_step_has_one_no_units_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = DeepSpeedEngine(2, monkeypatch)
    monkeypatch.setattr(engine, "train_step", lambda: engine.sender.broadcast(engine.module[0].weight, 0))
    recorder, timeline = recorded(engine)
    assert timeline is None
    assert list(recorder.unseen()) == [
        "no units are told: DeepSpeed called broadcast in every step, which no stage of its is known to"
    ]


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("zero_offload_optimizer", lambda: SimpleNamespace(device="cpu"), "offload_optimizer"),
        ("zero_offload_param", lambda: SimpleNamespace(device=SimpleNamespace(value="nvme")), "offload_param"),
        ("zero_quantized_weights", lambda: True, "quantised"),
        ("zero_hpz_partition_size", lambda: 8, "second partition"),
        ("mics_shard_size", lambda: 4, "mics_shard_size"),
        ("has_moe_layers", True, "experts"),
        ("mp_world_size", 2, "tensor parallelism"),
    ],
)
def test_a_schedule_that_cannot_be_told_is_named(
    setting: str, value: object, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = DeepSpeedEngine(2, monkeypatch)
    object.__setattr__(engine, setting, value)
    recorder, timeline = recorded(engine)
    assert timeline is None
    (line,) = recorder.unseen()
    assert line.startswith("no units are told: ") and said in line


def test_what_is_not_offloaded_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = DeepSpeedEngine(2, monkeypatch)
    object.__setattr__(engine, "zero_offload_optimizer", lambda: SimpleNamespace(device=SimpleNamespace(value="none")))
    assert recorded(engine)[1] is not None


def test_an_engine_without_the_places_of_0_19_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("tests.unit.commbench.recorder.engine_stand_in.Stage2.average_tensor")
    engine = DeepSpeedEngine(2, monkeypatch)
    monkeypatch.setattr(engine, "train_step", lambda: None)
    recorder, timeline = recorded(engine)
    assert timeline is None
    assert list(recorder.unseen()) == ["no units are told: this DeepSpeed has no average_tensor"]
    assert "step" not in vars(engine.optimizer)


def test_an_error_of_the_engines_own_reaches_the_job_and_leaves_the_marks_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = DeepSpeedEngine(3, monkeypatch)

    def fails(params: object, *, quantize: bool) -> None:
        raise RuntimeError("out of memory")

    next(engine.module.parameters()).all_gather_coalesced = fails  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match="out of memory"):
        recorded(engine)


@pytest.mark.parametrize("place", ["average_tensor", "step"])
def test_insides_that_are_not_as_expected_end_the_units_and_not_the_training(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket's parameters are not where they were; the optimizer's own state is not."""
    engine = DeepSpeedEngine(2, monkeypatch)
    if place == "average_tensor":
        monkeypatch.setattr(Stage2, "average_tensor", lambda own, *_, **__: own.sender.all_reduce(torch.zeros(3)))
        monkeypatch.setattr(Stage2, "reduce_ipg_grads", lambda own, **_: own.average_tensor(tensor=torch.zeros(3)))
    else:
        del engine.optimizer.optimizer
        monkeypatch.setattr(engine.optimizer, "step", lambda: engine.sender.all_reduce(torch.zeros(())))
    recorder, timeline = recorded(engine)
    assert timeline is None
    (line,) = recorder.unseen()
    assert line.startswith("no units are told: this DeepSpeed is not as the version that is known, 0.19 (")
    assert len(engine.sender.sent) == (7 if place == "average_tensor" else 9)  # the first bucket is full once


def test_an_engine_without_an_optimizer_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = DeepSpeedEngine(3, monkeypatch)
    engine.optimizer = None
    monkeypatch.setattr(engine, "train_step", lambda: None)
    recorder, timeline = recorded(engine)
    assert timeline is None
    assert len(list(recorder.unseen())) == 1


def test_of_several_engines_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = [DeepSpeedEngine(2, monkeypatch) for _ in range(2)]
    module = SimpleNamespace(DeepSpeedEngine=DeepSpeedEngine)
    monkeypatch.setitem(sys.modules, "deepspeed.runtime.engine", module)  # type: ignore[arg-type]
    recorder, timeline = recorded(engines[1])
    assert timeline is None
    assert list(recorder.unseen()) == ["no units are told: there are several DeepSpeed engines, which send through one object"]


def test_what_the_script_gathers_itself_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within `GatheredParameters`, by the first of the parameters: those that are there already are not sent."""
    engine = DeepSpeedEngine(3, monkeypatch)
    plain, weights = engine.train_step, [each for each in engine.module.parameters() if each.ndim == 2]
    weights[0].ds_status = SimpleNamespace(name="AVAILABLE")  # type: ignore[attr-defined]

    def looks() -> None:
        weights[1].all_gather(weights)  # type: ignore[operator]
        plain()

    engine.train_step = looks  # type: ignore[method-assign]
    _, timeline = recorded(engine)
    assert timeline is not None
    assert marks(timeline)[:2] == [(mark, "1.weight to 2.weight") for mark in ("gather_sent", "gather_landed")]


def test_what_was_counted_of_activations_is_not_an_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = DeepSpeedEngine(2, monkeypatch)
    recorder, _ = recorded(engine)
    recorder.tell(activation_bytes=0, peak_bytes=0)
    timeline = recorder.timeline()
    assert timeline is not None and timeline.activation_bytes is None and timeline.peak_bytes is None


def test_ranks_are_counted_before_a_script_ends_its_process_group(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = [4]
    monkeypatch.setattr(zero_engine, "num_shards", lambda _: counted.pop() if counted else 1)
    _, timeline = recorded(DeepSpeedEngine(2, monkeypatch))
    assert timeline is not None and timeline.zero is not None
    assert (timeline.num_shards, timeline.zero.master_bytes) == (4, 4 * 68)
