"""A cluster that appears, works and goes without a trace, whatever happened to it."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from commprof.analysis.health.check import Demands, check_runs
from commprof.analysis.health.results import Verdict
from commprof.analysis.runs.load import Run, load_run
from commprof.commbench.errors import BadInput
from commprof.commbench.machine.wire import parse_wire
from commprof.commbench.records.links import PairMeasurement
from commprof.testbed import devices
from commprof.testbed import network as testbed
from tests.testbed.conftest import namespaces

pytestmark = pytest.mark.testbed
DEADLINE_S = 120
SCRIPT = Path(sys.executable).parent / "commprof"


def commprof(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([SCRIPT, "testbed", *words], capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def wait_until(what: str, happened: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not happened():
        assert time.monotonic() < deadline_s, f"waited {DEADLINE_S} s for {what}"
        time.sleep(0.02)


def running() -> int:
    return sum(len(host.processes) for host in testbed.hosts())


def test_hosts_come_with_their_wire_and_go_without_a_trace() -> None:
    links = Path("/proc/net/dev").read_text().count(":")
    done = commprof("up", "--hosts", "3", "--rate", "200mbit")
    assert done.returncode == 0, done.stderr
    assert [line.split()[:6] for line in done.stdout.splitlines()[1:]] == [
        [f"host{host}", f"10.77.0.{host + 1}", "1", "200mbit", "23.73", "MB/s"] for host in range(3)
    ]
    assert Path("/proc/net/dev").read_text().count(":") == links, "nothing is added to the machine's own network"
    assert commprof("rate", "2.5gbit").returncode == 0
    assert testbed.read_fabric().wire == parse_wire("2.5gbit")
    assert commprof("down").returncode == 0
    assert not [name for name in namespaces() if name.startswith("commprof-")]
    assert not list(Path("/etc/netns").glob("commprof-*"))
    gone = commprof("status")
    assert (gone.returncode, gone.stderr.count("\n")) == (2, 1) and "commprof testbed up" in gone.stderr


def test_what_a_crash_left_is_removed_and_nothing_else() -> None:
    left = ("commprof-host0", "commprof-host7", "commprof-switch")
    for name in (*left, "commprof-hostile", "other"):
        subprocess.run(["ip", "netns", "add", name], check=True, timeout=DEADLINE_S)
    foreign = Path("/etc/netns/commprof-hostile")
    foreign.mkdir(parents=True)
    stuck = subprocess.Popen(["ip", "netns", "exec", "commprof-host7", "sh", "-c", "trap '' TERM; while :; do sleep 600; done"])
    try:
        wait_until("the process to be inside", lambda: stuck.pid in devices.processes("commprof-host7"))
        assert commprof("up", "--hosts", "2").returncode == 0
        assert stuck.wait(timeout=DEADLINE_S) == -signal.SIGKILL
        assert {name for name in namespaces() if name.startswith("commprof-host")} == {
            *("commprof-host0", "commprof-host1", "commprof-hostile")
        }
        assert commprof("down").returncode == 0
        assert {"commprof-hostile", "other"} <= namespaces() and foreign.exists()
    finally:
        foreign.rmdir()
        stuck.kill()
        for name in ("commprof-hostile", "other"):
            subprocess.run(["ip", "netns", "del", name], check=True, timeout=DEADLINE_S)


def test_a_testbed_in_use_is_not_rebuilt_and_its_user_takes_it_down() -> None:
    with testbed.testbed(2, parse_wire("1gbit")):
        refused = commprof("up", "--hosts", "3")
        assert refused.returncode == 2 and "in use by another commprof" in refused.stderr
        assert commprof("exec", "--", "true").returncode == 0
        assert len(testbed.hosts()) == 2
    with pytest.raises(BadInput, match="no testbed is up"):
        testbed.hosts()


def test_a_command_runs_on_every_host_as_a_rank_that_knows_its_peers() -> None:
    testbed.up(3, parse_wire("1gbit"))
    said = commprof("exec", "--hosts", "2", "--", "sh", "-c", "echo $RANK/$WORLD_SIZE $(hostname) $COMMPROF_WIRE $MASTER_ADDR")
    assert sorted(said.stdout.splitlines()) == ["0/2 host0 1gbit 10.77.0.1", "1/2 host1 1gbit 10.77.0.1"]
    plain = commprof("exec", "--host", "2", "--", "sh", "-c", "echo ${RANK-no rank} $(hostname)")
    assert plain.stdout == "no rank host2\n"
    too_many = commprof("exec", "--hosts", "4", "--", "true")
    assert too_many.returncode == 2 and "the testbed has 3" in too_many.stderr


def test_a_rank_that_fails_ends_the_others_and_is_named() -> None:
    testbed.up(3, parse_wire("1gbit"))
    started_s = time.monotonic()
    done = commprof("exec", "--", "sh", "-c", "test $RANK = 1 && exit 3; exec sleep 600")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "commprof: error: rank 1 on host1 failed with exit code 3"
    assert time.monotonic() - started_s < 30 and running() == 0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_rank_outlives_the_command_that_started_it(signum: signal.Signals) -> None:
    testbed.up(2, parse_wire("1gbit"))
    process = subprocess.Popen([SCRIPT, "testbed", "exec", "--", "sleep", "600"], start_new_session=True)
    wait_until("both ranks to run", lambda: running() == 2)
    os.kill(process.pid, signum)
    assert process.wait(timeout=DEADLINE_S) == (-signal.SIGKILL if signum == signal.SIGKILL else 130)
    wait_until("the ranks to be gone", lambda: running() == 0)


def test_ranks_of_a_host_know_their_places_and_have_a_line_of_their_own_inside() -> None:
    """One testbed for all of it: places and addresses, fewer ranks than there are, and what is refused."""
    flags = (
        "--hosts",
        "3",
        "--ranks-per-host",
        "2",
        "--rate",
        "100mbit,50mbit,100mbit",
        "--inside",
        "1gbit",
        "--spine",
        "150mbit",
    )
    made = commprof("up", *flags)
    assert made.returncode == 0, made.stderr
    assert "the switch carries 150mbit of all hosts together, 1.67 times less than the lines bring" in made.stdout
    assert "inside a host each rank sends and receives at 1gbit" in made.stdout
    own = "echo $RANK/$WORLD_SIZE $LOCAL_RANK/$LOCAL_WORLD_SIZE $GROUP_RANK $(hostname) $(ip -br -4 addr show eth0)"
    said = commprof("exec", "--hosts", "2", "--", "sh", "-c", own)
    assert [" ".join(line.split()[:4]) for line in sorted(said.stdout.splitlines())] == [
        *("0/4 0/2 0 host0", "1/4 1/2 0 host0", "2/4 0/2 1 host1", "3/4 1/2 1 host1")
    ]
    assert len({line.split()[-1] for line in said.stdout.splitlines()}) == 4
    one = commprof("exec", "--ranks-per-host", "1", "--hosts", "1", "--", "sh", "-c", "echo $WORLD_SIZE $COMMPROF_WIRE")
    assert one.stdout == "1 100mbit,50mbit,100mbit+inside1gbit+spine150mbit\n"
    for words, why in (
        (("exec", "--ranks-per-host", "3", "--", "true"), "the testbed's hosts have 2"),
        (("rate", "1gbit"), "make it anew"),
        (("rate", "1gbit,1gbit", "--inside", "2gbit"), "names 2 lines and there are 3 hosts"),
    ):
        refused = commprof(*words)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1) and why in refused.stderr
    assert commprof("down").returncode == 0
    assert not [name for name in namespaces() if name.startswith("commprof-")]


def test_delay_and_loss_come_and_go_with_the_wire() -> None:
    made = commprof("up", "--hosts", "2", "--rate", "20mbit", "--delay", "20ms", "--loss", "10%")
    assert made.returncode == 0, made.stderr
    done = commprof("exec", "--", sys.executable, "-m", "benchmarks.testbed_stream")
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    (trip_s,) = [each["round_trip_s"] for each in found if "round_trip_s" in each]
    assert 0.040 <= trip_s < 0.060, "twice 20 ms, and what others need of the cores"
    counted = {queue["kind"]: queue for queue in queues("port1")}
    lost, arrived = counted["clsact"]["drops"], counted["tbf"]["packets"]
    assert lost + arrived > 500 and 0.07 < lost / (lost + arrived) < 0.13
    (delay_line,) = devices.processes("commprof-switch")
    os.kill(delay_line, signal.SIGKILL)
    wait_until("the delay line to be gone", lambda: not devices.processes("commprof-switch"))
    assert "delays the testbed's frames has ended" in commprof("exec", "--", "true").stderr
    assert commprof("up", "--hosts", "2", "--delay", "1").returncode == 0
    assert testbed.read_fabric().wire == parse_wire("1gbit", delay_s=0.001)
    assert commprof("rate", "1gbit").returncode == 0
    assert testbed.read_fabric().wire == parse_wire("1gbit") and not devices.processes("commprof-switch")


def queues(port: str) -> list[dict[str, Any]]:
    shown = ("tc", "-n", "commprof-switch", "-s", "-j", "qdisc", "show", "dev", port)
    found: list[dict[str, Any]] = json.loads(subprocess.run(shown, capture_output=True, check=True, timeout=DEADLINE_S).stdout)
    return found


@pytest.mark.parametrize("num_namespaces", [1, 3, 7, 9, 10])
def test_up_takes_what_a_killed_up_left_at_any_moment(num_namespaces: int) -> None:
    """It is killed with all that it had started, once so many namespaces are there; the last has a delay line besides."""
    flags = (
        "--hosts",
        "3",
        "--ranks-per-host",
        "2",
        "--inside",
        "10gbit",
        "--spine",
        "2gbit",
        "--delay",
        "1ms",
        "--loss",
        "1%",
    )
    up = subprocess.Popen([SCRIPT, "testbed", "up", *flags], start_new_session=True, stdout=subprocess.DEVNULL)
    wait_until("its namespaces", lambda: len(devices.namespaces()) >= num_namespaces)
    wait_until("its delay line", lambda: num_namespaces < 10 or bool(devices.processes("commprof-switch")))
    os.killpg(up.pid, signal.SIGKILL)
    assert up.wait(timeout=DEADLINE_S) == -signal.SIGKILL
    half = commprof("exec", "--", "true")
    assert (half.returncode == 2 and "the testbed is half made" in half.stderr) or num_namespaces == 10  # it may be whole
    again = commprof("up", "--hosts", "2")
    assert again.returncode == 0, again.stderr
    whole = {"commprof-host0", "commprof-host1", "commprof-switch"}
    assert {name for name in namespaces() if name.startswith("commprof-")} == whole
    assert not delay_lines() and commprof("exec", "--", "true").returncode == 0


def delay_lines() -> list[str]:
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True, timeout=DEADLINE_S).stdout
    return [line for line in found.splitlines() if "testbed.delay_line" in line]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["up", "--hosts", "1"], "a testbed has 2 to 64 hosts"),
        (["up", "--rate", "fast"], "rate 'fast' is not a number"),
        (["up", "--rate", "1gbit,1gbit"], "names 2 lines and there are 4 hosts"),
        (["up", "--ranks-per-host", "99"], "a host has 1 to 16 ranks"),
        (["up", "--inside", "10gbit"], "needs --ranks-per-host 2 or more"),
        (["up", "--ranks-per-host", "2", "--inside", "10mbit"], "--inside is slower than a line"),
        (["up", "--spine", "2gb"], "rate '2gb' is not a number"),
        (["up", "--delay", "5m"], "delay '5m' is not a number with us, ms or s"),
        (["up", "--loss", "101%"], "from 0% to below 100%"),
        (["up", "--loss=-1%"], "from 0% to below 100%"),
        (["up", "--loss", "0.1"], "not a number with %"),
        (["up", "extra"], "takes no 'extra'"),
        (["rate"], "takes one rate"),
        (["exec"], "needs a command"),
        (["exec", "--", "true"], "no testbed is up"),
    ],
)
def test_what_cannot_be_is_one_line(words: list[str], said: str) -> None:
    done = commprof(*words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BadInput, match="takes root"):
        testbed.check_usable()
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(BadInput, match="this is darwin"):
        testbed.check_usable()


def test_a_host_on_a_slower_line_is_named_by_its_pairs(tmp_path: Path) -> None:
    """Three hosts, the second of which has half the rate each way: six ordered pairs in rounds, and a verdict that names it."""
    run = tmp_path / "r"
    testbed.up(3, parse_wire("200mbit,100mbit,200mbit"))
    done = commprof("exec", "--", str(SCRIPT), "links", "-b", "512K", "-e", "512K", "-n", "6", "--folder", str(run))
    assert done.returncode == 0, done.stderr
    rows = [line.split()[:3] for line in done.stdout.splitlines() if line.startswith("host")]
    assert rows == [[f"host{host}", str(host), "2"] for host in range(3)]
    pairs = load_run(run).pairs
    assert {(pair.sender, pair.receiver) for pair in pairs} == set(permutations(range(3), 2))
    assert sum(len(pair.samples_s) for pair in pairs) == 6 * 6
    assert not (run / "links.jsonl").exists(), "no host has two ranks"
    _check_that_host_1_alone_is_slow(load_run(run))


def _check_that_host_1_alone_is_slow(run: Run) -> None:
    """As far as the machine lets it be told: three senders share its cores with whatever else runs here."""
    shortest_s = {(pair.sender, pair.receiver): math.inf for pair in run.pairs}
    for pair in run.pairs:
        shortest_s[pair.sender, pair.receiver] = min(shortest_s[pair.sender, pair.receiver], *pair.samples_s)
    equal_s = (shortest_s[0, 2] + shortest_s[2, 0]) / 2
    slower = [shortest_s[ends] / equal_s for ends in ((0, 1), (1, 0), (1, 2), (2, 1))]
    assert all(1.5 < ratio < 2.5 for ratio in slower), shortest_s
    as_it_was = _of_hosts(run)
    undisturbed = _of_hosts(
        replace(run, pairs=tuple(_taking(pair, shortest_s[pair.sender, pair.receiver]) for pair in run.pairs))
    )
    for verdict in (as_it_was, undisturbed):
        assert verdict.ok is not True
        assert "host0" not in verdict.message and "host2" not in verdict.message
        if verdict.ok is None:
            assert verdict.message.startswith("cannot be told, because pairs of equal hosts differ by "), verdict.message


def _of_hosts(run: Run) -> Verdict:
    (verdict,) = [verdict for verdict in check_runs([run], Demands()) if verdict.name == "hosts"]
    return verdict


def _taking(pair: PairMeasurement, seconds: float) -> PairMeasurement:
    return replace(pair, samples_s=(seconds,) * len(pair.samples_s))
