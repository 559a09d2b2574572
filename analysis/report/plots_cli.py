"""`commprof plots`: every figure of the report as a file of its own, over all experiments below a folder. No torch."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from commprof.analysis.report.numbers.plain_text import file_stem
from commprof.commbench.errors import BadInput
from commprof.commbench.progress import progress
from commprof.commbench.units import printable
from commprof.commbench.verb import RunName, Verb

if TYPE_CHECKING:
    from commprof.analysis.report.figure_set import NamedFigure


_CAPTIONS = "captions.txt"
_MOST_NAMED = 6  # figures that lack the same


def add_plots_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "root", type=RunName(), metavar="ROOT", help="a folder; runs and studies are searched for in and below it"
    )
    parser.add_argument("--out", type=Path, default=Path("plots"), metavar="DIR", help="where the files go (plots)")
    parser.add_argument("--format", choices=("png", "svg", "pdf"), default="png", help="kind of file (png, 200 dots per inch)")
    parser.add_argument(
        "--warmup", type=int, default=0, metavar="N", help="leave out each run's first N steps, besides those marked (0)"
    )
    parser.add_argument(
        "--datasets", default="", metavar="NAME,...", help="trainings on these data sets only, such as AGNews,synthetic (all)"
    )


def check_plots(args: argparse.Namespace) -> None:
    """Raise BadInput for a folder that is none and a number of steps below zero."""
    if not args.root.is_dir():
        raise BadInput(f"{args.root} is no folder; name one that runs lie in, such as runs")
    if args.warmup < 0:
        raise BadInput(f"--warmup {args.warmup} must not be negative; 0 leaves out the marked steps only")
    if args.out.exists() and not args.out.is_dir():
        raise BadInput(f"--out {args.out} is a file; name a folder")


def plots(args: argparse.Namespace) -> int:
    """Write the figures and their captions; print the figures' paths, and on standard error what was left out."""
    from commprof.analysis.report.figure_set import NamedFigure, figure_sets, num_sets
    from commprof.analysis.study.below import Wanted, find_experiments

    datasets = frozenset(name for name in (word.strip() for word in args.datasets.split(",")) if name)
    found = find_experiments(args.root, Wanted(warmup_steps=args.warmup, datasets=datasets))
    for line in found.left_out:
        _note(f"left out {line}")
    written: dict[str, str] = {}
    missing: dict[str, list[str]] = {}
    with progress("figures: experiments", num_sets(found)) as report:
        for done, figures in enumerate(figure_sets(found), start=1):
            report.clear()
            for one in figures:
                if isinstance(one, NamedFigure):
                    _write(one, args, written)
                else:
                    missing.setdefault(one.reason, []).extend(one.names)
            report(done, "")
    for reason, names in missing.items():
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        _note(f"left out {', '.join(map(file_stem, names[:_MOST_NAMED]))}{more}: {reason}")
    if not written:
        raise BadInput(f"nothing below {args.root} can be drawn; it takes completed training or bench runs")
    _write_captions(args.out / _CAPTIONS, {f"{stem}.{args.format}": caption for stem, caption in written.items()})
    return 0


def _write_captions(path: Path, captions: Mapping[str, str]) -> None:
    from commprof.commbench.records.rundir import write_text

    write_text(path, "\n".join(f"{name}\n    {printable(caption)}\n" for name, caption in captions.items()))
    _note(f"what each figure shows, over how many samples, from which files: {path}")


def _write(one: "NamedFigure", args: argparse.Namespace, written: dict[str, str]) -> None:
    from commprof.analysis.report.figures.files import write_figure

    stem = file_stem(one.name)
    name = stem if stem not in written else next(n for i in range(2, len(written) + 3) if (n := f"{stem}-{i}") not in written)
    written[name] = one.caption
    path = args.out / f"{name}.{args.format}"
    write_figure(one.figure, path, args.format)
    sys.stdout.write(printable(str(path)) + "\n")


def _note(text: str) -> None:
    sys.stderr.write(f"commprof: {printable(text)}\n")


VERB = Verb(
    summary="write every figure of the report as PNG, SVG or PDF, over all runs and studies below a folder",
    examples=(
        "commprof plots runs --out figures --format pdf",
        "commprof plots runs --out figures --warmup 1 --datasets AGNews",
    ),
    add_arguments=add_plots_arguments,
    check=check_plots,
    run=plots,
)
