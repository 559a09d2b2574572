"""Is this machine normal? Links below what they can do, peers that cannot reach each other, clocks held down, a slow wire.

Evidence is what each host stated (environment.json) and what was sampled while the run went on (telemetry.jsonl). GPUs
lower their PCIe generation while they rest, so that a low generation accuses nobody unless the clocks show work; lanes
are never given up to save power.
"""

from collections.abc import Iterator, Sequence
from statistics import median

from commprof.analysis.health.evidence import Evidence, some, unchecked
from commprof.analysis.health.interfaces import wire
from commprof.analysis.health.results import Verdict
from commprof.commbench.machine.facts import GpuInfo, HostInfo, PcieLink
from commprof.commbench.records.types import LinkMeasurement
from commprof.commbench.units import format_rate

_LOADED_CLOCK = 0.8  # of the highest SM clock: resting GPUs are at a fifth of it or below
_FAILING_REASONS = ("thermal", "brake", "hwslowdown", "hardwareslowdown")
_NOTED_REASONS = ("powercap",)
_SLOW_PAIR = 0.5  # of the median pair; four pairs or more, so that the median means something
_MIN_PAIRS = 4


def machine_health(evidence: Evidence) -> list[Verdict]:
    """Return the verdicts on pairs, GPUs (where ranks ran on them) and the network (where there are several hosts)."""
    return [*_slow_pairs(evidence), *([] if evidence.run.info.on_cpu else _gpu_health(evidence)), *wire(evidence)]


def _gpu_health(evidence: Evidence) -> list[Verdict]:
    if evidence.hosts is None:
        why = "the run has no environment.json"
        return [*(unchecked(name, why) for name in ("pcie", "nvlink", "peer access")), *_throttling(evidence)]
    gpus = [(host, gpu) for host in evidence.hosts for gpu in evidence.gpus(host)]
    if not gpus:
        return [unchecked("gpus", "environment.json names no GPU, though the run used NCCL")]
    return [*_pcie(gpus), *_nvlink(gpus), *_peers(evidence), *_throttling(evidence)]


def _pcie(gpus: Sequence[tuple[HostInfo, GpuInfo]]) -> Iterator[Verdict]:
    """Fail links that lack lanes, or are slow while the GPU works; note slow ones at rest."""
    known = [(_name(host, gpu), gpu, gpu.pcie) for host, gpu in gpus if gpu.pcie is not None]
    stated = [(name, gpu, link) for name, gpu, link in known if None not in (link.width, link.max_width)]
    if not stated:
        yield unchecked("pcie", "NVML states no link width")
        return
    narrow = [
        f"{name} {link.width} of {link.max_width} lanes" for name, _, link in stated if _below(link.width, link.max_width)
    ]
    slow = [(f"{name} {_generations(link)}", gpu) for name, gpu, link in stated if _below(link.generation, link.max_generation)]
    at_work = [text for text, gpu in slow if _working(gpu)]
    at_rest = [text for text, gpu in slow if not _working(gpu)]
    parts = [f"narrow: {some(narrow)}; reseat the card or try another slot"] if narrow else []
    parts += [f"slow while the clocks were up: {some(at_work)}"] if at_work else []
    parts += [f"below the highest generation at rest, as GPUs do to save power: {some(at_rest)}"] if at_rest else []
    yield Verdict(
        name="pcie",
        ok=not (narrow or at_work),
        note=bool(at_rest) and not (narrow or at_work),
        message="; ".join(parts) or f"{len(stated)} links at full width and generation",
    )


def _generations(link: PcieLink) -> str:
    return f"generation {link.generation} of {link.max_generation}"


def _below(now: int | None, most: int | None) -> bool:
    return now is not None and most is not None and now < most


def _working(gpu: GpuInfo) -> bool:
    resting = any("idle" in _plain(reason) for reason in gpu.throttle_reasons or ())
    if gpu.sm_clock_hz is None or not gpu.max_sm_clock_hz:
        return False
    return not resting and gpu.sm_clock_hz >= _LOADED_CLOCK * gpu.max_sm_clock_hz


def _nvlink(gpus: Sequence[tuple[HostInfo, GpuInfo]]) -> Iterator[Verdict]:
    """Fail a GPU with fewer links up than its equals; links that are down on all of them may never have been wired."""
    if not any(gpu.nvlinks for _, gpu in gpus):
        return
    up = {_name(host, gpu): sum(link.active for link in gpu.nvlinks) for host, gpu in gpus}
    most = {gpu.name: max(up[_name(h, g)] for h, g in gpus if g.name == gpu.name) for _, gpu in gpus}
    behind = [
        f"{_name(host, gpu)} has {up[_name(host, gpu)]} of {most[gpu.name]} up (down: link {_down(gpu)})"
        for host, gpu in gpus
        if up[_name(host, gpu)] < most[gpu.name]
    ]
    unwired = [f"{_name(host, gpu)} {up[_name(host, gpu)]} of {len(gpu.nvlinks)}" for host, gpu in gpus if _down(gpu)]
    if behind:
        message = f"fewer links than equal GPUs: {some(behind)}"
    elif unwired:
        message = f"as many up as on every equal GPU, not all that the cards have: {some(unwired)}"
    else:
        message = f"every link of {len(up)} GPUs is up"
    yield Verdict(name="nvlink", ok=not behind, note=not behind and bool(unwired), message=message)


def _down(gpu: GpuInfo) -> str:
    return ", ".join(str(link.link) for link in gpu.nvlinks if not link.active)


