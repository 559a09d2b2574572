"""`commprof report`: runs in; a page, a paper, plain text, Markdown or JSON out."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from commprof.analysis.advice.cli import check_money
from commprof.analysis.advice.results import Budget
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import read_info, write_text
from commprof.commbench.units import printable
from commprof.commbench.verb import RunName, Verb

if TYPE_CHECKING:
    from commprof.analysis.report.page.written import Written


def add_report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=RunName(), metavar="RUN", help="a study's folder, or the runs to report on")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--verdict", action="store_true", help="print the answer alone: six lines, for a chat")
    form.add_argument("--text", action="store_true", help="print words and tables, 80 columns, 120 lines at most")
    form.add_argument("--markdown", action="store_true", help="print about a screen for a pull request or an issue")
    form.add_argument("--json", action="store_true", help="print the whole report as one JSON document; seconds, bytes")
    form.add_argument("--latex", action="store_true", help="a paper instead: report.tex, figures/, report.pdf by pdflatex")
    add = parser.add_argument_group("where it goes, and how much of it").add_argument
    add("--out", type=Path, metavar="FILE", help="the file (a study's analysis/, else report.html here); a folder with --latex")
    add("--full", action="store_true", help="with --text and --markdown: all of it, however long")
    add = parser.add_argument_group("what it costs").add_argument
    add("--price", type=float, metavar="X", help="of one GPU-hour, in any currency (costs are in GPU-hours)")
    add("--samples", type=int, metavar="N", help="samples per epoch (costs are per million samples)")


def check_report(args: argparse.Namespace) -> None:
    """Raise BadInput for folders that are not runs, for a file where a folder must be, and for flags that mean nothing."""
    check_money(args)
    for run in args.runs:
        read_info(run)
    if len(args.runs) > 1 and len({run.resolve() for run in args.runs}) == 1:
        raise BadInput(f"all these names are {args.runs[0]}, which leaves nothing to compare; name the other run by its folder")
    if args.full and not (args.text or args.markdown):
        raise BadInput("--full belongs to --text and --markdown; the page and --json hold everything anyway")
    if args.latex and args.out is not None and args.out.exists() and not args.out.is_dir():
        raise BadInput(f"--out {args.out} is a file; with --latex name a folder, which report.tex and figures/ go to")


def report(args: argparse.Namespace) -> int:
    """Write report.html, or with --latex the paper, and print the six lines and its path; or print it in the form asked for.

    Of a study that may only be read, what the page would say is printed.
    """
    from commprof.analysis.report.page.place import home_of
    from commprof.analysis.report.page.words import as_lines
    from commprof.analysis.runs.keeping import say_not_kept

    if args.latex:
        return _latex_report(args)
    if args.text or args.markdown or args.json or args.verdict:
        return _say(args)
    try:
        written = _write(args)
    except OSError as error:
        if args.out is not None or home_of(args.runs) is None:
            raise
        say_not_kept(error, "--out FILE")
        args.text = True
        return _say(args)
    ledger = as_lines([written.ledger]) if written.ledger else ""
    sys.stdout.write(f"{as_lines(written.lines)}\n{ledger}{printable(str(written.page))}\n")
    return 0


def _write(args: argparse.Namespace) -> "Written":
    """Write the page that these paths make: of a study's cells, of runs side by side, or of runs that belong together."""
    from commprof.analysis.report.page.written import Written
    from commprof.analysis.report.sections.build import write_report
    from commprof.analysis.report.sides.page import write_comparison
    from commprof.analysis.report.sides.sides import why_apart
    from commprof.analysis.report.study.pages import has_grid, write_study_report

    budget = _budget(args)
    if len(args.runs) == 1 and has_grid(args.runs[0]):
        _refuse_costs(budget, "several models or wires")
        lines, page = write_study_report(args.runs[0], args.out)
        return Written(page=page, lines=tuple(lines))
    if len(args.runs) > 1 and (reason := why_apart(args.runs)):
        _refuse_costs(budget, "runs side by side")
        written = write_comparison(args.runs, reason, args.out)
        sys.stderr.write(f"side by side, not pooled: {printable(reason)}\n")
        return written
    return write_report(args.runs, args.out, budget)


def _budget(args: argparse.Namespace) -> Budget | None:
    if args.price is None and args.samples is None:
        return None
    return Budget(price_per_gpu_hour=args.price, samples_per_epoch=args.samples, epochs=1, deadline_s=None)


def _refuse_costs(budget: Budget | None, what: str) -> None:
    """Raise BadInput where costs were asked of what has no one cost."""
    if budget is not None:
        raise BadInput(f"--price and --samples: {what} have no one cost; ask for the report of runs that belong together")


def _say(args: argparse.Namespace) -> int:
    from commprof.analysis.report.page.markdown import as_markdown, as_short_markdown
    from commprof.analysis.report.page.words import as_text
    from commprof.analysis.report.whole import whole_report

    whole = whole_report(args.runs, _budget(args))
    if args.json:
        words = msgspec.json.encode(whole.document()).decode() + "\n"
    elif args.verdict:
        words = "".join(f"{printable(one)}\n" for one in whole.report.sentences)
    elif args.text:
        words = as_text(whole.report, full=args.full)
    elif args.full:
        words = as_markdown(whole.report)
    else:
        words = as_short_markdown(whole.report, shlex.join(["commprof", "report", *map(str, args.runs)]))
    if args.out is None:
        sys.stdout.write(words)
    else:
        write_text(args.out, words)
        sys.stdout.write(printable(str(args.out)) + "\n")
    return 0


def _latex_report(args: argparse.Namespace) -> int:
    from commprof.analysis.report.paper.files import HOW_TO_COMPILE, compile_latex, write_latex_report

    source = write_latex_report(args.runs, args.out, _budget(args))
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
        "commprof report runs/demo --verdict --price 2.5",
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
