"""`commprof report`: runs in; a page, a paper, plain text, Markdown or JSON out."""

import argparse
import sys
from pathlib import Path

import msgspec

from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import read_info, write_text
from commprof.commbench.units import printable
from commprof.commbench.verb import RunName, Verb


def add_report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=RunName(), metavar="RUN", help="a study's folder, or the runs to report on")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where to (a study's analysis/, else report.html here); with --latex a folder",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--latex", action="store_true", help="a paper instead: report.tex, figures/, report.pdf by pdflatex")
    form.add_argument("--text", action="store_true", help="print words and tables, 80 columns")
    form.add_argument("--json", action="store_true", help="print the whole report as one JSON document; seconds, bytes")
    form.add_argument("--markdown", action="store_true", help="print words and tables for a pull request or an issue")


def check_report(args: argparse.Namespace) -> None:
    """Raise BadInput for folders that are not runs, and for a file where a folder must be."""
    for run in args.runs:
        read_info(run)
    if args.latex and args.out is not None and args.out.exists() and not args.out.is_dir():
        raise BadInput(f"--out {args.out} is a file; with --latex name a folder, which report.tex and figures/ go to")


def report(args: argparse.Namespace) -> int:
    """Write report.html, or with --latex the paper, and print its path; or print what it says in the form asked for.

    Of a study that may only be read, what the page would say is printed.
    """
    from commprof.analysis.report.page.place import home_of
    from commprof.analysis.runs.keeping import say_not_kept

    if args.latex:
        return _latex_report(args)
    if args.text or args.markdown or args.json:
        return _say(args)
    try:
        return _page(args)
    except OSError as error:
        if args.out is not None or home_of(args.runs) is None:
            raise
        say_not_kept(error, "--out FILE")
    args.text = True
    return _say(args)


def _page(args: argparse.Namespace) -> int:
    from commprof.analysis.report.sections.build import write_report
    from commprof.analysis.report.sides.page import write_comparison
    from commprof.analysis.report.sides.sides import why_apart
    from commprof.analysis.report.study.pages import has_grid, write_study_report

    if len(args.runs) == 1 and has_grid(args.runs[0]):
        if args.out is not None:
            raise BadInput(f"--out: {args.runs[0]} holds several experiments, whose pages lie together in its analysis/")
        _, page = write_study_report(args.runs[0])
    elif len(args.runs) > 1 and (reason := why_apart(args.runs)):
        page = write_comparison(args.runs, reason, args.out)
        sys.stderr.write(f"side by side, not pooled: {printable(reason)}\n")
    else:
        page = write_report(args.runs, args.out)
    sys.stdout.write(printable(str(page)) + "\n")
    return 0


def _say(args: argparse.Namespace) -> int:
    from commprof.analysis.report.page.words import as_markdown, as_text
    from commprof.analysis.report.whole import whole_report

    whole = whole_report(args.runs)
    if args.json:
        words = msgspec.json.encode(whole.document()).decode() + "\n"
    else:
        words = as_text(whole.report) if args.text else as_markdown(whole.report)
    if args.out is None:
        sys.stdout.write(words)
    else:
        write_text(args.out, words)
        sys.stdout.write(printable(str(args.out)) + "\n")
    return 0


def _latex_report(args: argparse.Namespace) -> int:
    from commprof.analysis.report.paper.files import HOW_TO_COMPILE, compile_latex, write_latex_report

    source = write_latex_report(args.runs, args.out)
    pdf = compile_latex(source)
    if pdf is None:
        sys.stderr.write(f"commprof: {HOW_TO_COMPILE}\n")
    sys.stdout.write(f"{printable(str(pdf or source))}\n")
    return 0


VERB = Verb(
    summary="write one self-contained HTML file about some runs, side by side where they cannot be pooled; a paper; words",
    examples=(
        "commprof report runs/demo",
        "commprof report latest",
        "commprof report runs/demo --text",
        "commprof report runs/demo --markdown --out report.md",
        "commprof report runs/demo --json --out report.json",
        "commprof report runs/demo --latex",
        "commprof report runs/PROFILE runs/BENCH --out report.html",
        "commprof report runs/MONDAY runs/TUESDAY",
    ),
    add_arguments=add_report_arguments,
    check=check_report,
    run=report,
)
