"""`commprof testbed up | rate | status | exec | down`: an emulated cluster whose wire is known."""

import argparse
import os
import sys
from collections.abc import Mapping
from typing import Final

import msgspec

from commprof.commbench.errors import BadInput
from commprof.commbench.machine.wire import Wire, parse_delay, parse_lines, parse_loss, parse_rate, payload_bytes_per_s
from commprof.commbench.units import format_line_rate, format_seconds
from commprof.commbench.verb import Verb
from commprof.testbed import network as testbed
from commprof.testbed.fabric import MAX_HOSTS, Fabric, host_namespace
from commprof.testbed.hosts import command_in, run_on_hosts
from commprof.testbed.network import Host

_WIRE = ("inside", "spine", "delay", "loss")
_FLAGS: Final[Mapping[str, tuple[str, ...]]] = {
    "up": ("hosts", "ranks_per_host", "rate", *_WIRE),
    "rate": _WIRE,
    "status": ("json",),
    "exec": ("hosts", "ranks_per_host", "host"),
    "down": (),
}


def add_testbed_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("action", choices=tuple(_FLAGS), help="up makes the hosts, rate changes their lines, exec runs a command on them")
    add("words", nargs="*", metavar="RATE | -- COMMAND", help="rate: the new rate, or rates; exec: the command of each rank")
    add("--hosts", type=int, metavar="N", help=f"up: how many to make, 2 to {MAX_HOSTS} (4); exec: use the first N (all)")
    add("--ranks-per-host", type=int, metavar="R", help="up: on each host, sharing its line (1); exec: start fewer (all)")
    add("--rate", metavar="RATE[,...]", help="up: each host's line, each way; one for all or one each (1gbit)")
    add("--host", type=int, metavar="K", help="exec: on host K alone, as a plain command and no rank")
    add("--json", action="store_true", help="status: print one JSON document")
    add = parser.add_argument_group("the wire beyond its rate").add_argument
    add("--inside", metavar="RATE", help="up, rate: each rank's line to those of its host (they talk through memory)")
    add("--spine", metavar="RATE", help="up, rate: what the switch carries of all hosts together (no limit)")
    add("--delay", metavar="TIME", help="up, rate: added to each message between hosts, 5ms or 200us (0)")
    add("--loss", metavar="SHARE", help="up, rate: of the frames between hosts, 0.1%% (0%%)")


def check_testbed(args: argparse.Namespace) -> None:
    """Raise BadInput where this machine cannot have a testbed, or a flag or word does not fit the action."""
    _check_flags(args)
    testbed.check_usable()
    if args.action == "rate" and len(args.words) != 1:
        raise BadInput("testbed rate takes one rate, for example commprof testbed rate 200mbit")
    if args.action == "exec" and not args.words:
        raise BadInput("testbed exec needs a command, for example commprof testbed exec -- commprof bench -e 16M")
    if args.action in ("up", "status", "down") and args.words:
        raise BadInput(f"testbed {args.action} takes no {args.words[0]!r}; see commprof testbed --help")
    _wire(args)


def _check_flags(args: argparse.Namespace) -> None:
    """Raise BadInput for a flag that the action would not heed."""
    given = [flag for flag in dict.fromkeys(flag for flags in _FLAGS.values() for flag in flags) if _is_given(args, flag)]
    for flag in given:
        if flag not in _FLAGS[args.action]:
            heeding = " and ".join(action for action, flags in _FLAGS.items() if flag in flags)
            raise BadInput(f"testbed {args.action} takes no {_word(flag)}, which is for testbed {heeding}; leave it out")
    if "host" in given and len(given) > 1:
        other = next(flag for flag in given if flag != "host")
        raise BadInput(f"--host starts one command and no ranks, so {_word(other)} says nothing there; leave one of them out")


def _is_given(args: argparse.Namespace, flag: str) -> bool:
    value = getattr(args, flag)
    return value is not None and value is not False


def _word(flag: str) -> str:
    return f"--{flag.replace('_', '-')}"


