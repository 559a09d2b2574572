"""How is somebody else's training started on N ranks? By the words of its command.

    python X ARGS     on one rank as it stands; on N: python -m torch.distributed.run --standalone --nproc-per-node N X ARGS
                      on a testbed as it stands, once on every host, with torch's env:// variables; a SLURM job's nodes
                      start it by torchrun (slurm/record.sbatch)
    ... {n} ...       with N in the place of {n}, on one rank too: accelerate launch --num_processes {n} X ARGS

Words go to the program as they are, through no shell. Of Python's own flags -u and -m are known; torchrun would lose others.
"""

import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

from commprof.commbench.errors import BadInput

PLACE = "{n}"
MAX_NAME = 100  # of a training: what it names folders with is longer, and a file system takes 255
_PYTHON = re.compile(r"python(3(\.\d+)?)?")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_OF_A_SHELL = re.compile(r"&&?|\|\|?|;|\d?(>>?|<)\S*")
_TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")


def words_at(command: str, world_size: int, *, one_per_host: bool = False) -> tuple[str, ...]:
    """Return the words that start a command on so many ranks; `one_per_host`: each host's are started by somebody else."""
    words = shlex.split(command)
    if PLACE in command:
        return tuple(word.replace(PLACE, str(world_size)) for word in words)
    if world_size == 1 or one_per_host:
        return tuple(words)
    return (words[0], *_TORCHRUN, str(world_size), *_after_own_flags(words))


def name_of(command: str) -> str:
    """Return a name for what a command trains, after its script or module: letters, digits, - and _."""
    words = shlex.split(command)
    scripts = [word for word in words if word.endswith(".py")]
    modules = [after for word, after in pairwise(words) if word == "-m" and not after.startswith("torch.distributed")]
    named = Path(scripts[0]).stem if scripts else modules[0].rpartition(".")[2] if modules else Path(words[0]).stem
    return re.sub(r"[^A-Za-z0-9_-]+", "-", named)[:MAX_NAME]


def check_command(command: str, *, one_per_host: bool) -> None:
    """Raise BadInput, in one line that says how to write it, for a command that cannot be started on every number of ranks."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise BadInput(f"command {command!r}: {error}; write it as you would type it") from None
    if not words:
        raise BadInput("command is empty; write for example 'python train.py --lr 1e-3'")
    _check_no_shell(words)
    is_python = _PYTHON.fullmatch(Path(words[0]).name) is not None
    if one_per_host and PLACE in command:
        raise BadInput(
            f"command {command!r}: launcher: testbed and slurm start it on every host; write python X ARGS, without {PLACE}"
        )
    if PLACE not in command and not is_python:
        raise BadInput(
            f"command {command!r} does not say how many ranks it starts; write python X ARGS, or {PLACE} where their number "
            f"stands, as in torchrun --nproc-per-node {PLACE} X ARGS"
        )
    if shutil.which(words[0]) is None:
        raise BadInput(f"there is no program {words[0]}, the first word of the command {command!r}")
    if PLACE not in command:
        _check_script(command, _after_own_flags(words))


def _check_no_shell(words: list[str]) -> None:
    if _ASSIGNMENT.match(words[0]):
        raise BadInput(f"{words[0]} is for a shell, and none reads the command; write it before commprof itself")
    if own := next(filter(_OF_A_SHELL.fullmatch, words), None):
        raise BadInput(f"{own} is for a shell, and none reads the command; put it into a file: bash train.sh {PLACE}")


def _after_own_flags(words: list[str]) -> list[str]:
    """Return a Python's words from its script, or from -m and its module, on."""
    return words[2:] if words[1:2] == ["-u"] else words[1:]


def _check_script(command: str, words: list[str]) -> None:
    if not words or words == ["-m"] or (words[0].startswith("-") and words[0] != "-m"):
        raise BadInput(
            f"command {command!r}: after python stands a script or -m and a module; with other flags of Python's own write it "
            f"with {PLACE}: python -m torch.distributed.run --standalone --nproc-per-node {PLACE} X ARGS"
        )
    if words[0] != "-m" and not Path(words[0]).is_file():
        raise BadInput(f"there is no script {words[0]} in {Path.cwd()}, where the command {command!r} would be run")
