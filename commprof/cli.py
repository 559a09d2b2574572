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
from commprof.commbench.verb import RunName, Verb

_WIDTH = 80
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_OWN_GROUPS = 2  # argparse's: what has a place, and flags that were put into no group

_GROUPS = {
    "measure": {
        "env": ("commbench.machine.cli", "what is this machine?"),
        "bench": ("commbench.bench.cli", "how fast is the wire, collective by collective?"),
        "links": ("commbench.links.cli", "which single link is slow?"),
        "contention": ("commbench.contention.cli", "what does overlap cost computation and communication?"),
        "train": ("train.cli", "how long does each part of a training's step take?"),
        "record": ("commbench.foreign.cli", "how long do the steps of a script take that is not changed?"),
        "import": ("analysis.imports.cli", "what did nccl-tests, other logs or traces measure?"),
        "testbed": ("testbed.cli", "what would it be like on 4 hosts with a wire of 1 Gbit/s?"),
    },
    "explain": {
        "ls": ("analysis.runs.cli", "what has been measured, and what is it good for?"),
        "check": ("analysis.health.cli", "is this normal, is it worse than before?"),
        "fit": ("analysis.wire.cli", "what does a message cost, what did N ranks lose?"),
        "trace": ("analysis.traces.cli", "where did each step's time go, and who waits for whom?"),
        "report": ("analysis.report.cli", "what came out: the answer first, then all of it on a page?"),
        "plots": ("analysis.report.plots_cli", "how does it look, figure by figure?"),
    },
    "decide": {
        "quickstart": ("quickstart", "which few commands answer me, with what I have?"),
        "predict": ("analysis.advice.predict_cli", "how fast is a step on N ranks, before they are paid for?"),
        "extrapolate": ("analysis.scaling.cli", "what do a few throughputs say of other N?"),
        "advise": ("analysis.advice.cli", "what to change, from where on do N ranks pay, at what cost?"),
        "study": ("study.cli", "all of it for several N, models and wires: 2, 4 or 8?"),
    },
    "": {"completion": ("completion", "a script that completes all this with TAB")},
}
VERBS = {name: verb for verbs in _GROUPS.values() for name, verb in verbs.items()}


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
        a_run = name == "latest" or name.startswith("@")
        named = f"; it names a run, which a verb reads: commprof report {printable(name)}" if a_run else ""
        mend = named or _nearest(name, VERBS) or f"; known are {', '.join(VERBS)}"
        sys.stderr.write(f"commprof: error: unknown verb {printable(name)!r}{mend}\n")
        return 2
    verb = verb_named(name)
    parser = parser_of(name, verb)
    parser.check_flags(argv[1:])
    args = parser.read(argv[1:])
    words = _with_runs_named(parser, args, argv[1:])
    verb.check(args)
    if getattr(args, "nproc", None) is None:
        return verb.run(args)
    from commprof.launch import run_verb

    return run_verb(name, words, args)


def _with_runs_named(parser: argparse.ArgumentParser, args: argparse.Namespace, words: list[str]) -> list[str]:
    """Put folders in the place of runs' names, in `args` and in what ranks are started with; see analysis/runs/names.py."""
    if not any(isinstance(action.type, RunName) for action in parser._actions):
        return words
    from commprof.analysis.runs.arguments import name_runs

    return name_runs(parser._actions, args, words)


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

    def name_common_flags(self) -> None:
        """Say that the flags which stand first are the common ones, where there are groups of others."""
        self._optionals.title = "common flags" if len(self._action_groups) > _OWN_GROUPS else "flags"

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
    parser.name_common_flags()
    return parser


def _overview() -> str:
    question = "Will N GPUs make this training faster, by how much, what holds it back, and what should change?"
    groups = (
        "\n".join([*([f"{title}:"] if title else []), *(f"  {name:12}{asks}" for name, (_, asks) in verbs.items())])
        for title, verbs in _GROUPS.items()
    )
    return (
        f"usage: commprof VERB ...\n\n{textwrap.fill(question, _WIDTH)}\n\n"
        + "\n\n".join(groups)
        + "\n\ncommprof VERB --help shows a verb's flags, units and examples. Verbs that read\n"
        "runs take latest, @train-n1 (the newest of a kind) or how a run's name begins.\n"
    )
