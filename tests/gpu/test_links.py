"""Copies on one GPU and, where there are two, between them; what NVML says of them."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from commprof.commbench.links.copies import LinkOptions, list_routes, measure_copy, payload
from commprof.commbench.records.contention import ContentionMeasurement
from commprof.commbench.records.links import LinkMeasurement
from commprof.commbench.records.rundir import read_records

SCRIPT = Path(sys.executable).parent / "commprof"
GPUS = torch.cuda.device_count() if torch.cuda.is_available() else 0

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(GPUS == 0, reason="this machine has no NVIDIA GPU")]


def commprof(folder: Path, *words: str) -> str:
    done = subprocess.run([SCRIPT, *words], cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_process_measures_every_copy_of_its_gpus(tmp_path: Path) -> None:
    shown = commprof(tmp_path, "links", "-b", "16", "-e", "64M", "-f", "2048", "-n", "10", "--folder", "r")
    measured = list(read_records(tmp_path / "r" / "links.jsonl", LinkMeasurement))
    host = {(m.kind, m.pinned) for m in measured if "gpu0" in (m.source, m.target) and "host" in (m.source, m.target)}
    assert host == {(kind, pinned) for kind in ("host_to_device", "device_to_host") for pinned in (True, False)}
    assert any(m.kind == "device_to_device" and m.source == m.target == "gpu0" for m in measured)
    assert all(len(m.samples_s) == 10 and min(m.samples_s) > 0 and m.timer == "cuda_event" for m in measured)
    largest = {(m.kind, m.pinned): m for m in measured if m.message_bytes == max(m.message_bytes for m in measured)}
    within = largest["device_to_device", None].bandwidth_bytes_per_s
    assert within > largest["host_to_device", True].bandwidth_bytes_per_s > 1e9
    assert "Copies on rank 0's host" in shown
    assert "Latency (us)" not in shown  # one rank sends no messages


def test_pinned_memory_is_faster_than_pageable() -> None:
    options = LinkOptions(sizes=(2**26,), iterations=10, warmup_iterations=2)
    routes = [route for route in list_routes(1) if route.kind == "host_to_device"]
    by_memory = {route.pinned: measure_copy(route, 2**26, options).median_s for route in routes}
    assert by_memory[True] < by_memory[False]


def test_a_payload_is_the_same_on_host_and_device() -> None:
    device = torch.device("cuda", 0)
    assert torch.equal(payload(3, 1000, device).cpu(), payload(3, 1000, torch.device("cpu")))


@pytest.mark.skipif(GPUS < 2, reason="this machine has fewer than two GPUs")
def test_two_gpus_copy_with_and_without_peer_access() -> None:
    options = LinkOptions(sizes=(2**26,), iterations=10, warmup_iterations=2)
    routes = [route for route in list_routes(2) if route.kind == "peer_to_peer"]
    measured = [measure_copy(route, 2**26, options) for route in routes]
    assert {(m.source, m.target) for m in measured} == {("gpu0", "gpu1"), ("gpu1", "gpu0")}
    assert all(m.connection is not None for m in measured)
    assert any(m.peer_access is False for m in measured)
    if torch.cuda.can_device_access_peer(0, 1):
        seconds = {m.peer_access: m.median_s for m in measured if m.source == "gpu0"}
        assert seconds[True] < seconds[False]


@pytest.mark.skipif(GPUS < 2, reason="this machine has fewer than two GPUs")
def test_two_nccl_ranks_measure_messages_and_contention(tmp_path: Path) -> None:
    shown = commprof(tmp_path, "links", "--nproc", "2", "-e", "16M", "-f", "1024", "-n", "5", "--folder", "l")
    messages = [m for m in read_records(tmp_path / "l" / "links.jsonl", LinkMeasurement) if m.kind == "send_recv"]
    assert {(m.source, m.target) for m in messages} == {("rank0", "rank1"), ("rank1", "rank0")}
    assert all(m.timer == "cuda_event" and min(m.samples_s) > 0 for m in messages)
    assert "Bandwidth (GB/s)" in shown
    commprof(tmp_path, "contention", "--nproc", "2", "-b", "16M", "-e", "64M", "-n", "5", "--folder", "c")
    contended = list(read_records(tmp_path / "c" / "contention.jsonl", ContentionMeasurement))
    assert [m.message_bytes for m in contended] == [2**24, 2**26]
    assert all(m.timer == "cuda_event" and m.compute_slowdown > 0.9 and m.comm_slowdown > 0.9 for m in contended)
