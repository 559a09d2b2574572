"""A cluster that appears, works and goes without a trace, whatever happened to it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from commprof.commbench.errors import BadInput
from commprof.commbench.machine.wire import parse_wire
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
        subprocess.run(["ip", "netns", "add", name], check=True, timeout=10)
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
            subprocess.run(["ip", "netns", "del", name], check=True, timeout=10)


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


def test_delay_is_there_where_the_kernel_can_or_refused_in_one_line() -> None:
    done = commprof("up", "--hosts", "2", "--rate", "1gbit", "--delay", "2")
    if done.returncode == 0:
        assert testbed.read_fabric().wire == parse_wire("1gbit", delay_s=0.002)
        assert commprof("rate", "1gbit").returncode == 0
        assert testbed.read_fabric().wire == parse_wire("1gbit")
    else:
        assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "no netem" in done.stderr
        assert not [name for name in namespaces() if name.startswith("commprof-")], "half a testbed does not stay"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["up", "--hosts", "1"], "a testbed has 2 to 64 hosts"),
        (["up", "--rate", "fast"], "rate 'fast' is not a number"),
        (["up", "--delay", "-1"], "below 0"),
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
