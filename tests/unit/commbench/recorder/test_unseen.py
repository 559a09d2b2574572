"""What a recorder says that it could not see of a training, in words."""

from torch import nn

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


def test_of_a_model_with_nothing_special_nothing_is_said() -> None:
    assert list(GradientRecorder(nn.Linear(4, 4), 0, FakeClock()).unseen()) == []
