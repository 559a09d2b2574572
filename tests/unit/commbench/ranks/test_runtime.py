import pytest
import torch

from commprof.commbench.errors import BadInput
from commprof.commbench.ranks.launched import detect_rank
from commprof.commbench.ranks.runtime import barrier, broadcast_text, gather_values, rank_device, resolve_backend


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
