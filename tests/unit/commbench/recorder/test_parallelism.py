"""Kinds of training whose libraries are not here, told by the classes that they have."""

import pytest
from torch import nn
from torch.distributed.pipelining import stage

from commprof.commbench.recorder.parallelism import training_kind


class DeepSpeedEngine(nn.Module):
    """As DeepSpeed's own is called, and asked."""

    def __init__(self, zero_stage: int) -> None:
        super().__init__()
        self._zero_stage = zero_stage

    def zero_optimization_stage(self) -> int:
        return self._zero_stage


@pytest.mark.parametrize(("zero_stage", "kind"), [(0, "deepspeed"), (1, "zero1"), (2, "zero2"), (3, "zero3")])
def test_a_deepspeed_engine_says_its_stage(zero_stage: int, kind: str) -> None:
    assert training_kind(DeepSpeedEngine(zero_stage), exchanged=True) == kind


def test_a_stage_of_a_pipeline_makes_it_one_whatever_the_stage_holds() -> None:
    base = stage._PipelineStageBase
    made = type("Stage", (base,), dict.fromkeys(base.__abstractmethods__))
    kept = object.__new__(made)
    assert training_kind(nn.Linear(1, 1), exchanged=True) == "pipeline"
    del kept
    assert training_kind(nn.Linear(1, 1), exchanged=True) == "hand_made"
