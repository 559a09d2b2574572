"""Is this bandwidth what such a link gives? Rates worked out by hand; nothing is said where the link is not known."""

from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.health.evidence import Evidence
from commprof.analysis.health.links.bandwidth import bandwidth
from commprof.analysis.health.links.stated import parse_link
from commprof.analysis.health.results import Verdict
from commprof.analysis.runs.load import Run
from commprof.cli import main
from commprof.commbench.errors import BadInput
from commprof.commbench.records.types import RankInfo
from tests.factory import collective, run_info, write_measurements
from tests.unit.analysis.health.machines import HOST, samples

SIZE = 2**26


def of_ranks(
    world_size: int, busbw: float, *, size: int = SIZE, num_nodes: int = 1, others: float = 0.0, **info: object
) -> Evidence:
    """A bench whose all-reduce of one size has this bus bandwidth."""
    seconds = size * 2 * (world_size - 1) / world_size / busbw
    ranks = tuple(
        RankInfo(rank=r, local_rank=0, hostname=f"h{r * num_nodes // world_size}", device_name="it") for r in range(world_size)
    )
    run = Run(
        path=Path("runs/it"),
        info=run_info(world_size=world_size, **{"num_nodes": num_nodes, "ranks": ranks, **info}),  # type: ignore[arg-type]
        collectives=(collective(size, [seconds] * 10, world_size=world_size),),
        steps={},
        gradients=None,
    )
    telemetry = samples(*[(0.5, others)] * 5) if others else None
    return Evidence(run=run, hosts=(HOST,) if others else None, telemetry=telemetry, bursts=(), links=())


def judged(evidence: Evidence, wire: str | None = None) -> Verdict:
    (verdict,) = bandwidth(evidence, None if wire is None else parse_link(wire))
    return verdict


@pytest.mark.parametrize(
    ("name", "bytes_per_s", "count"),
    [
        ("nvlink3", 300e9, 1),
        ("NVLink4", 450e9, 1),
        ("nvlink5", 900e9, 1),
        ("pcie3x16", 15.76e9, 1),
        ("pcie4x8", 15.752e9, 1),
        ("hdr", 25e9, 1),
        ("8xndr", 50e9, 8),
        ("25gbe", 3.125e9, 1),
        ("100gbit", 12.5e9, 1),
        ("32x100gbit", 12.5e9, 32),
    ],
)
def test_a_link_is_known_by_its_name(name: str, bytes_per_s: float, count: int) -> None:
    link = parse_link(name)
    assert (link.bytes_per_s, link.count) == (pytest.approx(bytes_per_s), count)


@pytest.mark.parametrize(
    "name", ["", "nvlink9", "pcie4x3", "pcie9x16", "ethernet", "2xnvlink4", "0xhdr", "100", "5000gbit", "x" * 500]
)
def test_a_link_that_is_not_known_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="--wire") as refused:
        parse_link(name)
    assert len(str(refused.value)) < 250


def test_the_share_of_a_stated_line_is_told() -> None:
    """Two hosts' ring: busbw is what the line carries, 11.2 of 12.5 GB/s."""
    told = judged(of_ranks(2, 11.2e9, num_nodes=2), "100gbit")
    assert (told.ok, told.note, told.measured, told.limit) == (True, False, pytest.approx(11.2e9), 12.5e9)
    assert (
        told.message == "busbw 11.2 GB/s at 64 MiB is 90% of the 12.5 GB/s that the link carries at best (100gbit, as a ring)"
    )


def test_less_than_half_says_where_to_look() -> None:
    told = judged(of_ranks(2, 4e9, num_nodes=2), "100gbit")
    assert (told.ok, told.note) == (True, True)
    assert "is 32% of the 12.5 GB/s" in told.message
    assert "less than half; look at the interface that carried it" in told.message
    gpus = judged(of_ranks(2, 4e9, backend="nccl"), "pcie4x16")
    assert "look at the GPUs' peer access and lanes" in gpus.message


def test_eight_ports_a_host_carry_what_nodes_reduced_inside_first() -> None:
    """16 GPUs on 2 hosts: 8/15 of busbw crosses, over eight ports of 50 GB/s, so that busbw is 750 GB/s at most."""
    told = judged(of_ranks(16, 375e9, num_nodes=2, backend="nccl"), "8xndr")
    assert (told.limit, told.note) == (pytest.approx(750e9), False)
    assert " is 50% of the 750 GB/s " in told.message


def test_a_published_curve_of_as_fast_a_link_stands_beside_it() -> None:
    told = judged(of_ranks(8, 400e9, backend="nccl"), "nvlink4")
    assert "is 89% of the 450 GB/s that the link carries at best (nvlink4, as a ring)" in told.message
    assert told.message.endswith("; the published h100x8-nvlink reached 98% of as much")


def test_more_than_a_ring_gets_out_of_it_is_noted() -> None:
    told = judged(of_ranks(8, 480e9, backend="nccl"), "nvlink4")
    assert told.note
    assert "the switch adds as well (NVLS), or the link is another one" in told.message


def test_what_an_emulated_line_carries_is_read_from_its_name() -> None:
    told = judged(of_ranks(2, 110e6, num_nodes=2, wire="1gbit"))
    assert "is 88% of the 0.125 GB/s that the link carries at best (the emulated line of 1gbit, as a ring)" in told.message


@pytest.mark.parametrize(
    ("evidence", "wire", "reason"),
    [
        (of_ranks(2, 1e9), None, "share one host talk through its memory, whose speed is its cores'"),
        (of_ranks(2, 1e9), "100gbit", "100gbit lies between hosts, and these ranks share one"),
        (of_ranks(2, 1e9), "nvlink4", "nvlink4 joins GPUs of one host, and these ranks are on CPUs"),
        (of_ranks(16, 1e9, num_nodes=2, backend="nccl"), "nvlink4", "are on 2 hosts: state what lies between those"),
        (of_ranks(2, 1e9, num_nodes=2, backend="nccl"), None, "such as --wire 100gbit, hdr, pcie4x16 or nvlink4"),
        (of_ranks(2, 1e9, backend="nccl", ranks=(), imported_from="x.log"), "hdr", "the log does not say on how many"),
        (of_ranks(2, 1e9, size=2**20, num_nodes=2), "100gbit", "messages of 1 MiB at most hardly use a link; bench up to 64M"),
        (of_ranks(2, 1e9, num_nodes=2, others=0.5), "100gbit", "other processes kept 1.0 of host's 2 cores busy"),
    ],
)
def test_what_cannot_be_told_is_said(evidence: Evidence, wire: str | None, reason: str) -> None:
    told = judged(evidence, wire)
    assert told.ok is None
    assert told.message.startswith("cannot be told, because ")
    assert reason in told.message


def test_one_host_s_memory_is_no_wire_that_could_be_stated() -> None:
    told = judged(of_ranks(2, 1e9))
    assert "--wire" not in told.message


def test_nothing_is_said_of_other_collectives() -> None:
    found = of_ranks(2, 1e9)
    other = replace(found, run=replace(found.run, collectives=(collective(SIZE, [1.0], op="broadcast"),)))
    assert list(bandwidth(other)) == []


def test_the_verb_takes_the_link_and_refuses_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(write_measurements(tmp_path / "run", [collective(SIZE, [0.01] * 10)]))
    assert main(["check", run, "--wire", "tin cans"]) == 2
    assert "--wire 'tin cans' is no link known here" in capsys.readouterr().err
    main(["check", run, "--wire", "100gbit"])
    assert "bandwidth: cannot be told, because 100gbit lies between hosts" in " ".join(capsys.readouterr().out.split())
