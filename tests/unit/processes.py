"""Refuses what starts a process while a test runs that does not say it starts one."""

import multiprocessing.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_STARTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "os.exec"})
_ALLOWED = ("fc-list",)  # matplotlib asks for the system's fonts once on a machine
_refusing = False


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    if _refusing and event in _STARTS and args[:1] != _ALLOWED:
        pytest.fail(f"{event} {args[0] if args else ''}: this test starts a process; mark it `processes`")


def _refuse_workers(path: str, *_: object) -> int:
    pytest.fail(f"multiprocessing starts {path}: this test starts a process; mark it `processes`")


sys.addaudithook(_refuse)  # it stays for good


@contextmanager
def no_process() -> Iterator[None]:
    """Fail the test whose code starts a process inside."""
    global _refusing  # noqa: PLW0603  an audit hook can be neither removed nor given anything
    spawn = multiprocessing.util.spawnv_passfds  # what multiprocessing starts with, without an event
    multiprocessing.util.spawnv_passfds = _refuse_workers  # type: ignore[attr-defined]
    _refusing = True
    try:
        yield
    finally:
        _refusing = False
        multiprocessing.util.spawnv_passfds = spawn  # type: ignore[attr-defined]
