"""What the door needs to know of a verb, and the arguments that verbs share."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from commbench.errors import BadInput


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


def add_launch_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what every measuring verb takes: the number of ranks to start, and where its run folder goes."""
    parser.add_argument("--nproc", type=int, metavar="N", help="start N ranks on this machine with torchrun")
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="where run folders go (runs)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="the run folder itself; it must not exist yet")


def check_launch_arguments(args: argparse.Namespace) -> None:
    """Raise BadInput for a rank count below one or a run folder that is taken."""
    if args.nproc is not None and args.nproc < 1:
        raise BadInput(f"--nproc {args.nproc} starts nothing; give the number of ranks, 1 or more")
    if args.folder is not None and args.folder.exists() and args.nproc is not None:
        raise BadInput(f"--folder {args.folder} already exists; a run never overwrites another, choose a new folder")
