"""`commprof quickstart`: which few commands answer me, with what I have? Asked at a terminal, or said as an argument."""

import argparse
import sys
from dataclasses import dataclass

from commprof.commbench.errors import BadInput
from commprof.commbench.verb import Verb

_LONGEST_ANSWER = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What somebody has, the few commands for it, each with what it gives, and the page that says more."""

    have: str
    commands: tuple[tuple[str, str], ...]
    more: str


WAYS = {
    "throughputs": Way(
        have="throughputs or step times measured at a few numbers of GPUs",
        commands=(
            ("printf 'n_gpus,throughput\\n1,100\\n2,190\\n4,370\\n' > table.csv", "your own numbers, in samples per second"),
            ("commprof extrapolate table.csv -n 8 16", "other N with a 90 % interval, or why that cannot be told"),
            ("commprof fit --times 1=19.53 4=42.34", "or from seconds for the same work: what was lost, and to what"),
        ),
        more="docs/method.md",
    ),
    "script": Way(
        have="a training script in PyTorch",
        commands=(
            ("commprof record --max-steps 80 -- python train.py", "one rank; nothing in the script is changed"),
            ("commprof bench --nproc 2", "the wire between 2 ranks of this machine"),
            ("commprof report @train-n1 @bench-n2", "2: yes or no, by how much, why, and what to change"),
        ),
        more="docs/own-loop.md",
    ),
    "sharded": Way(
        have="a training whose model is sharded (fully_shard), or is to be",
        commands=(
            ("commprof record --max-steps 80 -- python train.py", "one rank, sharded over itself or not sharded at all"),
            ("commprof bench all_gather --nproc 2 --folder runs/gather", "what 2 ranks of this machine send for it"),
            ("commprof bench reduce_scatter --nproc 2 --folder runs/reduce", "the other half of it"),
            (
                "commprof predict @train-n1 runs/gather runs/reduce --strategy fsdp,zero2",
                "the step of each on 2 ranks, what of it is communication, a rank's memory",
            ),
        ),
        more="docs/method.md",
    ),
    "traces": Way(
        have="torch.profiler traces of a DDP job, one a rank",
        commands=(
            ("commprof trace rank0.json.gz rank1.json.gz", "where each step's time went on every rank, and who is late"),
            ("commprof import rank0.json.gz rank1.json.gz --folder runs/traced", "the same as a profile for predictions"),
            (
                "commprof bench --nproc 2 && commprof report runs/traced @bench-n2",
                "the wire, and with it the step at 2: yes or no, by how much, why",
            ),
        ),
        more="docs/traces.md",
    ),
    "cluster": Way(
        have="a SLURM cluster, no training yet",
        commands=(
            ("sbatch --nodes=2 --gres=gpu:8 slurm/bench.sbatch", "the wire between two nodes of 8 GPUs"),
            ("sbatch --gres=gpu:1 slurm/train.sbatch configs/small.yaml", "one rank: the profile"),
            ("commprof report @train-n1 @bench-n16", "16: yes or no, by how much, why, and what to change"),
        ),
        more="docs/hpc-setup.md",
    ),
}

_HAVE = f"one of {', '.join(WAYS)}"


def add_quickstart_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("have", nargs="?", choices=tuple(WAYS), metavar="HAVE", help=f"what you have: {_HAVE} (asked for)")


def check_quickstart(args: argparse.Namespace) -> None:
    """Raise BadInput where nothing was said and nobody is there to be asked."""
    if args.have is None and not sys.stdin.isatty():
        raise BadInput(f"say what you have, {_HAVE}: commprof quickstart script")


def quickstart(args: argparse.Namespace) -> int:
    """Print the commands for what there is."""
    sys.stdout.write(_told(WAYS[args.have or _ask()]))
    return 0


def _ask() -> str:
    """Ask at the terminal until one of the ways is meant, by its number or by how its name begins."""
    names = tuple(WAYS)
    sys.stderr.write("What do you have?\n")
    sys.stderr.writelines(f"  {number}  {name:12}{WAYS[name].have}\n" for number, name in enumerate(names, 1))
    while True:
        sys.stderr.write(f"1 to {len(names)}: ")
        sys.stderr.flush()
        line = sys.stdin.readline(_LONGEST_ANSWER)
        if not line:
            raise BadInput(f"nothing was answered; say what you have, {_HAVE}: commprof quickstart script")
        answer = line.strip().lower()
        chosen = [name for number, name in enumerate(names, 1) if answer and (answer == str(number) or name.startswith(answer))]
        if len(chosen) == 1:
            return chosen[0]


def _told(way: Way) -> str:
    steps = "".join(f"\n{number}. {what}\n   {command}\n" for number, (command, what) in enumerate(way.commands, 1))
    return f"With {way.have}:\n{steps}\nMore: {way.more}. commprof ls lists what has been measured.\n"


VERB = Verb(
    summary="print the few commands that answer you, for what you have: a script, traces, throughputs, a cluster",
    examples=("commprof quickstart throughputs", "commprof quickstart script"),
    add_arguments=add_quickstart_arguments,
    check=check_quickstart,
    run=quickstart,
)
