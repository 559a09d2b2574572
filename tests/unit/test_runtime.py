import sys

import pytest
import torch

from commbench.errors import BadInput
from commbench.launched import detect_rank
from commbench.progress import activity, progress
from commbench.runtime import barrier, broadcast_text, gather_values, rank_device, resolve_backend


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU, so nccl is no mistake")
def test_nccl_without_a_gpu_is_refused() -> None:
    assert resolve_backend("auto") == "gloo"
    with pytest.raises(BadInput, match="use gloo"):
        resolve_backend("nccl")


def test_a_lone_process_agrees_with_itself() -> None:
    device = rank_device(detect_rank({}), "gloo")
    assert broadcast_text("näme \U0001f600", device) == "näme \U0001f600"
    assert gather_values([1.5, 2.5], device) == [[1.5, 2.5]]
    barrier()


def test_a_log_gets_a_line_at_the_end_and_not_one_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert not sys.stderr.isatty()
    with progress("step", 100) as report:
        for done in range(1, 101):
            report(done, "loss 1.0")
    assert capsys.readouterr().err == "step 100/100  loss 1.0  remaining 0 s\n"


def test_other_ranks_and_pipes_stay_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("step", 1, enabled=False) as report:
        report(1, "x")
    with activity("bench") as show:
        show("x")
    assert capsys.readouterr().err == ""