def testbed_verb(args: argparse.Namespace) -> int:
    """Do what the action says and return 0."""
    if args.action == "up":
        ranks_per_host = 1 if args.ranks_per_host is None else args.ranks_per_host
        testbed.up(4 if args.hosts is None else args.hosts, _wire(args), ranks_per_host=ranks_per_host)
    elif args.action == "rate":
        testbed.set_wire(_wire(args))
    elif args.action == "down":
        testbed.remove()
        return 0
    elif args.action == "exec":
        _execute(args)
        return 0
    sys.stdout.write(_listing(testbed.read_fabric(), testbed.hosts(), as_json=args.json))
    return 0


def _execute(args: argparse.Namespace) -> None:
    with testbed.using() as fabric:
        if args.host is not None:
            if not 0 <= args.host < fabric.num_hosts:
                raise BadInput(f"--host {args.host}: the testbed has hosts 0 to {fabric.num_hosts - 1}")
            command = command_in(host_namespace(args.host), args.host, args.words)
            os.execvp(command[0], command)  # noqa: S606  a shell or a server of the user's own; nothing left for us to do
        num_hosts = fabric.num_hosts if args.hosts is None else args.hosts
        ranks_per_host = fabric.ranks_per_host if args.ranks_per_host is None else args.ranks_per_host
        run_on_hosts(fabric, args.words, os.environ, num_hosts=num_hosts, ranks_per_host=ranks_per_host)


def _wire(args: argparse.Namespace) -> Wire:
    delay = "0" if args.delay is None else args.delay
    delay = f"{delay}ms" if delay.replace(".", "", 1).isdecimal() else delay  # milliseconds without a unit
    lines = args.words[0] if args.action == "rate" else args.rate
    return Wire(
        lines_bits_per_s=parse_lines("1gbit" if lines is None else lines),
        inside_bits_per_s=None if args.inside is None else parse_rate(args.inside),
        spine_bits_per_s=None if args.spine is None else parse_rate(args.spine),
        delay_s=parse_delay(delay),
        loss=parse_loss("0%" if args.loss is None else args.loss),
    )


def _listing(fabric: Fabric, hosts: list[Host], *, as_json: bool) -> str:
    if as_json:
        return msgspec.json.format(msgspec.json.encode({"fabric": fabric, "hosts": hosts}), indent=1).decode() + "\n"
    wire = fabric.wire
    lines = [f"{'host':8}{'address':14}{'ranks':>6}{'rate':>10}{'payload':>12}  processes"]
    for host in hosts:
        payload = f"{payload_bytes_per_s(host.line_bits_per_s) / 1e6:.4g} MB/s"
        rate = format_line_rate(host.line_bits_per_s)
        lines.append(f"{host.name:8}{host.address:14}{fabric.ranks_per_host:6}{rate:>10}{payload:>12}  {len(host.processes)}")
    if wire.inside_bits_per_s is not None:
        lines.append(f"inside a host each rank sends and receives at {format_line_rate(wire.inside_bits_per_s)}")
    elif fabric.ranks_per_host > 1:
        lines.append("inside a host ranks talk through memory")
    if wire.spine_bits_per_s is not None:
        crossing = sum(host.line_bits_per_s for host in hosts) / wire.spine_bits_per_s
        share = f"{crossing:.3g} times less than the lines bring" if crossing > 1 else "more than the lines bring"
        lines.append(f"the switch carries {format_line_rate(wire.spine_bits_per_s)} of all hosts together, {share}")
    if wire.delay_s:
        lines.append(f"each message between hosts is delayed by {format_seconds(wire.delay_s)}")
    if wire.loss:
        lines.append(f"{wire.loss:.6%} of the frames between hosts are lost")
    return "\n".join(lines) + "\n"


VERB = Verb(
    summary="hosts in network namespaces of this machine, on lines of a known rate (Linux, root)",
    examples=(
        "commprof testbed up --hosts 4 --rate 1gbit",
        "commprof testbed up --ranks-per-host 2 --inside 10gbit --spine 2gbit",
        "commprof testbed exec -- commprof bench -b 1K -e 16M  # on every host",
        "commprof testbed exec --host 0 -- ip address show     # a plain command on one",
        "commprof testbed rate 200mbit",
        "commprof testbed down",
    ),
    add_arguments=add_testbed_arguments,
    check=check_testbed,
    run=testbed_verb,
)
