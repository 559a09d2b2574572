"""Which ranks of a testbed are where, which testbeds cannot be, and which flags fit no action."""

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.commbench.errors import BadInput
from commprof.commbench.machine.wire import parse_wire
from commprof.commbench.ranks.launched import detect_rank
from commprof.testbed import network
from commprof.testbed.cli import VERB
from commprof.testbed.fabric import NAMESPACE, Fabric, checked_fabric, places, rank_address
from commprof.testbed.hosts import rank_environment


@pytest.mark.parametrize(
    ("num_hosts", "ranks_per_host", "wire", "said"),
    [
        (1, 1, "1gbit", "2 to 64 hosts"),
        (4, 0, "1gbit", "1 to 16 ranks"),
        (4, 17, "1gbit", "1 to 16 ranks"),
        (4, 1, "1gbit,1gbit", "names 2 lines and there are 4 hosts"),
        (4, 1, "1gbit+inside10gbit", "--ranks-per-host 2 or more"),
        (2, 2, "1gbit,20gbit+inside10gbit", "--inside is slower than a line"),
    ],
)
def test_what_cannot_be_made_is_one_line(num_hosts: int, ranks_per_host: int, wire: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        checked_fabric(num_hosts, ranks_per_host, parse_wire(wire))


def test_lines_that_are_alike_are_one_wire() -> None:
    assert checked_fabric(2, 1, parse_wire("1gbit,1gbit")).wire == parse_wire("1gbit")


@pytest.mark.parametrize(
    ("num_hosts", "ranks_per_host", "said"),
    [(5, 2, "the testbed has 4"), (0, 2, "the testbed has 4"), (4, 3, "hosts have 2"), (1, 0, "hosts have 2")],
)
def test_ranks_that_the_hosts_do_not_have_are_refused(num_hosts: int, ranks_per_host: int, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        places(checked_fabric(4, 2, parse_wire("1gbit")), num_hosts, ranks_per_host)


@given(hosts=st.integers(2, 64), ranks=st.integers(1, 16), inside=st.booleans(), data=st.data())
def test_ranks_fill_the_hosts_in_order_and_know_it(hosts: int, ranks: int, *, inside: bool, data: st.DataObject) -> None:
    wire = parse_wire("1gbit+inside10gbit" if inside and ranks > 1 else "1gbit")
    fabric: Fabric = checked_fabric(hosts, ranks, wire)
    used, local = data.draw(st.integers(1, hosts)), data.draw(st.integers(1, ranks))
    found = places(fabric, used, local)
    assert [place.rank for place in found] == list(range(used * local))
    assert all(NAMESPACE.fullmatch(place.namespace) for place in found)
    place = data.draw(st.sampled_from(found))
    context = detect_rank(rank_environment(fabric, place, len(found), local, {}))
    assert (context.rank, context.local_rank, context.num_nodes) == (place.rank, place.rank % local, used)
    assert place.host == place.rank // local
    apart = {(place.namespace, rank_address(fabric, place.host, place.local_rank)) for place in found}
    assert len(apart) == (used * local if fabric.has_inside else used)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("exec true --spine 2gbit", "testbed exec takes no --spine, which is for testbed up and rate; leave it out"),
        ("rate 1gbit --hosts 2", "testbed rate takes no --hosts, which is for testbed up and exec"),
        ("rate 1gbit --rate 2gbit", "testbed rate takes no --rate, which is for testbed up; leave it out"),
        ("up --host 0", "testbed up takes no --host, which is for testbed exec"),
        ("status --delay 0", "testbed status takes no --delay"),
        ("down --json", "testbed down takes no --json, which is for testbed status"),
        ("exec true --host 0 --ranks-per-host 1", "--host starts one command and no ranks, so --ranks-per-host says"),
    ],
)
def test_a_flag_that_the_action_would_not_heed_is_refused(words: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "check_usable", lambda: None)
    parser = argparse.ArgumentParser()
    VERB.add_arguments(parser)
    with pytest.raises(BadInput) as refused:
        VERB.check(parser.parse_args(words.split()))
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(
    "words",
    [
        "up --hosts 2 --ranks-per-host 2 --rate 1gbit --inside 2gbit --spine 1gbit --delay 1 --loss 1%",
        "rate 1gbit --inside 2gbit --spine 1gbit --delay 1 --loss 1%",
        *("exec true --host 0", "exec true --hosts 1 --ranks-per-host 1", "status --json", "down"),
    ],
)
def test_the_flags_of_an_action_fit_it(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "check_usable", lambda: None)
    parser = argparse.ArgumentParser()
    VERB.add_arguments(parser)
    VERB.check(parser.parse_args(words.split()))
