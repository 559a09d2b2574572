"""What the door needs to know of a verb."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One word of the command line.

    `check` raises BadInput for anything wrong with the arguments; it runs before any process starts or file appears.
    `run` does the work on this rank and returns the exit code. A verb with `--nproc` can be started on N ranks.
    """

    summary: str
    examples: tuple[str, ...]
    add_arguments: Callable[[argparse.ArgumentParser], None]
    check: Callable[[argparse.Namespace], None]
    run: Callable[[argparse.Namespace], int]
