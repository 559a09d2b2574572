"""The first word names a verb: the door imports its module only then, and returns the exit code.

0 ok, 1 failed, 2 usage or input, 3 `check` says no, 130 interrupted. Results go to standard output, everything else to
standard error.
"""

import argparse
import errno
import io
import itertools
import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import NoReturn

from commprof.commbench.display.terminal import Output, drop_output, tell
from commprof.commbench.errors import CommprofError, RunFailed
from commprof.commbench.ranks.launched import was_started_as_rank
from commprof.commbench.ranks.stopping import end_process, end_with_launcher
from commprof.commbench.units import printable
from commprof.commbench.verb import Verb

_WIDTH = 80
_INDENT = 14  # of the overview's second column
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

VERBS = {
    "env": ("commbench.machine.cli", "what would be recorded about this machine"),
    "bench": ("commbench.bench.cli", "measure the wire: a collective over message sizes"),
    "links": (
        "commbench.links.cli",
        "one link at a time: copies to, from and between GPUs, messages between ranks",
    ),
    "contention": ("commbench.contention.cli", "computation and communication slowed by each other"),
    "train": ("train.cli", "run the reference training and record its steps, gradients and traces"),
    "record": ("commbench.foreign.cli", "a training that nobody changed: steps, phases, gradients, buckets"),
    "import": (
        "analysis.imports.cli",
        "logs of other benchmarks become runs: nccl-tests, PARAM, CSV and more",
    ),
    "trace": (
        "analysis.traces.cli",
        "where each step's time went, on every rank, from profiler traces of any job",
    ),
    "fit": ("analysis.wire.cli", "latency and bandwidth of the wire, and the laws that four times obey"),
    "predict": (
        "analysis.advice.predict_cli",
        "the training step at N ranks, from one rank's profile and a bench",
    ),
    "extrapolate": (
        "analysis.scaling.cli",
        "throughput or step time at other N from a table of a few: laws, intervals, boundaries",
    ),
    "advise": ("analysis.advice.cli", "what to change, from where on N ranks pay, and what that costs"),
    "check": (
        "analysis.health.cli",
        "pass or fail: thresholds, a baseline with its noise, and what is not normal",
    ),
    "report": ("analysis.report.cli", "one HTML file: verdict, wire, step, prediction beside measurement"),
    "plots": (
        "analysis.report.plots_cli",
        "every figure of the report as a file, over all runs below a folder",
    ),
    "testbed": ("testbed.cli", "an emulated cluster here: hosts whose wire has a known rate"),
    "study": ("study.cli", "all of it: bench, profile, predict, verify, report"),
    "completion": ("completion", "a script that completes verbs, flags and paths in bash or zsh"),
}


def enter() -> NoReturn:
    """Run the verb that this process was started for, and end the process."""
    if was_started_as_rank(os.environ):
        end_with_launcher()
    _prepare_streams()
    code = main()
    if "torch" in sys.modules:
        end_process(code)
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code; a user's error becomes one line on standard error."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        try:
            return _whole(_run(argv))
        finally:
            sys.stdout.flush()  # here, where a reader that has gone can still be caught
    except CommprofError as error:
        tell(f"commprof: error: {printable(str(error))}\n")
        return error.exit_code
    except KeyboardInterrupt:
        tell("commprof: interrupted\n")
        return 130
    except MemoryError:
        tell("commprof: error: this machine has too little memory for it; lower what is asked for\n")
        return 1
    except BrokenPipeError:
        drop_output()  # its reader has gone and wants no message
        return 1
    except OSError as error:
        if error.filename is None and error.errno not in _FULL:
            raise
        if error.filename is None:
            drop_output()
        tell(f"commprof: error: {printable(_unusable(error))}\n")
        return 1 if error.errno in _FULL else 2


def _unusable(error: OSError) -> str:
    """Say what the file system refused and what would do."""
    if error.filename is None:
        return f"standard output cannot be written: {error.strerror}; make room where it goes"
    mend = "make room" if error.errno in _FULL else "name one that you may use (--out says where results go)"
    return f"cannot use {error.filename}: {error.strerror}; {mend}"


