"""What was written: the page, and the six lines at its top for whoever waits for them."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A page on disk; `ledger` says what it used and what it left out."""

    page: Path
    lines: tuple[str, ...]
    ledger: str = ""
