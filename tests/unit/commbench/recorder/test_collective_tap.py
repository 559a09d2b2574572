"""Where each torch keeps what stands in a unit's place for a collective: torch 2.9 in one group, later ones in a list."""

from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from commprof.commbench.recorder.sharded.collective_tap import collective_of

GROUP = SimpleNamespace(_all_gather_comm="its own")


def unit(**state: Any) -> nn.Module:  # noqa: ANN401
    module = nn.Linear(1, 1)
    module._get_fsdp_state = lambda: SimpleNamespace(**state)  # type: ignore[assignment]
    return module


@pytest.mark.parametrize("state", [{"_fsdp_param_group": GROUP}, {"_fsdp_param_groups": [GROUP]}], ids=["2.9", "2.13"])
def test_a_collective_is_found_where_this_torch_keeps_it(state: dict[str, Any]) -> None:
    assert collective_of(unit(**state), "_all_gather_comm") == "its own"


@pytest.mark.parametrize("state", [{"_fsdp_param_group": None}, {"_fsdp_param_groups": [GROUP, GROUP]}, {"elsewhere": GROUP}])
def test_a_place_that_is_not_known_or_not_one_is_left_alone(state: dict[str, Any]) -> None:
    assert collective_of(unit(**state), "_all_gather_comm") is None
