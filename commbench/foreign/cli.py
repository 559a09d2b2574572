"""`commprof record -- COMMAND`: a run of a training that nobody changed.

The command runs as it would, with two variables more: what is asked of its processes, and a folder for Python to look into as
it starts. Nothing is written into an installation, and nothing stays in the shell. Its output and its exit code are its own.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from commprof.commbench.errors import BadInput, CommprofError, RunFailed
from commprof.commbench.foreign.asked import NOTES_VARIABLE, UNPASSED, VARIABLE, Asked, encode
from commprof.commbench.foreign.assembled import CARDS_FOLDER, assemble
from commprof.commbench.records.rundir import new_run_path, read_records
from commprof.commbench.records.training import StepMeasurement
from commprof.commbench.records.types import RunInfo
from commprof.commbench.units import format_seconds, parse_bytes, printable
from commprof.commbench.verb import Verb

_STARTUP = Path(__file__).parent / "startup"
_REFUSED = f"{BadInput.__name__}: "  # by a recorder that is there, in words of its own
_SIGNALLED = 128  # what a shell adds to the signal that ended a command


def add_record_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("command", nargs="+", metavar="COMMAND", help="after --, as you would type it: torchrun ... train.py")
    add(
        "--steps",
        default="1:",
        metavar="A:B",
        help="record steps A to B-1, counted from 0 (1:)",
    )
    add("--max-steps", type=int, metavar="N", help="end the training after N steps, with exit code 0 (SystemExit)")
    add("--trace", action="store_true", help="also take eight steps under torch.profiler, after ten recorded ones")
    add("--compute-only", action="store_true", help="ranks side by side that send nothing, under DDP or fully_shard")
    add("--out", type=Path, default=Path("runs"), metavar="DIR", help="where the run's folder goes (runs)")
    add("--folder", type=Path, metavar="DIR", help="the run's folder itself")
    add = parser.add_argument_group("what the script does not tell").add_argument
    add("--samples-per-rank", type=int, metavar="N", help="of a step (the first dimension of what the model is called with)")
    add("--bucket-cap", metavar="SIZE", help="what the script gives DDP where it has ranks to wrap for, K/M/G binary")
    add("--experiment", metavar="NAME", help="names the training (its script's name)")
    add("--dataset", metavar="NAME", help="names what is trained on")


def check_record(args: argparse.Namespace) -> None:
    """Raise BadInput for anything wrong with the flags, and a command that is not there."""
    _steps(args.steps)
    for name in ("max_steps", "samples_per_rank"):
        if (value := getattr(args, name)) is not None and value < 1:
            raise BadInput(f"--{name.replace('_', '-')} {value}: use at least 1")
    if args.bucket_cap is not None:
        parse_bytes(args.bucket_cap)
    if args.folder is not None and args.folder.exists():
        raise BadInput(f"{args.folder} already exists; a run never overwrites another, choose a new folder")
    if shutil.which(args.command[0]) is None:
        raise BadInput(_no_program(args.command[0]))


def _no_program(name: str) -> str:
    if Path(name).is_file():
        return f"{name} is a file and no program; write python {name}, or what else it is to be run with"
    return f"there is no program {name}; write the command after -- as you would type it"


def record_verb(args: argparse.Namespace) -> int:
    """Run the command and return its exit code; raise RunFailed where it ended well and nothing was recorded."""
    folder = (args.folder or new_run_path(args.out, "train", 1)).absolute()
    existed = folder.parent.exists()
    with tempfile.TemporaryDirectory(prefix="commprof-record-") as notes:
        first_step, last_step = _steps(args.steps)
        asked = Asked(
            folder=str(folder),
            notes=notes,
            experiment=args.experiment,
            dataset=args.dataset,
            samples_per_rank=args.samples_per_rank,
            bucket_cap_bytes=None if args.bucket_cap is None else parse_bytes(args.bucket_cap),
            first_step=first_step,
            last_step=last_step,
            max_steps=args.max_steps,
            trace=args.trace,
            compute_only=args.compute_only,
        )
        code = run_watched(args.command, asked)
        told = list(_notes(Path(notes)))
    failure = None if code == 0 else f"the command ended with exit code {code}"
    try:
        info = assemble(folder, failure, ("commprof", *sys.argv[1:]) if sys.argv[1:2] == ["record"] else ())
    except CommprofError as error:
        if failure is None:
            raise
        sys.stderr.write(f"commprof: {error}; {failure}\n")
        return code  # how the command itself ended is what its caller asks
    if info is None:
        _remove_empty(folder, existed)
        reason = _why_nothing(told, first_step)
        if code == 0:
            raise RunFailed(f"nothing was recorded: {reason}")
        sys.stderr.write(f"commprof: nothing was recorded: {printable(reason)}; {failure}\n")
        return code
    folder = _named_by_ranks(folder, info, keep=args.folder is not None)
    _tell(folder, info, args.samples_per_rank)
    return code


def run_watched(command: Sequence[str], asked: Asked, environ: Mapping[str, str] = os.environ) -> int:
    """Run a command whose Pythons are watched, hand signals on to it, and return its exit code as a shell does."""
    path = os.pathsep.join([str(_STARTUP), *([environ["PYTHONPATH"]] if environ.get("PYTHONPATH") else [])])
    variables = {**environ, "PYTHONPATH": path, VARIABLE: encode(asked), NOTES_VARIABLE: asked.notes}
    try:
        child = subprocess.Popen(command, env=variables)
    except OSError as error:
        raise BadInput(f"{command[0]} cannot be started: {error.strerror}") from None
    with _handing_on(child):
        code = child.wait()
    return code if code >= 0 else _SIGNALLED - code


@contextmanager
def _handing_on(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave ^C to the command, which the terminal sends it too, and pass on what only we are sent."""

    def pass_on(signum: int, _: object) -> None:
        child.send_signal(signum)

    before = {
        signum: signal.signal(signum, pass_on) for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
    }
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN if _hears_a_terminal() else pass_on)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _hears_a_terminal() -> bool:
    """Say whether ^C reaches us and the command alike; in a session of our own, as a study's stages are, no terminal's does."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _steps(text: str) -> tuple[int, int | None]:
    """Return the first step to record and the one before which to stop, from "A:B"; a process' first shows what is trained."""
    first, colon, last = text.partition(":")
    if not colon or not all(part == "" or part.isdecimal() for part in (first, last)):
        raise BadInput(f"--steps {text!r}: write A:B, such as 20:70")
    begin, end = max(1, int(first or 1)), int(last) if last else None
    if end is not None and end <= begin:
        raise BadInput(f"--steps {text}: nothing lies between {begin} and {end}; the first step, 0, shows what is trained")
    return begin, end


