"""Which GPU a rank takes, who shares one, and what is said before anything starts: torch.cuda and NVML are stand-ins."""

import argparse
import os
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch.distributed import HashStore

from commprof.cli import main
from commprof.commbench.errors import BadInput
from commprof.commbench.machine import hardware
from commprof.commbench.ranks import runtime
from commprof.commbench.ranks.arguments import check_gpus
from commprof.commbench.ranks.launched import RankContext
from commprof.commbench.ranks.runtime import process_group, rank_device
from commprof.commbench.ranks.sharing import card_of, first_shared, refuse_shared_cards
from tests.fake_nvml import Card, FakeNvml


def see(monkeypatch: pytest.MonkeyPatch, *buses: int) -> list[int]:
    """Let this process see GPUs on these buses; return which it selects."""
    selected: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(buses))
    monkeypatch.setattr(torch.cuda, "set_device", selected.append)
    properties = [SimpleNamespace(pci_domain_id=0, pci_bus_id=bus, pci_device_id=0, uuid=f"u{bus}") for bus in buses]
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties[device.index])
    return selected


def rank(local: int, of: int = 4) -> RankContext:
    return RankContext(rank=local, local_rank=local, world_size=of, local_world_size=of, launcher="srun")


def test_each_rank_takes_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    selected = see(monkeypatch, 1, 2, 3, 4)
    assert [rank_device(rank(local), "nccl").index for local in range(4)] == selected == [0, 1, 2, 3]


def test_a_rank_that_sees_one_gpu_takes_it_whatever_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch, 7)
    assert rank_device(rank(3), "nccl") == torch.device("cuda", 0)


def test_too_few_of_several_are_refused_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch, 1, 2)
    with pytest.raises(BadInput, match="shows 2 GPUs; start at most one rank a GPU, or take --backend gloo"):
        rank_device(rank(2), "nccl")


def told(cards: Sequence[str]) -> list[str]:
    """What each rank raises when they compare their cards; empty for nothing."""
    store, words = HashStore(), [""] * len(cards)
    store.set_timeout(timedelta(seconds=30))

    def compare(number: int) -> None:
        try:
            refuse_shared_cards(store, number, len(cards), cards[number])
        except BadInput as error:
            words[number] = str(error)

    threads = [threading.Thread(target=compare, args=(number,)) for number in range(len(cards))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return words


def test_shared_gpus_are_told_on_every_rank_by_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "hostname", lambda: "node1")
    cards = []
    for bus in (0x19, 0x3B, 0x19):
        see(monkeypatch, bus)
        cards.append(card_of(torch.device("cuda", 0), {}))
    assert told(cards[:2]) == ["", ""]
    line = "ranks 0 and 2 have one GPU, 0000:19:00.0 on node1, and NCCL takes one rank a GPU; start fewer, or take gloo"
    assert told(cards) == [line] * 3
    monkeypatch.setenv("NCCL_MULTI_RANK_GPU_ENABLE", "1")
    assert told(cards) == [""] * 3


def test_other_hosts_and_other_instances_of_a_card_are_other_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch, 0x19)
    device = torch.device("cuda", 0)
    named = [card_of(device, {"NCCL_HOSTID": name}) for name in ("a", "b")]
    assert first_shared(named) is None
    whole = card_of(device, {})
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda device: SimpleNamespace(pci_domain_id=0, pci_bus_id=0x19, pci_device_id=0, uuid="MIG-2"),
    )
    assert first_shared([whole, card_of(device, {})]) is None
    assert first_shared([whole, whole]) == (0, 1)


def test_nccl_is_opened_with_the_ranks_device_after_the_cards_were_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    see(monkeypatch, 0x19)
    store = HashStore()
    store.set_timeout(timedelta(seconds=5))

    def opened(backend: str, *, device_id: torch.device, **place: object) -> None:
        asked.update(backend=backend, device=device_id, compared=store.get("card/0").decode())

    monkeypatch.setattr(runtime, "meet", lambda context, timeout_s, errors: store)
    monkeypatch.setattr(runtime.dist, "init_process_group", opened)
    alone = RankContext(rank=0, local_rank=0, world_size=1, local_world_size=1, launcher="torchrun")
    runtime._open_group(alone, "nccl", 30.0, 30.0, torch.device("cuda", 0))
    assert (asked["backend"], asked["device"]) == ("nccl", torch.device("cuda", 0))
    assert os.environ["TORCH_NCCL_SHOW_EAGER_INIT_P2P_SERIALIZATION_WARNING"] == "0"
    assert "0000:19:00.0" in asked["compared"]


