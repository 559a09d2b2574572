"""Is this machine normal? GPUs that fell off the bus, links below what they can do, clocks held down, a slow wire.

Evidence is what each host stated (environment.json) and what was sampled while the run went on (telemetry.jsonl).
"""

import re
from collections.abc import Iterator, Sequence
from statistics import median

from commprof.analysis.health.evidence import Evidence, some, unchecked
from commprof.analysis.health.links.gpu_links import name_of, pcie, peers, plain
from commprof.analysis.health.links.interfaces import wire
from commprof.analysis.health.results import Verdict
from commprof.commbench.machine.facts import GpuInfo, HostInfo
from commprof.commbench.records.links import LinkMeasurement
from commprof.commbench.units import format_rate

_GPU_NAME = re.compile(r"gpu\d+")  # in HostInfo.absent: the card as a whole, not one of its fields
_FORBIDDEN = "Insufficient Permissions"  # NVML's words
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
    lost = list(_lost(evidence.hosts))
    if not gpus:
        return lost or [unchecked("gpus", "environment.json names no GPU, though the run used NCCL")]
    return [*lost, *_instances(gpus), *pcie(evidence), *_nvlink(gpus), *peers(evidence), *_throttling(evidence)]


def _lost(hosts: Sequence[HostInfo]) -> Iterator[Verdict]:
    """Fail a GPU that NVML counts and cannot open, whether ranks were to use it or not; note one that is kept from us."""
    unopened = {
        f"{host.hostname} {name}": reason
        for host in hosts
        for name, reason in sorted(host.absent.items())
        if _GPU_NAME.fullmatch(name)
    }
    if not unopened:
        return
    failed = [f"{name} ({reason})" for name, reason in unopened.items() if _FORBIDDEN not in reason]
    kept = [f"{name} ({reason})" for name, reason in unopened.items() if _FORBIDDEN in reason]
    parts = [f"the driver lost {some(failed)}; reset the card or restart the host"] if failed else []
    parts += [f"not open to this user: {some(kept)}"] if kept else []
    yield Verdict(name="gpus", ok=not failed, note=not failed, message="; ".join(parts))


def _instances(gpus: Sequence[tuple[HostInfo, GpuInfo]]) -> Iterator[Verdict]:
    """Note cards cut into instances, of which no rank has the whole."""
    cut = [name_of(host, gpu) for host, gpu in gpus if gpu.mig]
    if cut:
        message = f"{some(cut)}: a rank has one instance; ceilings, memory and clocks are the whole card's"
        yield Verdict(name="mig", ok=True, note=True, message=message)


def _nvlink(gpus: Sequence[tuple[HostInfo, GpuInfo]]) -> Iterator[Verdict]:
    """Fail a GPU with fewer links up than its equals; links that are down on all of them may never have been wired."""
    if not any(gpu.nvlinks for _, gpu in gpus):
        return
    up = {name_of(host, gpu): sum(link.active for link in gpu.nvlinks) for host, gpu in gpus}
    most = {gpu.name: max(up[name_of(h, g)] for h, g in gpus if g.name == gpu.name) for _, gpu in gpus}
    behind = [
        f"{name_of(host, gpu)} has {up[name_of(host, gpu)]} of {most[gpu.name]} up (down: link {_down(gpu)})"
        for host, gpu in gpus
        if up[name_of(host, gpu)] < most[gpu.name]
    ]
    unwired = [f"{name_of(host, gpu)} {up[name_of(host, gpu)]} of {len(gpu.nvlinks)}" for host, gpu in gpus if _down(gpu)]
    if behind:
        message = f"fewer links than equal GPUs: {some(behind)}"
    elif unwired:
        message = f"as many up as on every equal GPU, not all that the cards have: {some(unwired)}"
    else:
        message = f"every link of {len(up)} GPUs is up"
    yield Verdict(name="nvlink", ok=not behind, note=not behind and bool(unwired), message=message)


def _down(gpu: GpuInfo) -> str:
    return ", ".join(str(link.link) for link in gpu.nvlinks if not link.active)


def _throttling(evidence: Evidence) -> Iterator[Verdict]:
    """Fail heat, brakes and hardware slowdown whenever they were seen; a power cap in force is normal under load."""
    seen, moments = _reasons(evidence)
    if not moments:
        yield unchecked("throttling", "no throttle reasons in environment.json or telemetry.jsonl")
        return
    failing = [text for reason, text in seen.items() if any(word in plain(reason) for word in _FAILING_REASONS)]
    noted = [text for reason, text in seen.items() if any(word in plain(reason) for word in _NOTED_REASONS)]
    message = f"clocks held down by {some(failing or noted)}" if failing or noted else f"none in {moments} samples"
    message += "; see to cooling and power" if failing else ""
    yield Verdict(name="throttling", ok=not failing, note=bool(noted) and not failing, message=message)


def _reasons(evidence: Evidence) -> tuple[dict[str, str], int]:
    """Return where and how often each reason was first seen, and how many samples of a GPU stated reasons at all."""
    stated = [
        (name_of(host, gpu), gpu.throttle_reasons)
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