def _notes(folder: Path) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        yield from path.read_text(errors="replace")[:4000].splitlines()


def _why_nothing(told: Sequence[str], first_step: int) -> str:
    """Return, in one line, how far the command's processes came."""
    errors = [line.removeprefix("error ") for line in told if line.startswith("error ")]
    if errors and errors[0].startswith(_REFUSED):
        return errors[0].removeprefix(_REFUSED)
    if errors:
        return f"{errors[0][:300]}; is commprof installed in the Python that the command runs?"[:400]
    if "python" not in told:
        return (
            "the command started no Python, or one that takes no notice of PYTHONPATH (python -I, -E or -S) or is not given it "
            "(env -i, sudo, a container)"
        )
    if "torch" not in told:
        return "no Python of the command imported torch"
    if UNPASSED in told:
        return "no backward pass came before an optimizer's step: gradients of torch.autograd.grad are not seen"
    return f"no process of the command took {first_step + 1} steps of a torch optimizer"


def _remove_empty(folder: Path, parent_existed: bool) -> None:
    shutil.rmtree(folder / CARDS_FOLDER, ignore_errors=True)
    for path in (folder, *(() if parent_existed else (folder.parent,))):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _named_by_ranks(folder: Path, info: RunInfo, *, keep: bool) -> Path:
    """Return the run's folder under a name that says how many ranks it had."""
    named = folder.with_name(folder.name.replace("-n1-", f"-n{info.world_size}-"))
    if keep or named == folder or named.exists():
        return folder
    folder.rename(named)
    return named


def _tell(folder: Path, info: RunInfo, told_samples: int | None) -> None:
    steps = folder / "steps.rank00000.jsonl"
    found = list(read_records(steps, StepMeasurement)) if steps.exists() else []
    counted = [step.step_s for step in found if step.counts]
    took = f", {format_seconds(median(counted))} each in the median on rank 0," if counted else ""
    ranks = f"{info.world_size} rank{'s' if info.world_size > 1 else ''}"
    lines = [
        *info.unseen,
        *_counted(info, told_samples),
        *_threads(info),
        f"{len(found)} steps on {ranks}{took} are in {folder}",
    ]
    sys.stderr.writelines(f"commprof: {printable(line)}\n" for line in lines)


def _counted(info: RunInfo, told_samples: int | None) -> Iterator[str]:
    """Say how the samples of a step were counted, where nobody told: a sequence may come first, and a rate would be wrong."""
    if told_samples is None and info.workload is not None:
        yield (
            f"a step has {info.workload.samples_per_rank} samples on a rank, by the first dimension of what the model is "
            "called with (1 without any); where that is not the batch, say --samples-per-rank"
        )


def _threads(info: RunInfo) -> Iterator[str]:
    """Say that ranks started together have fewer threads than one alone, which takes one for every core of its host."""
    if info.world_size == 1 and info.on_cpu and info.threads_per_rank > 1:
        yield (
            f"this rank had {info.threads_per_rank} threads, of which torchrun gives each of several one: to compare with "
            "those, record it with OMP_NUM_THREADS=1 in front"
        )


VERB = Verb(
    summary="record a training that nobody changed: its steps, phases, gradients and buckets, as record_steps does",
    examples=(
        "commprof record -- python train.py",
        "commprof record --max-steps 80 -- torchrun --nproc-per-node 2 train.py",
        "commprof record --compute-only -- torchrun --nproc-per-node 2 train.py",
    ),
    add_arguments=add_record_arguments,
    check=check_record,
    run=record_verb,
)
