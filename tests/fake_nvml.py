"""A stand-in for pynvml: hosts as NVML describes them, in its own units, with its error for what it does not know."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

SWITCH = "00000000:FF:00.0"
H100_LINK, A100_LINK = 6, 5  # nvmlNvlinkVersion_t: NVLink 4.0, 3.1


class NVMLError(Exception):
    pass


def bus_id(index: int) -> str:
    return f"00000000:{0x10 + index:02X}:00.0"


@dataclass(kw_only=True)
class Card:
    """One GPU.

    `links`: a version code for each NVLink, 0 for one that is down. `remote`: the bus id at their other end, or at each's.
    """

    links: Sequence[int] = ()
    remote: str | Sequence[str] = SWITCH
    generation: int = 5
    width: int = 16
    max_generation: int = 5
    max_width: int = 16
    missing: tuple[str, ...] = ()
    lost: bool = False
    peers: bool | int = True  # or nvmlGpuP2PStatus_t's code
    mig: int = 0
    compute_mode: int = 0
    link_counters: bool = False  # NVLink 5: no payload counter, one for each link's bytes
    name: str = "NVIDIA Test"
    throttle_bits: int = 0


@dataclass(kw_only=True)
class FakeNvml:
    """The functions of pynvml that commprof asks, over `cards`; `driver` False is a machine without one."""

    cards: Sequence[Card] = ()
    driver: bool = True
    opened: int = 0
    asked: list[str] = field(default_factory=list)

    NVMLError = NVMLError
    NVML_NVLINK_MAX_LINKS = 36
    NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX = 138
    NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX = 139

    def nvmlInit(self) -> None:
        if not self.driver:
            raise NVMLError("Driver Not Loaded")
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"580.159.03"

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return 13010

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if self.cards[index].lost:
            raise NVMLError("GPU is lost")
        return index

    def nvmlDeviceGetNvLinkState(self, handle: int, link: int) -> int:
        return int(self._link(handle, link) > 0)

    def nvmlDeviceGetNvLinkVersion(self, handle: int, link: int) -> int:
        return self._link(handle, link) or H100_LINK

    def nvmlDeviceGetNvLinkRemotePciInfo(self, handle: int, link: int) -> SimpleNamespace:
        remote = self.cards[handle].remote
        return SimpleNamespace(busId=remote if isinstance(remote, str) else remote[link])

    def nvmlDeviceGetP2PStatus(self, handle: int, peer: int, index: int) -> int:
        assert index in (0, 2)  # pynvml's own constant for 0 is a tuple, which its C call refuses
        card, other = self.cards[handle], self.cards[peer]
        joined = any(card.links) and any(other.links) and SWITCH == card.remote == other.remote
        if index == 0 and card.peers is not True and card.peers is not False:
            return card.peers
        return 0 if (joined if index == 2 else card.peers) else 5

    def nvmlDeviceGetTopologyCommonAncestor(self, handle: int, peer: int) -> int:
        return 20 if handle // 2 == peer // 2 else 50

    def nvmlDeviceGetFieldValues(self, handle: int, fields: Sequence[tuple[int, int]]) -> list[SimpleNamespace]:
        card = self.cards[handle]

        def answer(number: int, scope: int) -> SimpleNamespace:
            payload = number in (138, 139)
            assert (scope == 0xFFFFFFFF) is payload  # the sum over links exists for payload only
            known = any(card.links) and payload != card.link_counters and (payload or scope < len(card.links))
            return SimpleNamespace(nvmlReturn=0 if known else 3, value=SimpleNamespace(ullVal=number))

        return [answer(*field) for field in fields]

    def __getattr__(self, name: str) -> Callable[..., object]:
        """The questions whose answer is one value of a card."""
        answers: dict[str, Callable[[Card, int], object]] = {
            "nvmlDeviceGetName": lambda card, handle: card.name.encode(),
            "nvmlDeviceGetPciInfo": lambda card, handle: SimpleNamespace(busId=bus_id(handle).encode()),
            "nvmlDeviceGetMemoryInfo": lambda card, handle: SimpleNamespace(total=80 * 2**30),
            "nvmlDeviceGetCurrPcieLinkGeneration": lambda card, handle: card.generation,
            "nvmlDeviceGetCurrPcieLinkWidth": lambda card, handle: card.width,
            "nvmlDeviceGetMaxPcieLinkGeneration": lambda card, handle: card.max_generation,
            "nvmlDeviceGetMaxPcieLinkWidth": lambda card, handle: card.max_width,
            "nvmlDeviceGetClockInfo": lambda card, handle: 1410,
            "nvmlDeviceGetMaxClockInfo": lambda card, handle: 1980,
            "nvmlDeviceGetEnforcedPowerLimit": lambda card, handle: 350_000,
            "nvmlDeviceGetPowerManagementLimitConstraints": lambda card, handle: [100_000, 700_000],
            "nvmlDeviceGetCurrentClocksEventReasons": lambda card, handle: card.throttle_bits,
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda card, handle: card.throttle_bits,
            "nvmlDeviceGetMigMode": lambda card, handle: [card.mig, card.mig],
            "nvmlDeviceGetComputeMode": lambda card, handle: card.compute_mode,
            "nvmlDeviceGetPowerUsage": lambda card, handle: 123_456,
            "nvmlDeviceGetTemperature": lambda card, handle: 41,
            "nvmlDeviceGetPcieThroughput": lambda card, handle: 2500,
        }
        if name not in answers:
            raise AttributeError(name)

        def ask(handle: int, *arguments: object) -> object:
            self.asked.append(f"{name}({handle})")
            if name in self.cards[handle].missing:
                raise NVMLError("Not Supported")
            return answers[name](self.cards[handle], handle)

        return ask

    def _link(self, handle: int, link: int) -> int:
        links = self.cards[handle].links
        if link >= len(links):
            raise NVMLError("Invalid Argument" if links else "Not Supported")
        return links[link]
