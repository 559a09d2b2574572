"""Which module is trained, and why none is known to be."""

import sys
from types import SimpleNamespace

import pytest
from torch import nn

from commprof.commbench.foreign.cli import _why_nothing
from commprof.commbench.foreign.root import why_none


def test_several_engines_are_named_for_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The optimizer inside a DeepSpeed engine has copies, so of two engines nothing tells which it trains."""
    assert why_none() == "no module holds the parameters of the optimizer that took the first step"

    class Engine(nn.Module):
        pass

    both = [Engine(), Engine()]
    module = SimpleNamespace(DeepSpeedEngine=Engine)
    monkeypatch.setitem(sys.modules, "deepspeed.runtime.engine", module)  # type: ignore[arg-type]
    assert len(both) > 1 and why_none().startswith(
        "there are several DeepSpeed engines, and one alone that trains can be recorded; "
    )


def test_what_the_recorder_itself_refuses_is_not_said_to_be_for_want_of_it() -> None:
    assert _why_nothing(["python", "torch", "error BadInput: there are 2 engines"], 1) == "there are 2 engines"
    missing = _why_nothing(["python", "error ModuleNotFoundError: No module named 'commprof'"], 1)
    assert missing.endswith("is commprof installed in the Python that the command runs?")