def _peers(evidence: Evidence) -> Iterator[Verdict]:
    """Fail pairs behind NVLink or one PCIe switch that cannot reach each other; note those that have to cross the host."""
    near, far, reachable = [], [], 0
    for host in evidence.hosts or ():
        for one, other, access in _gpu_pairs(evidence, host):
            connection = _connection(host, one, other)
            if access:
                reachable += 1
            elif connection.startswith(("NV", "PSB", "PIX", "PXB")):
                near.append(f"{host.hostname} GPU {one}-{other} ({connection})")
            else:
                far.append(f"{host.hostname} GPU {one}-{other} ({connection})")
    if not (near or far or reachable):
        return
    disabled = evidence.run.info.environ.get("NCCL_P2P_DISABLE") == "1"
    parts = [f"GPUs with a direct path cannot reach each other's memory: {some(near)}"] if near else []
    parts += [f"no peer access across the host: {some(far)}; messages go through host memory"] if far else []
    parts += [f"{reachable} pairs could, but NCCL_P2P_DISABLE=1 forbids it"] if disabled and reachable else []
    noted = bool(far or (disabled and reachable))
    message = "; ".join(parts) or f"all {reachable} pairs of GPUs reach each other's memory"
    yield Verdict(name="peer access", ok=not near, note=noted and not near, message=message)


def _gpu_pairs(evidence: Evidence, host: HostInfo) -> Iterator[tuple[int, int, bool]]:
    """Yield each pair of used GPUs of which at least one direction is stated, and whether both have access."""
    used = evidence.gpus(host)
    for i, one in enumerate(used):
        for other in used[i + 1 :]:
            ways = [_access(one, other), _access(other, one)]
            if known := [way for way in ways if way is not None]:
                yield one.index, other.index, all(known)


def _access(gpu: GpuInfo, other: GpuInfo) -> bool | None:
    return gpu.peer_access[other.index] if 0 <= other.index < len(gpu.peer_access) else None


def _connection(host: HostInfo, one: int, other: int) -> str:
    inside = 0 <= one < len(host.topology) and 0 <= other < len(host.topology[one])
    return host.topology[one][other] if inside else "connection unknown"


def _throttling(evidence: Evidence) -> Iterator[Verdict]:
    """Fail heat, brakes and hardware slowdown whenever they were seen; a power cap in force is normal under load."""
    seen, moments = _reasons(evidence)
    if not moments:
        yield unchecked("throttling", "no throttle reasons in environment.json or telemetry.jsonl")
        return
    failing = [text for reason, text in seen.items() if any(word in _plain(reason) for word in _FAILING_REASONS)]
    noted = [text for reason, text in seen.items() if any(word in _plain(reason) for word in _NOTED_REASONS)]
    message = f"clocks held down by {some(failing or noted)}" if failing or noted else f"none in {moments} samples"
    message += "; see to cooling and power" if failing else ""
    yield Verdict(name="throttling", ok=not failing, note=bool(noted) and not failing, message=message)


def _reasons(evidence: Evidence) -> tuple[dict[str, str], int]:
    """Return where and how often each reason was first seen, and how many samples of a GPU stated reasons at all."""
    stated = [
        (_name(host, gpu), gpu.throttle_reasons)
        for host in evidence.hosts or ()
        for gpu in evidence.gpus(host)
        if gpu.throttle_reasons is not None
    ]
    for sample in evidence.telemetry or ():
        gpus = ((f"{sample.hostname} GPU {gpu.index}", gpu.throttle_reasons) for gpu in sample.gpus)
        stated += [(name, reasons) for name, reasons in gpus if reasons is not None]
    places: dict[str, list[str]] = {}
    for name, reasons in stated:
        for reason in reasons:
            places.setdefault(reason, []).append(name)
    return {
        reason: f"{reason} in {len(names)} of {len(stated)} samples ({some(sorted(set(names)))})"
        for reason, names in places.items()
    }, len(stated)


def _slow_pairs(evidence: Evidence) -> Iterator[Verdict]:
    """Note pairs far below the median pair of their kind and size: another path, or a bad one."""
    kinds: dict[tuple[str, int, bool | None], list[LinkMeasurement]] = {}
    for link in evidence.links:
        kinds.setdefault((link.kind, link.message_bytes, link.pinned), []).append(link)
    largest = {kind: max(size for other, size, _ in kinds if other == kind) for kind, _, _ in kinds}
    judged = [links for (kind, size, _), links in kinds.items() if size == largest[kind] and len(links) >= _MIN_PAIRS]
    if not judged:
        return
    shares = [
        (link.bandwidth_bytes_per_s / median(other.bandwidth_bytes_per_s for other in links), link)
        for links in judged
        for link in links
    ]
    slow = [
        f"{link.source} to {link.target} {format_rate(link.bandwidth_bytes_per_s)}, {share:.0%} of the median"
        + (f" ({link.connection})" if link.connection else "")
        for share, link in sorted(shares, key=lambda found: found[0])
        if share < _SLOW_PAIR
    ]
    worst = min(share for share, _ in shares)
    message = some(slow) or f"the slowest of {len(shares)} pairs has {worst:.0%} of the median pair's bandwidth"
    yield Verdict(name="pairs", ok=True, note=bool(slow), measured=worst, limit=_SLOW_PAIR, unit="1", message=message)


def _plain(reason: str) -> str:
    return "".join(letter for letter in reason.lower() if letter.isalnum())


def _name(host: HostInfo, gpu: GpuInfo) -> str:
    return f"{host.hostname} GPU {gpu.index}"
