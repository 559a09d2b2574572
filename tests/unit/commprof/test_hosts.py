import time

import pytest

from commprof.commbench.errors import RunFailed
from commprof.testbed import hosts
from commprof.testbed.network import Host
from commprof.testbed.wire import parse_wire


@pytest.mark.processes
def test_a_rank_that_fails_before_the_last_one_is_started_ends_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    start = hosts._start

    def start_and_let_rank_0_end(number: int, *rest: object) -> hosts._Rank:
        rank = start(number, *rest)  # type: ignore[arg-type]
        if number == 0:
            rank.process.wait()
        return rank

    monkeypatch.setattr(hosts, "_start", start_and_let_rank_0_end)
    monkeypatch.setattr(hosts, "raise_when_stopped", lambda: None)  # this process is pytest's
    monkeypatch.setattr(hosts, "_FAILURE_GRACE_S", 0.1)
    monkeypatch.setattr(hosts, "host_command", lambda number, command: list(command))
    three = [Host(name=f"host{number}", address="", wire=parse_wire("1gbit"), processes=()) for number in range(3)]
    started_s = time.monotonic()
    with pytest.raises(RunFailed, match="rank 0 on host0 failed with exit code 3"):
        hosts.run_on_hosts(three, ["sh", "-c", "test $RANK = 0 && exit 3; exec sleep 60"], {"PATH": "/usr/bin:/bin"})
    assert time.monotonic() - started_s < 30
