"""`commprof testbed up | rate | status | exec | down`: an emulated cluster whose wire is known."""

import argparse
import os
import sys

import msgspec

from commprof.commbench.errors import BadInput
from commprof.commbench.units import format_line_rate, format_seconds
from commprof.commbench.verb import Verb
from commprof.testbed import network as testbed
from commprof.testbed.hosts import run_on_hosts
from commprof.testbed.network import MAX_HOSTS, Host
from commprof.testbed.wire import Wire, parse_wire

_ACTIONS = ("up", "rate", "status", "exec", "down")


def add_testbed_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("action", choices=_ACTIONS, help="up makes the hosts, rate changes their lines, exec runs a command on them")
    add("words", nargs="*", metavar="RATE | -- COMMAND", help="rate: the new rate; exec: the command, one rank a host")
    add("--hosts", type=int, metavar="N", help=f"up: how many to make, 2 to {MAX_HOSTS} (4); exec: use the first N (all)")
    add("--rate", default="1gbit", metavar="RATE", help="up: what each host may send, as tc writes it (1gbit)")
    add("--delay", type=float, default=0.0, metavar="MS", help="up, rate: milliseconds added to each packet (0); needs netem")
    add("--host", type=int, metavar="K", help="exec: on host K alone, as a plain command and no rank")
    add("--json", action="store_true", help="status: print one JSON document")


def check_testbed(args: argparse.Namespace) -> None:
    """Raise BadInput where this machine cannot have a testbed, or a flag or word does not fit the action."""
    testbed.check_usable()
    if args.delay < 0:
        raise BadInput(f"--delay {args.delay:g} is below 0; give milliseconds")
    if args.action == "rate" and len(args.words) != 1:
        raise BadInput("testbed rate takes one rate, for example commprof testbed rate 200mbit")
    if args.action == "exec" and not args.words:
        raise BadInput("testbed exec needs a command, for example commprof testbed exec -- commprof bench -e 16M")
    if args.action in ("up", "status", "down") and args.words:
        raise BadInput(f"testbed {args.action} takes no {args.words[0]!r}; see commprof testbed --help")
    _wire(args)


def testbed_verb(args: argparse.Namespace) -> int:
    """Do what the action says and return 0."""
    if args.action == "up":
        testbed.up(4 if args.hosts is None else args.hosts, _wire(args))
    elif args.action == "rate":
        testbed.set_wire(_wire(args))
    elif args.action == "down":
        testbed.remove()
        return 0
    elif args.action == "exec":
        _execute(args)
        return 0
    sys.stdout.write(_listing(testbed.hosts(), as_json=args.json))
    return 0


def _execute(args: argparse.Namespace) -> None:
    with testbed.using() as hosts:
        if args.host is not None:
            if not 0 <= args.host < len(hosts):
                raise BadInput(f"--host {args.host}: the testbed has hosts 0 to {len(hosts) - 1}")
            command = testbed.host_command(args.host, args.words)
            os.execvp(command[0], command)  # noqa: S606  a shell or a server of the user's own; nothing left for us to do
        count = len(hosts) if args.hosts is None else args.hosts
        if not 1 <= count <= len(hosts):
            raise BadInput(f"--hosts {count}: the testbed has {len(hosts)}; make more with commprof testbed up --hosts {count}")
        run_on_hosts(hosts[:count], args.words, os.environ)


def _wire(args: argparse.Namespace) -> Wire:
    rate = args.words[0] if args.action == "rate" else args.rate
    return parse_wire(rate, args.delay / 1e3)


def _listing(hosts: list[Host], *, as_json: bool) -> str:
    if as_json:
        return msgspec.json.format(msgspec.json.encode(hosts), indent=1).decode() + "\n"
    lines = [f"{'host':8}{'address':14}{'rate':>10}{'payload':>12}{'delay':>9}  processes"]
    for host in hosts:
        rate, payload, delay = "none", "", ""
        if host.wire is not None:
            rate, delay = format_line_rate(host.wire.rate_bits_per_s), format_seconds(host.wire.delay_s)
            payload = f"{host.wire.payload_bytes_per_s / 1e6:.4g} MB/s"
        lines.append(f"{host.name:8}{host.address:14}{rate:>10}{payload:>12}{delay:>9}  {len(host.processes)}")
    return "\n".join(lines) + "\n"


VERB = Verb(
    summary="hosts in network namespaces of this machine, joined by lines of a known rate (Linux, root)",
    examples=(
        "commprof testbed up --hosts 4 --rate 1gbit",
        "commprof testbed exec -- commprof bench -b 1K -e 16M  # a rank on every host",
        "commprof testbed exec --host 0 -- ip address show     # a plain command on one",
        "commprof testbed rate 200mbit",
        "commprof testbed down",
    ),
    add_arguments=add_testbed_arguments,
    check=check_testbed,
    run=testbed_verb,
)
