"""NCCL's own lines in a log: ranks, nodes and the way of the bytes; and what is said where nothing tells the nodes."""

import json
from pathlib import Path

import pytest

from commprof.analysis.readers.as_run import understand
from commprof.analysis.readers.dialect import read_log
from commprof.analysis.runs.load import load_run
from commprof.cli import main
from commprof.commbench.errors import UnusableData
from tests.unit.analysis.readers.test_foreign_logs import Table, imported, lines

AT = "node0:40:41 [0] NCCL INFO "
COMM = AT + "comm 0x55 rank 0 nRanks {n} nNodes {k} localRanks {m} localRank 0 MNNVL 0"


def log(*said: str, ranks: int = 8, listed: int = 0) -> str:
    """Return a log whose NCCL lines are these."""
    return "\n".join([*said, *lines(Table(ranks=ranks, listed=listed))])


@pytest.mark.parametrize("said", ["comm 0x1 rank 0 nranks 1000 cudaDev 0 busId 19000 - Destroy COMPLETE", "nranks 1000"])
def test_the_logs_own_number_of_ranks_decides_where_the_rates_leave_several(said: str) -> None:
    text = log(AT + said, ranks=1000)
    found = imported(text)
    assert found.ranks.value == 1000
    assert found.ranks.source.startswith("NCCL's own line (nranks); busbw / algbw fits ")


@pytest.mark.parametrize(
    ("command", "ranks"),
    [
        ("$ mpirun -np 2 -x NCCL_DEBUG ./build/broadcast_perf -b 1M -n 20", 8),
        ("srun --ntasks=4 -c 12 build/broadcast_perf -g 4", 16),
    ],
)
def test_the_command_line_tells_the_ranks_where_the_rates_cannot(command: str, ranks: int) -> None:
    text = "\n".join([command, *lines(Table(op="broadcast", listed=0))]).replace("nGpus 1", "nGpus 4")
    assert (imported(text).ranks.value, imported(text).ranks.source) == (ranks, "its command line (processes, -t and -g)")
    with pytest.raises(UnusableData, match="say --world-size N"):
        imported(text.replace(command, "mpirun ./build/broadcast_perf -n 20"))


def test_of_several_communicators_the_jobs_counts() -> None:
    assert imported(log(COMM.format(n=4, k=1, m=4), COMM.format(n=1000, k=125, m=8), ranks=1000)).ranks.value == 1000


def test_nodes_are_the_logs_or_the_users_and_else_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "said.txt").write_text(log(COMM.format(n=8, k=2, m=4)))
    (tmp_path / "local.txt").write_text(log(AT + "comm 0x5 rank 3 nRanks 8 localRanks 2"))
    (tmp_path / "silent.txt").write_text(log())
    (tmp_path / "listed.txt").write_text(log(listed=3))  # an excerpt of the list
    wanted = {"said": (2, "NCCL's own line (nNodes)"), "local": (4, "NCCL's own line (nNodes)")}
    wanted |= {"silent": (None, None), "listed": (None, None)}
    for name, (nodes, source) in wanted.items():
        assert main(["import", str(tmp_path / f"{name}.txt"), "--folder", str(tmp_path / name), "--json"]) == 0
        (answer,) = json.loads(capsys.readouterr().out)
        assert (answer["num_nodes"], answer["num_nodes_source"]) == (nodes, source)
        assert any("say --nodes K" in note for note in answer["notes"]) == (nodes is None)
        assert load_run(tmp_path / name).num_nodes == nodes
    assert main(["check", str(tmp_path / "silent")]) == 0
    assert "hosts: unknown" in capsys.readouterr().out
    assert main(["fit", str(tmp_path / "silent"), "-n", "16"]) == 0
    assert "import it with --nodes K" in " ".join(capsys.readouterr().out.split())
    assert main(["import", str(tmp_path / "silent.txt"), "--folder", str(tmp_path / "asked"), "--nodes", "2"]) == 0
    assert load_run(tmp_path / "asked").num_nodes == 2


@pytest.mark.parametrize(
    ("text", "nodes", "reason"),
    [
        (log(COMM.format(n=8, k=2, m=4)), 4, "NCCL's own line .* says 2; drop --nodes"),
        (log(listed=8), 2, "the device list says 1; drop --nodes"),
        (log(), 9, "8 nodes at most"),
    ],
)
def test_nodes_that_cannot_be_are_refused(text: str, nodes: int, reason: str) -> None:
    (sweep,) = read_log(text)
    with pytest.raises(UnusableData, match=reason):
        understand(sweep, "log.txt", op=None, ranks=None, nodes=nodes)
    assert main(["import", "log.txt", "--nodes", "0"]) == 2


SOCKET = [AT + "NET/IB : No device found.", AT + "NET/Socket : Using [0]eth0:10.0.0.1<0>", AT + "Using network Socket"]


@pytest.mark.parametrize(
    ("said", "transport"),
    [
        (SOCKET, "the network is Socket (TCP), for NET/IB found no device"),
        ([AT + "Channel 00/0 : 3[3] -> 4[0] [send] via NET/Socket/0"], "the network is Socket (TCP)"),
        ([AT + "Channel 00 : 0[0] -> 1[1] via SHM/direct/direct"], "shared memory (SHM), not from GPU"),
        ([AT + "Channel 00 : 0[0] -> 1[1] via SHM/direct", AT + "Channel 00 : 1[1] -> 2[2] via P2P/IPC"], "for some pairs"),
        ([AT + "NCCL_P2P_DISABLE set by environment to 1."], "NCCL_P2P_DISABLE=1 is set"),
        ([AT + "Using network IB", AT + "Channel 00/0 : 3[3] -> 4[0] [send] via NET/IB/0/GDRDMA"], None),
        ([AT + "Channel 00 : 0[0] -> 1[1] via P2P/CUMEM/read", AT + "NCCL_DEBUG set by environment to INFO"], None),
        ([*SOCKET[:2], AT + "NET/OFI Selected Provider is efa;ofi_rxr"], None),  # the socket is that of the bootstrap
        ([AT + "NET/Socket : Using [0]eth0:10.0.0.1<0>"], "the network is Socket (TCP)"),
        ([*SOCKET[1:], AT + "Using network IB"], None),  # ranks of another communicator
        ([AT + "NCCL_IB_DISABLE set by environment to 1.", COMM.format(n=8, k=1, m=8)], None),
        ([*SOCKET, COMM.format(n=8, k=1, m=8)], None),  # which one node's ranks do not use
    ],
)
def test_a_slow_way_of_the_bytes_is_named(
    said: list[str], transport: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log.txt").write_text(log(*said))
    assert main(["import", str(tmp_path / "log.txt"), "--folder", str(tmp_path / "run")]) == 0
    imported_text = " ".join(capsys.readouterr().out.split())
    assert main(["check", str(tmp_path / "run")]) == 0
    checked = " ".join(capsys.readouterr().out.split())
    for text in (imported_text, checked):
        assert "NCCL says" not in text if transport is None else transport in text
    if "P2P_DISABLE" in said[0]:
        assert load_run(tmp_path / "run").info.environ == {"NCCL_P2P_DISABLE": "1"}
