"""What links took: copies and messages between two ends, and messages between hosts while others sent theirs."""

from dataclasses import dataclass
from statistics import median
from typing import Literal

from commprof.commbench.records.quantities import BytesAboveZero, Count, Rank, Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkMeasurement:
    """One copy or message between two ends at one size. Ends are named "host", "gpu0", "rank3".

    `pinned` and `peer_access` are None where they mean nothing. `connection` is what NVML says lies between two GPUs.
    """

    kind: Literal["host_to_device", "device_to_host", "device_to_device", "peer_to_peer", "send_recv"]
    source: str
    target: str
    message_bytes: BytesAboveZero
    samples_s: Samples
    timer: str
    pinned: bool | None = None
    peer_access: bool | None = None
    connection: str | None = None

    @property
    def median_s(self) -> float:
        return median(self.samples_s)

    @property
    def bandwidth_bytes_per_s(self) -> float:
        return self.message_bytes / self.median_s


@dataclass(frozen=True, slots=True, kw_only=True)
class PairMeasurement:
    """A message one way between ranks on two hosts, at one size, while the other pairs of its `round` sent theirs.

    A sample is the sender's: from its send until the receiver's answer of one byte has come. A pair is measured in several
    rounds, at different times.
    """

    round: Count
    sender: Rank
    receiver: Rank
    message_bytes: BytesAboveZero
    samples_s: Samples
    timer: str

    def __post_init__(self) -> None:
        """Raise ValueError for a rank that sends to itself."""
        if self.sender == self.receiver:
            raise ValueError(f"`sender` and `receiver` are both {self.sender}; a pair is two ranks")

    @property
    def median_s(self) -> float:
        return median(self.samples_s)

    @property
    def bandwidth_bytes_per_s(self) -> float:
        return self.message_bytes / self.median_s
