"""`commprof env`: what would be recorded about this machine, in words or as one HostInfo document.

What the machine does not state is said together with the reason. Nothing is guessed, and no variable beyond the
allow-list of hardware.py is read. It needs no torch and answers in a fraction of a second.
"""

import argparse
import sys

from commprof.commbench.display.terminal import show
from commprof.commbench.verb import Verb


def add_env_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document (HostInfo)")


def env(args: argparse.Namespace) -> int:
    """Print this host's facts."""
    from commprof.commbench.machine.hardware import host_info

    host = host_info()
    if args.json:
        import msgspec

        sys.stdout.write(msgspec.json.format(msgspec.json.encode(host), indent=1).decode() + "\n")
    else:
        from commprof.commbench.machine.text import describe

        show(describe(host))
    return 0


VERB = Verb(
    summary="what would be recorded about this machine: GPUs, links, network, versions, variables",
    examples=("commprof env", "commprof env --json > machine.json", "srun --ntasks-per-node 1 commprof env --json"),
    add_arguments=add_env_arguments,
    check=lambda args: None,
    run=env,
)
