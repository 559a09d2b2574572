"""A test that says nothing of processes starts none, so that `make test-quick` keeps its word."""

import multiprocessing
import os
import pty
import subprocess
from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    "start",
    [
        lambda: subprocess.run(["true"]),
        lambda: os.system("true"),
        lambda: os.fork() or os._exit(0),
        lambda: pty.fork()[0] or os._exit(0),
        multiprocessing.get_context("spawn").Process(target=print).start,
        multiprocessing.get_context("fork").Process(target=print).start,
    ],
    ids=["subprocess", "system", "fork", "terminal", "spawn", "pool"],
)
def test_a_process_fails_a_test_without_the_mark(start: Callable[[], object]) -> None:
    with pytest.raises(pytest.fail.Exception, match="mark it `processes`"):
        start()
