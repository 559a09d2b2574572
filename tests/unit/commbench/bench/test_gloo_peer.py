"""The benchmark beside gloo's own: foreign rows are read right, ratios are of neighbours, and no process stays behind."""

import os
import sys
from functools import partial
from pathlib import Path

import pytest

from benchmarks.gloo_peer import Size, gloo_p50_s, measure, param_p50_s, report
from benchmarks.processes import run_together
from commprof.commbench.errors import RunFailed

GLOO = """Device:      tcp, pci=, iface=lo, speed=-1, addr=[127.0.0.1]
   size (B)   elements   min (ns)   p50 (ns)   p99 (ns)   max (ns)   bandwidth (GB/s)   iterations
       4096       1024     145466     256101    4527729   11559895              0.007         5000
"""
PARAM = """Hello from Rank 0: [Rank   0] host vm, device: cpu, local_rank: 0 world_size: 2, master_ip: 127.0.0.1
\tCOMMS-RES                          total-size (B)  nElementsPerRank      Time(us):p50         p75
\tCOMMS-RES-all_reduce-float32              4096              1024            1389.6      1410.0
"""


def test_foreign_rows_become_seconds() -> None:
    assert gloo_p50_s(GLOO, 4096) == pytest.approx(256.101e-6)
    assert param_p50_s(PARAM, 4096) == pytest.approx(1389.6e-6)


def test_a_missing_row_is_an_error_and_not_another_size() -> None:
    with pytest.raises(RunFailed, match="no row for 1024 bytes"):
        gloo_p50_s(GLOO, 1024)
    with pytest.raises(RunFailed, match="no row for 1024 bytes"):
        param_p50_s(PARAM, 1024)


def test_tools_take_turns_in_opposite_order() -> None:
    order: list[str] = []

    def tool(name: str, size: Size) -> dict[str, float]:
        order.append(f"{name} {size.num_bytes}")
        return {name: 1.0}

    tools = [partial(tool, "ours"), partial(tool, "theirs")]
    assert [size for size, _ in measure(tools, ["4K"], 2, ())] == ["4K", "4K"]
    assert order == ["ours 4096", "theirs 4096", "theirs 4096", "ours 4096"]


def test_a_ratio_is_of_one_repeat() -> None:
    # Ratios 2, 1 and 1.5: their median is 1.5, while the ratio of the medians (4 and 4) would be 1.
    pairs = ((2.0, 1.0), (4.0, 4.0), (9.0, 6.0))
    found = {"4K": [{"isolated, fastest rank": own, "allreduce_ring_chunked": peer} for own, peer in pairs]}
    assert "| isolated, fastest rank | 4 KiB | 4 s | 4 s | 1.50 | 1.00 to 2.00 |" in list(report(found))


def test_without_peers_our_own_figures_remain() -> None:
    lines = list(report({"4K": [{"isolated, slowest rank": 2.0}, {"isolated, slowest rank": 4.0}]}))
    assert "| isolated, slowest rank | 4 KiB | 3 s | 2 s to 4 s |" in lines
    assert not [line for line in lines if "Beside" in line]


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.mark.processes
def test_a_failure_is_its_last_line() -> None:
    code = "import sys; print('the wire is cut', file=sys.stderr); sys.exit(3)"
    with pytest.raises(RunFailed, match="code 3: the wire is cut"):
        run_together([[sys.executable, "-c", "pass"], [sys.executable, "-c", code]], 30.0)


@pytest.mark.processes
def test_a_process_that_takes_too_long_is_ended() -> None:
    before = children()
    with pytest.raises(RunFailed, match=r"had not ended after 0\.5 s"):
        run_together([[sys.executable, "-c", "pass"], [sys.executable, "-c", "import time; time.sleep(60)"]], 0.5)
    assert children() == before
