import time

import pytest

from commprof.commbench.errors import RunFailed
from commprof.commbench.machine.wire import parse_wire
from commprof.testbed import hosts
from commprof.testbed.fabric import Place, checked_fabric

FAILS = ("sh", "-c", "test $RANK = 0 && exit 3; exec sleep 60")


@pytest.mark.processes
def test_a_rank_that_fails_before_the_last_one_is_started_ends_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    start = hosts._start

    def start_and_let_rank_0_end(place: Place, *rest: object) -> hosts._Rank:
        rank = start(place, *rest)  # type: ignore[arg-type]
        if place.rank == 0:
            rank.process.wait()
        return rank

    monkeypatch.setattr(hosts, "_start", start_and_let_rank_0_end)
    monkeypatch.setattr(hosts, "raise_when_stopped", lambda: None)  # this process is pytest's
    monkeypatch.setattr(hosts, "_FAILURE_GRACE_S", 0.1)
    monkeypatch.setattr(hosts, "command_in", lambda namespace, host, command: list(command))
    three = checked_fabric(3, 1, parse_wire("1gbit"))
    started_s = time.monotonic()
    with pytest.raises(RunFailed, match="rank 0 on host0 failed with exit code 3"):
        hosts.run_on_hosts(three, FAILS, {"PATH": "/usr/bin:/bin"}, num_hosts=3, ranks_per_host=1)
    assert time.monotonic() - started_s < 30
