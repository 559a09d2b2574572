"""Commands that are forked off one process, held at a phase, and let go."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

DEADLINE_S = 120.0  # for what takes a second: a busy machine is no failure
_OPENED: list[int] = []


@pytest.fixture(autouse=True)
def _files_closed() -> Iterator[None]:
    yield
    while _OPENED:
        os.close(_OPENED.pop())


def wait_until(what: str, happened: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not happened():
        assert time.monotonic() < deadline_s, f"waited {DEADLINE_S:g} s for {what}"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def come_to_hold(launcher: int, folder: Path) -> list[int]:
    """Return the ranks' processes once both hold at their phase."""
    held = [folder / f"held.{rank}" for rank in (0, 1)]
    wait_until("the ranks to come to their phase", lambda: all(map(Path.exists, held)) or not alive(launcher))
    assert alive(launcher), (folder / "err").read_text()
    return [int(path.read_text()) for path in held]


def let_go(folder: Path) -> None:
    """Let every rank that holds go on; its file stays open, since a rank that a signal interrupts opens it once more.

    For writing alone it could not be opened where the rank is dead.
    """
    _OPENED.extend(os.open(folder / f"go.{rank}", os.O_RDWR) for rank in (0, 1))
