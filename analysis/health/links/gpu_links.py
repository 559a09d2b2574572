"""Is each GPU's PCIe link what card and slot can do, and do GPUs reach each other's memory where there is a direct path?

GPUs lower their PCIe generation while they rest, so that a low generation accuses nobody unless the clocks show work at that
moment: telemetry samples both together. Lanes are never given up to save power. Peer access that NVIDIA gives no card of
its kind, or that the platform's chipset forbids, is a property of the machine and no fault; switched off by a driver
setting, or missing between GPUs that NVLink joins, it is one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from commprof.analysis.health.evidence import Evidence, some, unchecked
from commprof.analysis.health.results import Verdict
from commprof.commbench.machine.facts import PEER_DISABLED, PEER_OK, GpuInfo, GpuSample, HostInfo

_LOADED_CLOCK = 0.8  # of the highest SM clock: resting GPUs are at a fifth of it or below
_DIRECT = ("NV", "PSB", "PIX", "PXB")

T = TypeVar("T")


def pcie(evidence: Evidence) -> Iterator[Verdict]:
    """Fail links that lack lanes, or are slow while the GPU works; note slow ones that nobody saw at work."""
    gpus = [(host, gpu) for host in evidence.hosts or () for gpu in evidence.gpus(host)]
    links = [link for host, gpu in gpus if (link := _trained(evidence, host, gpu)) is not None]
    if not links:
        yield unchecked("pcie", "NVML states no link width")
        return
    narrow = [f"{link.name} {link.width} of {link.max_width} lanes" for link in links if link.width < link.max_width]
    slow = [link for link in links if link.generation is not None and link.generation < (link.max_generation or 0)]
    at_work = [link.generations for link in slow if link.at_work]
    at_rest = [link.generations for link in slow if not link.at_work]
    parts = [f"narrow: {some(narrow)}; reseat the card or try another slot"] if narrow else []
    parts += [f"slow while the clocks were up: {some(at_work)}"] if at_work else []
    parts += [f"below the highest generation at rest, as GPUs do to save power: {some(at_rest)}"] if at_rest else []
    yield Verdict(
        name="pcie",
        ok=not (narrow or at_work),
        note=bool(at_rest) and not (narrow or at_work),
        message="; ".join(parts) or f"{len(links)} links at full width and generation",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trained:
    """One GPU's link: the best generation and the fewest lanes that were seen while it worked, else as it was at rest."""

    name: str
    generation: int | None
    max_generation: int | None
    width: int
    max_width: int
    at_work: bool

    @property
    def generations(self) -> str:
        return f"{self.name} generation {self.generation} of {self.max_generation}"


def _trained(evidence: Evidence, host: HostInfo, gpu: GpuInfo) -> _Trained | None:
    link = gpu.pcie
    if link is None or link.width is None or link.max_width is None:
        return None
    samples = [
        each
        for sample in evidence.telemetry or ()
        if sample.hostname == host.hostname
        for each in sample.gpus
        if each.index == gpu.index and _working(each, gpu.max_sm_clock_hz)
    ]
    generations = [each.pcie_generation for each in samples] + [link.generation] * _working(gpu, gpu.max_sm_clock_hz)
    known = [generation for generation in generations if generation is not None]
    widths = [each.pcie_width for each in samples if each.pcie_width is not None]
    return _Trained(
        name=name_of(host, gpu),
        generation=max(known) if known else link.generation,
        max_generation=link.max_generation,
        width=min(link.width, *widths) if widths else link.width,
        max_width=link.max_width,
        at_work=bool(known),
    )


def _working(now: GpuInfo | GpuSample, max_sm_clock_hz: float | None) -> bool:
    resting = any("idle" in plain(reason) for reason in now.throttle_reasons or ())
    if now.sm_clock_hz is None or not max_sm_clock_hz:
        return False
    return not resting and now.sm_clock_hz >= _LOADED_CLOCK * max_sm_clock_hz


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Two used GPUs of which at least one direction is stated; `reasons` is what NVML gives where access is missing."""

    name: str
    connection: str
    reached: bool
    reasons: tuple[str, ...]

    @property
    def faulty(self) -> bool:
        """Whether something is broken or switched off that this pair has; old runs give no reason, and a path is suspected."""
        if self.connection.startswith("NV"):
            return True
        return self.connection.startswith(_DIRECT) and (not self.reasons or PEER_DISABLED in self.reasons)

    @property
    def text(self) -> str:
        return f"{self.name} ({', '.join((self.connection, *self.reasons))})"


def peers(evidence: Evidence) -> Iterator[Verdict]:
    """Fail pairs that could reach each other and do not; note those that the card, the platform or the path forbids."""
    pairs = [pair for host in evidence.hosts or () for pair in _pairs(evidence, host)]
    if not pairs:
        return
    apart = [pair for pair in pairs if not pair.reached]
    broken = [pair.text for pair in apart if pair.faulty]
    without = [pair.text for pair in apart if not pair.faulty]
    reachable = len(pairs) - len(apart)
    forbidden = evidence.run.info.environ.get("NCCL_P2P_DISABLE") == "1" and reachable > 0
    parts = [f"GPUs with a direct path cannot reach each other's memory: {some(broken)}"] if broken else []
    parts += [f"no peer access: {some(without)}; messages go through host memory"] if without else []
    parts += [f"{reachable} pairs could, but NCCL_P2P_DISABLE=1 forbids it"] if forbidden else []
    noted = bool(without or forbidden) and not broken
    message = "; ".join(parts) or f"all {reachable} pairs of GPUs reach each other's memory"
    yield Verdict(name="peer access", ok=not broken, note=noted, message=message)


def _pairs(evidence: Evidence, host: HostInfo) -> Iterator[_Pair]:
    """Yield the pairs of used GPUs; what NVML says of a pair stands at their positions in the host's list, not at indices."""
    used = [(at, gpu) for at, gpu in enumerate(host.gpus) if gpu in evidence.gpus(host)]
    for number, (i, one) in enumerate(used):
        for j, other in used[number + 1 :]:
            ways = [_at(one.peer_access, j), _at(other.peer_access, i)]
            known = [way for way in ways if way is not None]
            if not known:
                continue
            stated = {
                status for status in (_at(one.peer_status, j), _at(other.peer_status, i)) if status not in (None, PEER_OK)
            }
            yield _Pair(
                name=f"{host.hostname} GPU {one.index}-{other.index}",
                connection=_at(_at(host.topology, i) or (), j) or "connection unknown",
                reached=all(known),
                reasons=tuple(sorted(map(str, stated))),
            )


def _at(row: Sequence[T], position: int) -> T | None:
    return row[position] if position < len(row) else None


def plain(reason: str) -> str:
    """Return the letters and digits of a throttle reason: NVML, nvidia-smi and we write each in another way."""
    return "".join(letter for letter in reason.lower() if letter.isalnum())


def name_of(host: HostInfo, gpu: GpuInfo) -> str:
    """Name a GPU as verdicts do."""
    return f"{host.hostname} GPU {gpu.index}"
