"""Runs -> report.tex with figures in PDF beside it, and report.pdf where pdflatex is installed.

    report.tex   figures/*.pdf   report.pdf   in a study's analysis/; of runs in report/ here, or in comparison/ where they
                                              stand side by side

pdflatex gets no shell, reads and writes nothing outside the folder but TeX's own files, and has two minutes for each pass.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from commprof.analysis.advice.results import Budget
from commprof.analysis.report.figures.files import write_figure
from commprof.analysis.report.page.place import default_page, home_of
from commprof.analysis.report.paper.latex import figure_stems, render_latex
from commprof.analysis.report.paper.paper import Paper, paper_of
from commprof.analysis.report.sides.sides import why_apart
from commprof.commbench.errors import RunFailed
from commprof.commbench.records.rundir import write_text

HOW_TO_COMPILE = (
    "pdflatex is not installed, so there is no PDF; with Debian's texlive-latex-recommended and texlive-fonts-recommended: "
    "pdflatex report && pdflatex report, in the .tex file's folder"
)

_NAME = "report.tex"
_TIMEOUT_S = 120
_PASSES = 2  # the second one knows the numbers of the figures and tables
_FLAGS = ("-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", "-file-line-error")
# Paranoid: no file whose path is absolute or leads upwards, hidden ones neither. Fonts are never made anew.
_ENVIRONMENT = {"openin_any": "p", "openout_any": "p", "MKTEXPK": "0", "MKTEXTFM": "0", "max_print_line": "1000"}
_ERROR = re.compile(r"^(?:\./)?(report\.tex:\d+: .*|! .*)$", re.MULTILINE)


def write_latex_report(paths: Sequence[Path], out: Path | None, budget: Budget | None = None) -> Path:
    """Write report.tex and its figures to the folder `out`, by default a study's analysis/, else one below where we are.

    Returns the file's path. Raises BadInput where a folder is no run or the runs can neither be combined nor compared.
    """
    page = out / _NAME if out is not None else default_page(paths, _own_name(paths))
    paper = paper_of(paths, page, budget)
    _write_figures(paper, page.parent / "figures")
    write_text(page, render_latex(paper))
    return page


def _own_name(paths: Sequence[Path]) -> str:
    if home_of(paths) is not None:
        return _NAME
    return f"{'comparison' if len(paths) > 1 and why_apart(paths) else 'report'}/{_NAME}"


def compile_latex(page: Path) -> Path | None:
    """Make the PDF beside a .tex file and return its path, None without pdflatex.

    Raises RunFailed, naming the line, where pdflatex stops or takes too long; its log then stays.
    """
    program = shutil.which("pdflatex")
    if program is None:
        return None
    for _ in range(_PASSES):
        _run_pdflatex(program, page)
    for ending in (".aux", ".log"):
        page.with_suffix(ending).unlink(missing_ok=True)
    return page.with_suffix(".pdf")


def _write_figures(paper: Paper, folder: Path) -> None:
    stems = figure_stems(paper.pictures)
    for picture in paper.pictures:
        write_figure(picture.figure, folder / f"{stems[picture.name]}.pdf", "pdf")


def _run_pdflatex(program: str, page: Path) -> None:
    log = page.with_suffix(".log")
    try:
        done = subprocess.run(
            [program, *_FLAGS, page.name],
            cwd=page.parent,
            env=os.environ | _ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RunFailed(f"pdflatex did not finish {page} within {_TIMEOUT_S} s; see {log}") from None
    if done.returncode != 0:
        error = _ERROR.search(log.read_text(errors="replace")) if log.exists() else None
        raise RunFailed(f"pdflatex stopped at {error[1] if error else page}; see {log}")
