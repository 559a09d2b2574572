"""What of each of DDP's buckets is hidden behind the rest of backward, and what makes the step longer?

    backward begins    ready         launch     start              all there        end
          |--------------|-------------|----------|-----waiting-------|---transfer----|

Seconds count from the beginning of backward on the same rank. A transfer is hidden while its rank computes, exposed while it
does not; hidden share + exposed share = 1. Buckets in flight at once are judged one by one, so their exposed times may add up
to more than the step's. With one rank's trace waiting is 0, and transfer holds both.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from commprof.analysis.traces.all_ranks.matched.groups import NO_GROUP, group_kind
from commprof.analysis.traces.one_rank.bucket_launches import BucketLaunch
from commprof.analysis.traces.one_rank.rank_trace import RankTrace
from commprof.analysis.traces.one_rank.spans import common, length_ns, lengths_within_ns, merged, window


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketStep:
    """One bucket in one step of one rank. `named`: the trace marks it; else ready is the launch again.

    The shares are None for a transfer that took no time, the size where the trace does not tell it.
    """

    rank: int
    step: int
    bucket: int
    message_bytes: int | None
    named: bool
    ready_s: float
    launch_s: float
    start_s: float
    end_s: float
    waiting_s: float
    transfer_s: float
    hidden_share: float | None
    exposed_share: float | None
    group: str = NO_GROUP


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketSummary:
    """One bucket of one size: medians over steps of the mean over ranks, as of a step's parts; `count` ranks and steps in all.

    The shares are the hidden and the exposed time over the transfer.
    """

    bucket: int
    message_bytes: int | None
    count: int
    named: bool
    ready_s: float
    launch_s: float
    start_s: float
    end_s: float
    waiting_s: float
    transfer_s: float
    hidden_share: float | None
    exposed_share: float | None
    group: str = NO_GROUP


_MEDIANS = ("ready_s", "launch_s", "start_s", "end_s", "waiting_s", "transfer_s")


def rank_buckets(rank: int, trace: RankTrace, ready_ns: Mapping[int, int], world_size: int | None = None) -> list[BucketStep]:
    """Return the buckets of each step of a rank of so many.

    `ready_ns` says by position in `trace.collectives` when, on this rank's clock, the last rank had arrived; what is missing
    there counts as transfer from its start.
    """
    arrived = [
        min(max(ready_ns.get(position, part.start_ns), part.start_ns), part.end_ns)
        for position, part in enumerate(trace.collectives)
    ]
    ends = np.array([part.end_ns for part in trace.collectives], dtype=np.int64)
    hidden = lengths_within_ns(trace.compute, np.array(arrived, dtype=np.int64), ends).tolist()
    return [_bucket(rank, trace, own, arrived, hidden, world_size) for own in trace.buckets]


def _bucket(
    rank: int,
    trace: RankTrace,
    own: BucketLaunch,
    arrived_ns: Sequence[int],
    alone_hidden_ns: Sequence[int],
    world_size: int | None,
) -> BucketStep:
    """Judge one bucket; when all ranks had arrived and what is hidden since are known of each collective by itself."""
    parts = [trace.collectives[position] for position in own.collectives]
    arrived = [arrived_ns[position] for position in own.collectives]
    if len(parts) == 1:
        total_ns, hidden_ns = parts[0].end_ns - arrived[0], alone_hidden_ns[own.collectives[0]]
    else:
        transfer = merged(*(window(since_ns, part.end_ns) for since_ns, part in zip(arrived, parts, strict=True)))
        total_ns, hidden_ns = length_ns(transfer), length_ns(common(transfer, trace.compute))
    sizes = [part.message_bytes for part in parts if part.message_bytes is not None]
    start_ns, end_ns = min(part.start_ns for part in parts), max(part.end_ns for part in parts)
    hidden_share = hidden_ns / total_ns if total_ns else None
    return BucketStep(
        rank=rank,
        step=own.step,
        bucket=own.index,
        message_bytes=sum(sizes) if len(sizes) == len(parts) else None,
        named=own.named,
        ready_s=(own.ready_ns - own.backward_ns) / 1e9,
        launch_s=(own.launch_ns - own.backward_ns) / 1e9,
        start_s=(start_ns - own.backward_ns) / 1e9,
        end_s=(end_ns - own.backward_ns) / 1e9,
        waiting_s=sum(since_ns - part.start_ns for since_ns, part in zip(arrived, parts, strict=True)) / 1e9,
        transfer_s=total_ns / 1e9,
        hidden_share=hidden_share,
        exposed_share=None if hidden_share is None else 1 - hidden_share,
        group=group_kind(parts[0], world_size),
    )


def summarise_buckets(steps: Iterable[BucketStep]) -> list[BucketSummary]:
    """Return the medians of each bucket; one whose size or group changes, as sizes do after DDP's first step, is several."""
    kinds: dict[tuple[int, int, str], list[BucketStep]] = defaultdict(list)
    for own in steps:
        kinds[own.bucket, -1 if own.message_bytes is None else own.message_bytes, own.group].append(own)
    return [_summary(kinds[key]) for key in sorted(kinds)]


def _summary(steps: Sequence[BucketStep]) -> BucketSummary:
    by_step: dict[int, list[BucketStep]] = defaultdict(list)
    for own in steps:
        by_step[own.step].append(own)
    most = max(map(len, by_step.values()))
    together = [own for own in by_step.values() if len(own) == most]
    times = {name: median(fmean(getattr(own, name) for own in ranks) for ranks in together) for name in _MEDIANS}
    hidden_s = median(fmean(own.transfer_s * (own.hidden_share or 0.0) for own in ranks) for ranks in together)
    hidden_share = min(1.0, hidden_s / times["transfer_s"]) if times["transfer_s"] else None
    return BucketSummary(
        bucket=steps[0].bucket,
        message_bytes=steps[0].message_bytes,
        count=len(steps),
        named=all(own.named for own in steps),
        group=steps[0].group,
        hidden_share=hidden_share,
        exposed_share=None if hidden_share is None else 1 - hidden_share,
        **times,
    )
