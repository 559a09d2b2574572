"""What check says of the hosts of a links run, and what it asks to do next."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.health.evidence import load_evidence
from commprof.analysis.health.hosts import hosts
from commprof.analysis.health.results import Verdict
from commprof.analysis.health.slow_hosts import PairRate
from commprof.analysis.runs.load import load_run
from commprof.analysis.runs.uses import uses_of
from commprof.commbench.records.links import PairMeasurement
from commprof.commbench.records.rundir import RecordWriter, create_run
from tests.factory import MIB, run_info
from tests.slow_pairs import made_pairs


def measured(number: int, sender: int, receiver: int, size: int, seconds: float) -> PairMeasurement:
    return PairMeasurement(
        round=number, sender=sender, receiver=receiver, message_bytes=size, samples_s=(seconds,) * 3, timer="fake"
    )


def verdicts(folder: Path, *places: Sequence[PairRate], num_hosts: int = 8) -> dict[str, Verdict]:
    """Judge a run with one rank on each host for each list of pairs; small messages tell nothing of it."""
    per_host = len(places)
    info = run_info("links", world_size=num_hosts * per_host, run_id=folder.name)
    ranks = tuple(replace(own, hostname=f"host{own.rank // per_host}") for own in info.ranks)
    create_run(folder, replace(info, ranks=ranks, num_nodes=num_hosts))
    with RecordWriter(folder / "pairs.jsonl") as writer:
        for place, pairs in enumerate(places):
            for number, pair in enumerate(pairs):
                sender, receiver = (int(end.removeprefix("host")) * per_host + place for end in (pair.sender, pair.receiver))
                for size, seconds in ((8, 1e-5 * (1 + number)), (MIB, MIB / pair.rounds_bytes_per_s[0])):
                    writer.append(measured(number, sender, receiver, size, seconds))
    return {verdict.name: verdict for verdict in hosts(load_evidence(load_run(folder)))}


def test_the_slow_host_is_named_with_its_share_and_what_to_do(tmp_path: Path) -> None:
    found = verdicts(tmp_path / "r", made_pairs(8, sends={3: 0.62}))
    assert list(found) == ["hosts"]
    verdict = found["hosts"]
    assert (verdict.ok, verdict.unit, verdict.limit) == (False, "1", 0.95)
    assert verdict.measured == pytest.approx(0.62)
    assert verdict.message.startswith("host3 sends at 0.62 (0.62 to 0.62) of the others' rate: look at what else it sends")
    assert verdict.message.endswith("the others reach 0.1 GB/s; start the job without it to see what that costs")
    assert uses_of(load_run(tmp_path / "r")) == "report, plots, check"


def test_two_hosts_are_named_the_slowest_first_and_both_ways_together(tmp_path: Path) -> None:
    slow = {1: 0.8, 6: 0.5}
    message = verdicts(tmp_path / "r", made_pairs(8, sends=slow, receives={6: 0.5}))["hosts"].message
    assert (
        "host6 sends at 0.50 (0.50 to 0.50) and receives at 0.50 (0.50 to 0.50) of the others' rate: look at its card"
        in message
    )
    assert message.index("host6") < message.index("host1 sends at 0.80")


def test_healthy_hosts_pass_with_what_would_have_been_seen(tmp_path: Path) -> None:
    verdict = verdicts(tmp_path / "r", made_pairs(8, noise=0.02, seed=4))["hosts"]
    assert verdict.ok is True
    assert "none of 8 is slow: one that sends or receives 6% below the others would have been named" in verdict.message


def test_a_slow_route_is_a_note_and_accuses_no_host(tmp_path: Path) -> None:
    found = verdicts(tmp_path / "r", made_pairs(8, routes={(0, 1): 0.5, (1, 0): 0.5}))
    assert found["hosts"].ok is True
    assert found["routes"].note
    assert "host0 to host1 at 0.50, host1 to host0 at 0.50 of the rate that either has with others" in found["routes"].message


def test_two_hosts_cannot_tell_which_is_slow(tmp_path: Path) -> None:
    verdict = verdicts(tmp_path / "r", made_pairs(2, sends={0: 0.5}), num_hosts=2)["hosts"]
    assert verdict.ok is None
    assert verdict.message == "cannot be told, because 2 hosts: which of a pair is the slow one takes a third"


def test_a_host_that_no_pair_was_measured_of_is_named(tmp_path: Path) -> None:
    """As in a run that was interrupted."""
    pairs = [pair for pair in made_pairs(8) if "host5" not in (pair.sender, pair.receiver)]
    verdict = verdicts(tmp_path / "r", pairs)["hosts"]
    assert (verdict.ok, verdict.message) == (None, "cannot be told, because host5 has fewer than two partners each way")


def test_fast_hosts_among_many_slow_ones_are_pointed_at(tmp_path: Path) -> None:
    slow = dict.fromkeys(range(5), 0.5)
    note = verdicts(tmp_path / "r", made_pairs(8, sends=slow, receives=slow))["fast pairs"]
    assert "host5, host6, host7 are faster than the rest" in note.message


def test_each_card_of_hosts_with_several_is_held_against_its_like(tmp_path: Path) -> None:
    """The second rank of each host has a line of half the rate, on all hosts: no fault. On host2 it is slower still."""
    second = [replace(pair, rounds_bytes_per_s=(pair.rounds_bytes_per_s[0] / 2,)) for pair in made_pairs(8, sends={2: 0.7})]
    message = verdicts(tmp_path / "r", made_pairs(8), second)["hosts"].message
    assert message.startswith("host2 (rank 5) sends at 0.70")
    assert "host2 (rank 4)" not in message


def test_a_run_inside_one_host_says_nothing_of_hosts(tmp_path: Path) -> None:
    create_run(tmp_path / "r", run_info("links"))
    assert list(hosts(load_evidence(load_run(tmp_path / "r")))) == []
