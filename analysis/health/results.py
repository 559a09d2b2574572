"""What `commprof check` answers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One answer of `commprof check`, SI base units.

    `ok`: False fails the run, None means that it could not be judged, and `message` says why. `note`: worth reading, fails
    nothing. `measured` against `limit` in `unit`; None where the evidence is not one number.
    """

    name: str
    ok: bool | None
    message: str
    measured: float | None = None
    limit: float | None = None
    unit: str | None = None
    note: bool = False

    @property
    def rank(self) -> int:
        """Order verdicts by what they ask of a reader: 0 failed, 1 noted, 2 not judged, 3 passed."""
        if self.ok is None:
            return 2
        return 0 if not self.ok else 1 if self.note else 3
