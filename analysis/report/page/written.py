"""What was written: the page, and the six lines at its top for whoever waits for them."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A page on disk."""

    page: Path
    lines: tuple[str, ...]
