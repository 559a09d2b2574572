"""What a recorder says that it could not see of a training, in words."""

import torch
from torch import nn

from commprof.commbench.recorder.ddp_settings import element_bytes, frozen_bytes
from commprof.commbench.recorder.gradients import GradientRecorder
from commprof.commbench.timing import FakeClock


def test_sparse_gradients_are_told_since_what_they_send_depends_on_the_batch() -> None:
    """A table of 10 rows of 4 floats is 160 bytes when it is whole; a frozen one sends nothing, and a dense one is whole."""
    frozen = nn.Embedding(10, 4, sparse=True).requires_grad_(requires_grad=False)
    model = nn.ModuleList([nn.EmbeddingBag(10, 4, sparse=True), nn.Embedding(10, 4), frozen])
    (line,) = GradientRecorder(model, 0, FakeClock()).unseen()
    assert line == (
        "the gradients of 1 of 2 parameters are sparse: how many bytes they send depends on the batch, and they are "
        "counted as if they were sent whole (160 B of 320 B)"
    )


def test_parameters_that_lie_elsewhere_between_passes_are_counted_whole() -> None:
    """DeepSpeed's stage 3 leaves a parameter empty and says in ds_numel what it has: 12 of float32 are 48 bytes."""
    model = nn.Linear(4, 3, bias=False)
    model.weight.data = torch.empty(0)
    model.weight.ds_numel = 12  # type: ignore[assignment]
    assert (element_bytes(model), frozen_bytes(model)) == ((12, 48), 0)
    model.weight.requires_grad_(requires_grad=False)
    assert (element_bytes(model), frozen_bytes(model)) == ((12, 0), 48)


def test_of_a_model_with_nothing_special_nothing_is_said() -> None:
    assert list(GradientRecorder(nn.Linear(4, 4), 0, FakeClock()).unseen()) == []
