"""`commprof ls`: which runs are there, and what can be done with each?"""

import argparse
import sys
from pathlib import Path

import msgspec

from commprof.commbench.display.terminal import show
from commprof.commbench.errors import BadInput
from commprof.commbench.verb import RunName, Verb

_MOST = 40


def add_ls_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        nargs="?",
        type=RunName(),
        default=Path("runs"),
        metavar="FOLDER",
        help="where to search, four levels deep; a study, for the runs inside (runs)",
    )
    parser.add_argument("--most", type=int, default=_MOST, metavar="N", help=f"show the newest N runs ({_MOST})")
    parser.add_argument("--json", action="store_true", help="print one JSON document: a list of all, the newest first")


def check_ls(args: argparse.Namespace) -> None:
    """Raise BadInput for a folder that is none."""
    if args.most < 1:
        raise BadInput(f"--most {args.most} shows nothing; give 1 or more")
    if not args.folder.is_dir():
        mend = "commprof quickstart says where to begin" if args.folder == Path("runs") else "name one that runs lie in"
        raise BadInput(f"{args.folder} is no folder; {mend}")


def ls(args: argparse.Namespace) -> int:
    """Print the runs, the newest first."""
    from commprof.analysis.runs.found import find_runs
    from commprof.analysis.runs.listing import listed_runs, listing_sheet

    found = find_runs(args.folder)
    listed = listed_runs(found)
    if args.json:
        sys.stdout.write(msgspec.json.encode(listed).decode() + "\n")
    elif listed or found.unreadable or not found.whole:
        show(listing_sheet(listed, found, args.most))
    else:
        raise BadInput(f"no run lies below {args.folder}; commprof quickstart says where to begin")
    return 0


VERB = Verb(
    summary="list the runs below a folder, the newest first: kind, ranks, model, status, and what each can be used for",
    examples=("commprof ls", "commprof ls runs/demo", "commprof ls --json"),
    add_arguments=add_ls_arguments,
    check=check_ls,
    run=ls,
)
