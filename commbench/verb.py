"""What the door needs to know of a verb."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


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


@dataclass(frozen=True, slots=True)
class RunName:
    """The type of an argument that names a run: argparse makes a path of it, and the door puts the run's folder in its place
    where it is `latest`, `@KIND-nN` or how one run's name begins (analysis/runs/names.py).

    `ended_early`: meant are runs to go on with. `or_else`: the argument may be something else than a run, so that a word that
    begins a run's name is left as it is.
    """

    ended_early: bool = False
    or_else: bool = False

    def __call__(self, word: str) -> Path:
        return Path(word)
