"""What tensors take at most, and what autograd holds, of tensors whose sizes are known."""

import pytest
import torch
from torch import nn

from commprof.train.activations import counting_held, measuring_peak, tells_peak

MIB = 2**20


def mib(number: int) -> torch.Tensor:
    return torch.empty(number * MIB, dtype=torch.uint8)


def test_the_peak_is_the_most_beyond_what_there_was(capfd: pytest.CaptureFixture[str]) -> None:
    """8 MiB were there, and are freed meanwhile without a word; then 3 and 4 at once, and 5 alone."""
    before = mib(8)
    with measuring_peak(torch.device("cpu")) as peak:
        first, second = mib(3), mib(4)
        del first, second, before
        last = mib(5)
    assert peak.num_bytes == 7 * MIB
    assert len(last) == 5 * MIB
    assert "Memory block" not in capfd.readouterr().err


def test_autograd_holds_what_it_saves_once_and_parameters_not_at_all() -> None:
    layer = nn.Linear(8, 8, bias=False)
    features = torch.ones(2, 8, requires_grad=True)
    with counting_held(layer) as held:
        loss = layer(features).exp().sum()
        assert held.now_bytes == 2 * 64, "the layer's input and exp's result, 2 x 8 float32 each"
        loss.backward()
    assert held.now_bytes == 0
    assert held.peak_bytes == 2 * 64


def test_only_sharded_trainings_are_looked_at() -> None:
    assert not any(tells_peak(nn.Linear(2, 2), number) for number in range(4))
