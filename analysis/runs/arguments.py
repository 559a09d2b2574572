"""The runs among a verb's arguments, named in few words: `latest`, `@train-n1`, how a name begins."""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

from commprof.analysis.runs.found import RUNS, FoundRuns, find_runs
from commprof.analysis.runs.names import names_a_kind, run_named
from commprof.commbench.errors import BadInput
from commprof.commbench.units import printable
from commprof.commbench.verb import RunName

_LONGEST_SHOWN = 120


def name_runs(actions: Sequence[argparse.Action], args: argparse.Namespace, argv: Sequence[str]) -> list[str]:
    """Put run folders in the place of names in `args`; return the words of `argv` with the same done to flags' values.

    Ranks are started with the latter, so that all of them mean one run. What was taken is said on standard error. Raises
    BadInput for names of several runs, or of none.
    """
    found: dict[str, Path] = {}
    search = cache(lambda: find_runs(RUNS))  # once, and only where a word is no path
    for action, name in ((action, action.type) for action in actions):
        value = getattr(args, action.dest, None)
        if not isinstance(name, RunName) or value is None or value == action.default:
            continue
        words = value if isinstance(value, list) else [value]
        folders = [_folder(str(word), name, search, found) for word in words]
        setattr(args, action.dest, folders if isinstance(value, list) else folders[0])
    flags = [flag for action in actions if isinstance(action.type, RunName) for flag in action.option_strings]
    return list(_with_folders(argv, flags, found))


def _folder(word: str, name: RunName, search: Callable[[], FoundRuns], found: dict[str, Path]) -> Path:
    """Return the folder of the run that a word names; what names none is left to the verb, which knows what it takes."""
    path = Path(word)
    if (name.or_else and not names_a_kind(word)) or _is_there(path):
        return path
    run = run_named(word, search(), ended_early=name.ended_early)
    if run is None:
        return path
    sys.stderr.write(printable(run.told) + "\n")
    found[word] = run.path
    return run.path


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # too long for a path, or in a folder that is not ours to look into
        shown = str(path) if len(str(path)) <= _LONGEST_SHOWN else f"{str(path)[:_LONGEST_SHOWN]}..."
        raise BadInput(f"cannot look at {shown}: {error.strerror}; name a run folder") from None


def _with_folders(argv: Sequence[str], flags: Sequence[str], found: Mapping[str, Path]) -> Iterator[str]:
    """Yield the words, each name that follows one of these flags, written out or begun, replaced by its folder."""
    for before, word in pairwise(["", *argv]):
        flag, equals, value = word.partition("=")
        if equals and _is_flag(flag, flags) and value in found:
            yield f"{flag}={found[value]}"
        else:
            yield str(found[word]) if word in found and _is_flag(before, flags) else word


def _is_flag(word: str, flags: Sequence[str]) -> bool:
    return word.startswith("--") and any(flag.startswith(word) for flag in flags)