def _whole(code: int) -> int:
    """Return the exit code of what was printed whole; raise RunFailed where the disk took only a part of it."""
    if Output.lost is None or isinstance(Output.lost, BrokenPipeError):
        return code
    raise RunFailed(f"cannot write the output: {Output.lost.strerror}; make room, the run itself is whole")


def _prepare_streams() -> None:
    """See to it that writing to a standard stream cannot fail for how it was handed over.

    The number of a closed one would go to the first file that is opened, and what libraries print into that file.
    """
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)
    if sys.stdout is None:
        os.open(os.devnull, os.O_WRONLY)
        sys.stdout = open(1, "w")  # noqa: SIM115
    if sys.stderr is None:
        os.open(os.devnull, os.O_WRONLY)
        sys.stderr = open(2, "w", buffering=1)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks


def _run(argv: list[str]) -> int:
    if argv[:1] == ["help"]:
        argv = [*argv[1:2], "--help"]
    if not argv or argv[0] in ("-h", "--help"):
        sys.stdout.write(_overview())
        return 0 if argv else 2
    if argv[0] in ("--version", "version", "-v", "-V"):
        from importlib import metadata  # 20 ms that nobody else should pay

        sys.stdout.write(f"commprof {metadata.version('commprof')}\n")
        return 0
    name = argv[0]
    if name not in VERBS:
        mend = _nearest(name, VERBS) or f"; known are {', '.join(VERBS)}"
        sys.stderr.write(f"commprof: error: unknown verb {printable(name)!r}{mend}\n")
        return 2
    verb = verb_named(name)
    parser = parser_of(name, verb)
    parser.check_flags(argv[1:])
    args = parser.read(argv[1:])
    verb.check(args)
    if getattr(args, "nproc", None) is None:
        return verb.run(args)
    from commprof.launch import run_verb

    return run_verb(name, argv[1:], args)


def verb_named(name: str) -> Verb:
    """Import a verb's module and return the verb."""
    verb = import_module(f"commprof.{VERBS[name][0]}").VERB
    assert isinstance(verb, Verb)
    return verb


def _nearest(word: str, known: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


class _Parser(argparse.ArgumentParser):
    """One that names what comes nearest to a wrong word, and repeats it without what could steer the terminal."""

    def check_flags(self, words: Sequence[str]) -> None:
        """End the process for a flag that does not exist; argparse would take its value for a positional one and blame that."""
        known = [flag for flag in self._option_string_actions if flag.startswith("--")]
        for word in itertools.takewhile(lambda word: word != "--", words):
            flag = word.partition("=")[0]
            if flag.startswith("--") and not any(own.startswith(flag) for own in known):
                self.error(f"there is no flag {flag}{_nearest(flag, known)}")

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Return the arguments; what follows -- is a command's, whose flags argparse's intermixed reading would refuse."""
        is_command = "--" in words and len(self._get_positional_actions()) == 1
        return self.parse_args(words) if is_command else self.parse_intermixed_args(words)

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(action, f"{value!r} is none of {', '.join(choices)}{_nearest(str(value), choices)}")

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def parser_of(name: str, verb: Verb) -> "_Parser":
    """Return the parser that reads a verb's words and shows its help."""
    parser = _Parser(
        prog=f"commprof {name}",
        description=textwrap.fill(verb.summary, _WIDTH),
        epilog="examples:\n" + "\n".join(f"  {example}" for example in verb.examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_arguments(parser)
    return parser


def _overview() -> str:
    question = "Will N GPUs make this training faster, by how much, what holds it back, and what should change?"
    lines = [
        textwrap.fill(f"  {name:12}{summary}", _WIDTH, subsequent_indent=" " * _INDENT, break_on_hyphens=False)
        for name, (_, summary) in VERBS.items()
    ]
    return (
        f"usage: commprof VERB ...\n\n{textwrap.fill(question, _WIDTH)}\n\n"
        + "\n".join(lines)
        + "\n\ncommprof VERB --help shows a verb's flags, units and examples.\n"
    )