class Watching:
    """Stands in for the deadline's thread and notes its limit."""

    limits_s: ClassVar[list[float]] = []

    def __init__(self, roll: object, limit_s: float) -> None:
        self.limits_s.append(limit_s)
        self.before_end: list[object] = []

    def __enter__(self) -> "Watching":
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing runs."""


@pytest.mark.parametrize(("world_size", "least_s"), [(2, 120.0), (1, 0.0)])
def test_under_nccl_our_deadline_comes_before_torchs_watchdog_whatever_nccl_reports(
    monkeypatch: pytest.MonkeyPatch, world_size: int, least_s: float
) -> None:
    """It acts on a timeout, and a second after NCCL has lost a connection; either way it sleeps four waits for a dump first."""
    opened: dict[str, Any] = {}
    for name in (WAIT := "TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC", "TORCH_NCCL_BLOCKING_WAIT"):
        monkeypatch.setenv(name, "0")
        monkeypatch.delenv(name)
    monkeypatch.setattr(runtime, "_open_group", lambda *asked: opened.update(meeting_s=asked[2], timeout_s=asked[3]))
    monkeypatch.setattr(runtime, "_roll_call", lambda context, wait_s: SimpleNamespace(dismiss=lambda: None, on_loss=[]))
    monkeypatch.setattr(runtime.dist, "destroy_process_group", lambda: None)
    monkeypatch.setattr(runtime, "Deadline", Watching)
    Watching.limits_s.clear()
    with process_group(rank(0, of=world_size), "nccl", 120.0, None):
        sleeps_s = 4 * int(os.environ[WAIT]) / 1000
    assert Watching.limits_s == [112.0]
    assert opened == {"meeting_s": 112.0, "timeout_s": 150.0}
    assert least_s <= sleeps_s <= least_s + 4
    assert "TORCH_NCCL_BLOCKING_WAIT" not in os.environ


@pytest.mark.parametrize(
    ("chosen", "gpus"),
    [(None, 3), ("", 0), ("1", 1), ("0,2", 2), ("0,7,1", 1), ("-1", 0), ("GPU-1b2c,MIG-77", 2), (" 1 , 2 ", 2)],
)
def test_gpus_are_counted_as_cuda_shows_them(monkeypatch: pytest.MonkeyPatch, chosen: str | None, gpus: int) -> None:
    monkeypatch.setattr(hardware, "_torch_cuda", lambda: "13.0")
    environ = {} if chosen is None else {"CUDA_VISIBLE_DEVICES": chosen}
    nvml = FakeNvml(cards=[Card(), Card(), Card(), Card(lost=True)])
    assert hardware.gpus_for_nccl(environ, nvml) == gpus
    monkeypatch.setattr(hardware, "_torch_cuda", lambda: None)
    assert hardware.gpus_for_nccl(environ, nvml) == 0


@pytest.mark.parametrize(("gpus", "backend", "nproc"), [(0, "auto", 4), (4, "auto", 4), (1, "gloo", 4), (1, "auto", 1)])
def test_ranks_that_have_gpus_or_want_none_may_start(
    monkeypatch: pytest.MonkeyPatch, gpus: int, backend: str, nproc: int
) -> None:
    monkeypatch.setattr(hardware, "gpus_for_nccl", lambda environ: gpus)
    check_gpus(argparse.Namespace(nproc=nproc), backend)


@pytest.mark.parametrize(
    ("words", "mend"),
    [
        (["bench", "--nproc", "2"], "--backend gloo"),
        (["links", "--nproc", "2", "--backend", "nccl"], "--backend gloo"),
        (["contention", "--nproc", "2"], "--backend gloo"),
        (["train", "configs/small.yaml", "--nproc", "2"], "distributed.backend=gloo"),
    ],
)
def test_too_many_ranks_for_the_gpus_are_refused_before_they_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], mend: str
) -> None:
    monkeypatch.chdir(Path(__file__).parents[4])
    monkeypatch.setattr(hardware, "gpus_for_nccl", lambda environ: 1)
    assert main(words) == 2
    assert f"NCCL takes one rank a GPU and this machine shows 1 GPU; use {mend}, or --nproc 1" in capsys.readouterr().err
