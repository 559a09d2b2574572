"""Who listens where, and who has not come, on stores of this process."""

import os
import socket
from datetime import timedelta
from pathlib import Path

import pytest

from commprof.commbench.errors import RunFailed
from commprof.commbench.ranks import meeting
from commprof.commbench.ranks.launched import RankContext
from commprof.commbench.ranks.meeting import came, meet

ALL_INTERFACES = {"00000000", "0" * 32}
LOOPBACK = "0100007F"


def place(rank: int, world_size: int) -> RankContext:
    return RankContext(rank=rank, local_rank=rank, world_size=world_size, local_world_size=world_size, launcher="torchrun")


def listening_at(port: int) -> set[str]:
    """Return the addresses, in the kernel's hex, at which somebody listens at a port."""
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and int(row[1].partition(":")[2], 16) == port}


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = int(probe.getsockname()[1])
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(number))
    return number


@pytest.mark.usefixtures("port")
def test_rank_0_listens_on_the_loopback_address_where_that_is_the_meeting_place(port: int) -> None:
    held = meeting._store(place(0, 1), "127.0.0.1", port, timedelta(seconds=20))
    assert listening_at(port) == {LOOPBACK}
    assert not came(held, 0)


def test_the_loopback_is_told_from_what_others_reach() -> None:
    assert meeting._loopback("127.0.0.1", 5) == (socket.AF_INET, ("127.0.0.1", 5))
    assert meeting._loopback("::1", 5) in (None, (socket.AF_INET6, ("::1", 5)))
    assert meeting._loopback("192.0.2.7", 5) is None
    assert meeting._loopback("no such host", 5) is None


@pytest.mark.usefixtures("port")
def test_who_has_not_come_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunFailed, match=r"ranks 1, 2 did not come to 127\.0\.0\.1:\d+, where the ranks meet, within 0\.2 s"):
        meet(place(0, 3), 0.2, 2)
    capfd.readouterr()  # torch's own words of it


@pytest.mark.usefixtures("port")
def test_a_lone_rank_meets_itself(port: int) -> None:
    store = meet(place(0, 1), 20.0, 2)
    store.set("x", "y")
    assert store.get("x") == b"y"
    assert os.environ["MASTER_PORT"] == str(port)
