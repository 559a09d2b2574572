"""`commprof completion bash|zsh`: a script that completes verbs, flags, choices and paths in that shell.

shtab writes it from the parsers that also answer `--help`, so the two cannot differ. The script is complete in itself: a
shell that has read it starts no Python to complete a word.
"""

import argparse
import sys
from pathlib import Path

from commprof.commbench.verb import RunName, Verb


def add_completion_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh"), help="the shell that is to read the script")


def completion(args: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    sys.stdout.write(shtab.complete(whole_parser(), args.shell) + "\n")
    return 0


def whole_parser() -> argparse.ArgumentParser:
    """Return one parser of all verbs, every path marked as one."""
    import shtab

    from commprof.cli import VERBS, verb_named

    parser = argparse.ArgumentParser(prog="commprof")
    parser.add_argument("--version", action="store_true", help="print the version")
    verbs = parser.add_subparsers(metavar="VERB")
    for name, (_, summary) in VERBS.items():
        verb = verb_named(name)
        own = verbs.add_parser(name, help=summary)
        verb.add_arguments(own)
        for action in own._actions:
            if action.type is Path or isinstance(action.type, RunName):
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab looks there
    return parser


VERB = Verb(
    summary="print the script with which bash or zsh completes verbs, flags, choices and paths",
    examples=(
        'eval "$(commprof completion bash)"  # in ~/.bashrc',
        "commprof completion zsh > ~/.zfunc/_commprof  # in a folder of zsh's fpath",
    ),
    add_arguments=add_completion_arguments,
    check=lambda args: None,
    run=completion,
)
