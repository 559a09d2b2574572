from pathlib import Path

import pytest

from commprof.commbench.machine.network import read_counters, read_interfaces


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")


def net(sys: Path, name: str, *, hardware: int = 1, real: bool = True, speed: str = "25000", state: str = "up") -> None:
    card = sys / "class/net" / name
    write(card, type=str(hardware), speed=speed, operstate=state, flags="0x1003", mtu="9000")
    write(card / "statistics", tx_bytes="10", rx_bytes="20")
    if real:
        (card / "device").mkdir()


def rdma(sys: Path, name: str, layer: str = "InfiniBand", rate: str = "400 Gb/sec (4X NDR)", state: str = "4: ACTIVE") -> None:
    port = sys / "class/infiniband" / name / "ports/1"
    write(port, link_layer=layer, rate=rate, state=state)
    write(port / "counters", port_xmit_data="100", port_rcv_data="50")


def test_every_kind_of_interface_says_its_speed_or_why_not(tmp_path: Path) -> None:
    net(tmp_path, "eth0")
    net(tmp_path, "eth1", speed="-1", state="down")
    net(tmp_path, "ib0", hardware=32, speed="100000")
    net(tmp_path, "lo", hardware=772, real=False, speed="", state="unknown")
    net(tmp_path, "veth0", real=False, speed="10000")
    rdma(tmp_path, "mlx5_0")
    rdma(tmp_path, "mlx5_1", layer="Ethernet", rate="what", state="1: DOWN")
    found, absent = read_interfaces(tmp_path)
    shown = {card.name: (card.kind, card.up, card.speed_bits_per_s) for card in found}
    assert shown == {
        "eth0": ("ethernet", True, 25e9),
        "eth1": ("ethernet", False, None),
        "ib0": ("infiniband", True, 100e9),
        "lo": ("loopback", True, None),
        "veth0": ("virtual", True, None),
        "mlx5_0:1": ("infiniband", True, 400e9),
        "mlx5_1:1": ("ethernet", False, None),
    }
    assert absent.keys() == {f"{name}.speed_bits_per_s" for name, (_, _, speed) in shown.items() if speed is None}


@pytest.mark.parametrize("folder", ["class/net", "elsewhere"])
def test_a_host_without_interfaces_says_so(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    found, absent = read_interfaces(tmp_path)
    assert found == ()
    assert "interfaces" in absent


def test_counters_are_bytes_and_rdma_has_its_own(tmp_path: Path) -> None:
    net(tmp_path, "eth0")
    net(tmp_path, "gone")
    (tmp_path / "class/net/gone/statistics/rx_bytes").unlink()
    rdma(tmp_path, "mlx5_0")
    assert {(c.name, c.tx_bytes, c.rx_bytes) for c in read_counters(tmp_path)} == {("eth0", 10, 20), ("mlx5_0:1", 400, 200)}
