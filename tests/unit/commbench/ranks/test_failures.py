"""Real texts of torch's errors, and the one line that is made of each."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed import DistBackendError, HashStore

from commprof.commbench.errors import RunFailed
from commprof.commbench.ranks.failures import lost_a_peer, out_of_memory, reason, refused_by_nccl
from commprof.commbench.ranks.rollcall import RollCall
from commprof.commbench.ranks.runtime import naming_lost_ranks


def nccl(kind: str, name: str, last: str) -> DistBackendError:
    return DistBackendError(
        f"NCCL error in: /pytorch/torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:3699, {kind} "
        f"(run with NCCL_DEBUG=WARN for details), NCCL version 2.28.9\n{name}: This usually reflects it.\nLast error:\n{last}"
    )


DUPLICATE = nccl("invalid usage", "ncclInvalidUsage", "Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 50000")
SHARED = nccl("invalid usage", "ncclInvalidUsage", "Multiple Ranks are using the same GPU/Partition")
NO_INTERFACE = nccl("internal error", "ncclInternalError", "Bootstrap : no socket interface found")
MEMORY = nccl("unhandled cuda error", "ncclUnhandledCudaError", "Cuda failure 2 'out of memory'")
CALLOC = nccl("unhandled cuda error", "ncclUnhandledCudaError", "Failed to CUDA calloc async 608 bytes")
GONE = nccl(
    "remote process exited or there was a network error", "ncclRemoteError", "socketProgress: Connection closed by remote peer"
)
GLOO = RuntimeError("[/pytorch/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1234\nmore")


PEER = nccl("unhandled cuda error", "ncclUnhandledCudaError", "Cuda failure 217 'peer access is not supported'")


class Shared(HashStore):
    def clone(self) -> "Shared":
        return self


@pytest.fixture
def roll(monkeypatch: pytest.MonkeyPatch) -> Iterator[RollCall]:
    monkeypatch.setattr("commprof.commbench.ranks.rollcall._LEAVE_S", 0.01)
    made = RollCall(0, 2, Shared(), wait_s=0.2)
    made.doing = "all_reduce of 1 MiB"
    yield made
    made.dismiss()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DUPLICATE, "NCCL failed in all_reduce of 1 MiB on rank 0: Duplicate GPU detected : rank 1 and rank 0 both on CUDA "
         "device 50000 (NCCL 2.28.9: invalid usage)"),
        (SHARED, "Multiple Ranks are using the same GPU/Partition (NCCL 2.28.9: invalid usage)"),
        (NO_INTERFACE, "Bootstrap : no socket interface found (NCCL 2.28.9: internal error)"),
        (PEER, "NCCL failed in all_reduce of 1 MiB on rank 0: Cuda failure 217"),
        (MEMORY, "rank 0 is out of memory in all_reduce of 1 MiB: Cuda failure 2 'out of memory' (NCCL 2.28.9"),
        (CALLOC, "rank 0 is out of memory in all_reduce of 1 MiB: Failed to CUDA calloc async 608 bytes"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB."), "rank 0 is out of memory in all_reduce of 1 MiB"),
        (GONE, "rank 1 died or stalls in all_reduce of 1 MiB"),
        (GLOO, "rank 1 died or stalls in all_reduce of 1 MiB"),
        (DistBackendError("Watchdog caught collective operation timeout: WorkNCCL(SeqNum=3)"), "rank 1 died or stalls"),
    ],
)  # fmt: skip
def test_each_failure_is_named_for_what_it_is(roll: RollCall, error: RuntimeError, line: str) -> None:
    with pytest.raises(RunFailed) as told, naming_lost_ranks(roll):
        raise error
    assert line in str(told.value)
    assert ("lost" in str(told.value)) is False
    assert "\n" not in str(told.value)


def test_an_error_that_is_no_collectives_passes_through(roll: RollCall) -> None:
    with pytest.raises(RuntimeError, match="shapes"), naming_lost_ranks(roll):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_a_cause_that_nccl_left_empty_falls_back_on_its_kind() -> None:
    assert reason(nccl("internal error", "ncclInternalError", "\n ")) == "NCCL 2.28.9: internal error"


@given(st.text(max_size=400), st.text(max_size=2000))
def test_no_text_makes_more_than_a_line(kind: str, last: str) -> None:
    for error in (nccl(kind, "ncclX", last), RuntimeError(last)):
        told = reason(error)
        assert len(told.splitlines()) <= 1
        assert len(told) < 1000
        assert not (refused_by_nccl(error) and lost_a_peer(error))
        out_of_memory(error)
