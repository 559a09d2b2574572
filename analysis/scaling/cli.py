"""`commprof extrapolate`: a table of throughputs in, other numbers of ranks out. No run, no profile, no torch."""

import argparse
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from commprof.analysis.runs.world_sizes import MAX_RANKS
from commprof.commbench.errors import BadInput
from commprof.commbench.units import format_seconds
from commprof.commbench.verb import Verb

if TYPE_CHECKING:
    from commprof.analysis.scaling.extrapolate import Extrapolated, Extrapolation, Refused
    from commprof.analysis.scaling.table import Series

_WIDTH = 80


def add_extrapolate_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("table", type=Path, metavar="TABLE", help="CSV: n_gpus, and throughput (1/s over all ranks) or step_s or step_ms")
    add("-n", "--world-sizes", required=True, nargs="+", type=int, metavar="N", help="numbers of ranks to extrapolate to")
    add("--anchors", nargs="+", type=int, default=[], metavar="N", help="rows to start from (all that are not asked for)")
    add("--scaling", choices=("weak", "strong"), default="weak", help="weak: batch per rank fixed; strong: in all (weak)")
    add("--interconnect", choices=("nvlink", "pcie"), help="the link inside the node, where the table does not tell")
    add("--gpus-per-node", type=int, metavar="N", help="ranks on a node, where the table does not tell")
    add("--json", action="store_true", help="print one JSON document: a list, one entry a series")


def check_extrapolate(args: argparse.Namespace) -> None:
    """Raise BadInput for numbers of ranks that are none."""
    if 1 in args.world_sizes:
        raise BadInput("--world-sizes 1: one rank is what the others are counted from; ask for 2 or more")
    for flag, numbers in (("--world-sizes", args.world_sizes), ("--anchors", args.anchors)):
        for number in numbers:
            if not 1 <= number <= MAX_RANKS:
                raise BadInput(f"{flag} {number}: a job has 1 to {MAX_RANKS} ranks")
    if args.gpus_per_node is not None and not 1 <= args.gpus_per_node <= MAX_RANKS:
        raise BadInput(f"--gpus-per-node {args.gpus_per_node}: give 1 to {MAX_RANKS}")


def extrapolate_verb(args: argparse.Namespace) -> int:
    """Print what every series of the table does at the wanted numbers of ranks; raise UnusableData where none tells."""
    from commprof.analysis.scaling.extrapolate import extrapolate_all
    from commprof.analysis.scaling.table import read_series

    told = extrapolate_all(
        [_completed(series, args) for series in read_series(args.table)],
        sorted(set(args.world_sizes)),
        scaling=args.scaling,
        anchors=sorted(set(args.anchors)),
        name=str(args.table),
    )
    if args.json:
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
    else:
        sys.stdout.write(told_text(told) + "\n")
    return 0


def told_text(told: "Sequence[Extrapolation | Refused]") -> str:
    """Lay out every series of a table, those that tell nothing with the reason."""
    from commprof.analysis.scaling.extrapolate import Refused

    return "\n\n".join(_refusal(one) if isinstance(one, Refused) else extrapolation_text(one) for one in told)


def extrapolation_text(one: "Extrapolation") -> str:
    """Lay out one series, at most 80 columns."""
    fixed = "batch per rank fixed" if one.scaling == "weak" else "batch in all fixed"
    link = {"nvlink": "NVLink", "pcie": "PCIe", "unknown": "link not given"}[one.interconnect]
    name = f"{one.series}: " if one.series else ""
    what = "throughput" if one.measure == "throughput" else "step"
    points = ", ".join(f"{n}: {_number(value, one.measure)}" for n, value in one.anchors.items())
    lines = _wrapped(f"{name}{what} from {points}; {fixed}; {link}", "  ")
    lines += ["", f"{'ranks':>6} {what:>10}  {'90 % interval':>21}  speedup  E_N/T_1   measured   error"]
    lines += [_row(each, one.measure) for each in one.predictions]
    lines += ["  ? a guess", ""] if any(each.guess and each.value is not None for each in one.predictions) else [""]
    lines += [line for text in _notes(one.predictions) for line in _wrapped(text, "  ")]
    shares = ", ".join(f"{name.replace('_', ' ')} {share:.2%}" for name, share in one.mix.items())
    return "\n".join([*lines, *_wrapped(f"E_2/T_1 as the mix has it: {shares}", "  "), *_laws(one)])


def _row(one: "Extrapolated", measure: str) -> str:
    measured = f"{'-' if one.measured is None else _number(one.measured, measure):>9}"
    mark = "?" if one.guess else " "
    if one.value is None or one.low is None or one.high is None:
        return f"{one.world_size:>5}{mark} {'-':>10}  {'-':>21}  {'-':>7}  {'-':>7}  {measured}       -"
    span = f"{_number(one.low, measure):>9} - {_number(one.high, measure):>9}"
    error = "-" if one.relative_error is None else f"{one.relative_error:+.1%}"
    return (
        f"{one.world_size:>5}{mark} {_number(one.value, measure):>10}  {span:>21}  {one.speedup:>6.2f}x  "
        f"{one.overhead:>7.1%}  {measured} {error:>7}"
    )


def _laws(one: "Extrapolation") -> Iterator[str]:
    targets = [n for n in one.laws[0].values if one.laws[0].values][:5]
    if not targets:
        return
    yield f"  {'law alone':16}{'evidence':>9}" + "".join(f"{n:>10}" for n in targets)
    for law in one.laws:
        yield f"  {law.name:16}{law.weight:>9.0%}" + "".join(f"{_number(law.values[n], one.measure):>10}" for n in targets)


def _notes(predictions: "Sequence[Extrapolated]") -> list[str]:
    by_note: dict[str, list[int]] = {}
    for one in predictions:
        for note in one.notes:
            by_note.setdefault(note, []).append(one.world_size)
    return [f"{', '.join(map(str, ranks))} ranks: {note}" for note, ranks in by_note.items()]


def _completed(series: "Series", args: argparse.Namespace) -> "Series":
    return replace(
        series,
        interconnect=args.interconnect or series.interconnect,
        ranks_per_node=args.gpus_per_node or series.ranks_per_node,
    )


def _refusal(refused: "Refused") -> str:
    return "\n".join(_wrapped(f"{refused.series}: left out: {refused.reason}", "  "))


def _number(value: float, measure: str) -> str:
    return f"{value:.4g}" if measure == "throughput" else format_seconds(value)


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


VERB = Verb(
    summary="throughput (1/s) or step time (s) at other numbers of ranks, from a table of a few; 90 % intervals",
    examples=(
        "commprof extrapolate table.csv -n 8 16",
        "commprof extrapolate steps.csv -n 8 --anchors 1 2 --json",
    ),
    add_arguments=add_extrapolate_arguments,
    check=check_extrapolate,
    run=extrapolate_verb,
)
