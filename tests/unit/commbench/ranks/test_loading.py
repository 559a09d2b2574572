"""Torch is loaded with the collector paused, and the collector left as it was found."""

import gc
import sys

import pytest

from commprof.commbench.ranks.loading import load_torch


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_as_before_and_what_was_loaded_is_out_of_its_way(enabled: bool) -> None:
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        load_torch()
        assert gc.isenabled() is enabled
        assert "torch.distributed" in sys.modules
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()
        (gc.enable if before else gc.disable)()
