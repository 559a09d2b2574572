"""Every command in a block of the documents, and in the index' rows: run as it stands there, or named here with what runs it.

A block is run from its first line to its last, in a folder of its own that holds the runs that it names. README, the first
ten minutes and the guide are run by tests/distributed/test_examples.py.
"""

import glob
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from commprof.cli import main, parser_of, verb_named
from tests import ROOT
from tests.factory import step, timeline, write_bench_run, write_training_run
from tests.traces import header, write_trace
from tests.unit.analysis.imports.test_traced_training import traced_rank

DOCS = ROOT / "docs"
EXAMPLES_PY = {"first-ten-minutes.md", "optimization-guide.md"}
OTHER_LANGUAGES = {"python", "text"}
BY_ROW = {"README.md", "results/newcomer-tasks.md"}  # of their tables: a row's commands follow one another
STARTS_RANKS = "starts ranks; tests/distributed/"
NOT_HERE: Mapping[str, str] = {
    "commprof bench --nproc 2": STARTS_RANKS + "test_bench.py",
    "commprof bench --nproc 2 -b 8 -e 64M": STARTS_RANKS + "test_examples.py",
    "commprof bench --nproc 4": STARTS_RANKS + "test_bench.py",
    "commprof links --nproc 4": STARTS_RANKS + "test_links.py",
    "OMP_NUM_THREADS=1 commprof record -- python train.py": STARTS_RANKS + "test_record.py",
    "commprof record -- torchrun --nproc-per-node 2 train.py": STARTS_RANKS + "test_record.py",
    "commprof record --compute-only -- torchrun --nproc-per-node 2 train.py": STARTS_RANKS + "test_record.py",
    'commprof study --script "python train.py --lr 1e-3" --world-sizes 1 2 4': STARTS_RANKS + "test_study_script.py",
    "commprof train configs/small.yaml --nproc 2 training.accumulation=4 distributed.communication_hook=bf16": (
        STARTS_RANKS + "test_training_options.py"
    ),
    "torchrun --nproc-per-node 8 --no-python commprof train configs/gpt-124m.yaml distributed.backend=nccl "
    "training.max_steps=200": "takes eight GPUs; two ranks of torchrun --no-python in tests/distributed/test_bench.py",
    "srun --gres=gpu:1 --time=5 $VENV/bin/commprof env": "takes SLURM and a GPU; without one in tests/slurm/test_steps.py",
    "srun --nodes=2 --ntasks-per-node=8 --gres=gpu:8 --kill-on-bad-exit $VENV/bin/commprof bench -e 1G --out $OUT": (
        "takes SLURM and 16 GPUs; two ranks on the host in tests/slurm/test_steps.py"
    ),
}
STAND_INS = {"slurm-<job id>": "slurm-2", "slurm-<profile>": "slurm-1", "slurm-<bench>": "slurm-2"}  # a job's number
CHECK_SAYS_NO = 3
STEPS = [step(number) for number in range(20)]
GRADIENTS = timeline([("head", 1_000_000, 0.02), ("embedding", 3_000_000, 0.06)], backward_s=0.06)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandBlock:
    """The commands that a page shows one after the other."""

    page: str
    commands: tuple[str, ...]


def blocks() -> Iterator[CommandBlock]:
    """Yield every page's blocks of shell lines that hold commands of ours, and the rows of tables that are read as such."""
    for path in sorted(DOCS.glob("**/*.md")):
        page, text = str(path.relative_to(DOCS)), path.read_text("utf-8")
        fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        shown = [] if page in EXAMPLES_PY else [typed(own) for language, own in fenced if language not in OTHER_LANGUAGES]
        if page in BY_ROW:
            rows = (re.findall(r"`(commprof [a-z-]+ [^`]+)`", line) for line in text.splitlines() if line.startswith("| "))
            shown += [[own for own in row if "..." not in own and own.split()[-1] != "--preset"] for row in rows]
        yield from (CommandBlock(page=page, commands=tuple(own)) for own in shown if own)


def typed(block: str) -> list[str]:
    """Return a block's commands, without prompts' output and comments; `&&` stands between two."""
    lines = [re.sub(r"\s+#.*", "", line) for line in block.replace("\\\n", " ").splitlines() if "`" not in line]
    parts = [part.strip() for line in lines for part in line.split(" && ")]
    return [part for part in parts if re.search(r"^(?!commprof:|from ).*\bcommprof [a-z]", part)]


BLOCKS = tuple({block.commands: block for block in blocks()}.values())
TO_RUN = [block for block in BLOCKS if not set(block.commands) <= set(NOT_HERE)]


def write_ddp_traces(folder: Path, name: str = "rank{}.json.gz", late: float = 10.0) -> None:
    for rank in range(2):
        write_trace(folder / name.format(rank), traced_rank(late * rank), header(rank))


def traced_runs(home: Path) -> None:
    """Runs that were traced, one of them with a bench of its wire, and a job's traces alone."""
    for name in ("TRAIN", "BEFORE", "AFTER", "A", "B"):
        own = write_training_run(home / "runs" / name, STEPS, world_size=2, gradients=GRADIENTS, backend="nccl")
        write_ddp_traces(own / "traces", "rank0000{}.trace.json.gz", late=5.0 if name == "AFTER" else 10.0)
    write_bench_run(home / "runs" / "BENCH", 1e-4, 1e9, backend="nccl")
    write_ddp_traces(home / "traces")
    write_ddp_traces(home)
    (home / "ours.csv").write_text("pattern,operation,library,source\nmy_other,all_gather,ours,ours\n")


def own_training(home: Path) -> None:
    """What the blocks' recordings and benches leave: a profile, benches of 2 and 4 ranks, and two ranks that send nothing."""
    runs = home / "runs"
    write_training_run(runs / "20260101-train-n1-a", STEPS, gradients=GRADIENTS)
    write_training_run(runs / "20260101-train-n2-b", STEPS, world_size=2, synchronised=False, gradients=GRADIENTS)
    for n in (2, 4):
        write_bench_run(runs / f"20260101-bench-n{n}-c", 1e-4, 1e9, world_size=n)


def jobs(home: Path) -> None:
    write_training_run(home / "out" / "slurm-1", STEPS, gradients=GRADIENTS)
    write_bench_run(home / "out" / "slurm-2", 1e-4, 1e9)


def newcomers(home: Path) -> None:
    """A profile and a bench, a training before and after a change, a profile made on a GPU, traces, a table."""
    traced_runs(home)
    for name in ("BEFORE", "AFTER"):
        (home / name).symlink_to(home / "runs" / name)
    for name in ("TRAIN", "A", "B", "BENCH"):
        (home / "runs" / name).rename(home / name.lower())
    own_training(home)
    gpu = {"backend": "nccl", "started_at": "2025-01-01T00:00:00+00:00"}
    write_training_run(home / "runs" / "GPU_PROFILE", STEPS, gradients=GRADIENTS, **gpu)
    (home / "table.csv").write_text("n_gpus,throughput\n1,100\n2,190\n4,370\n")


HOMES: Mapping[str, Callable[[Path], None]] = {
    "README.md": newcomers,
    "results/newcomer-tasks.md": newcomers,
    "hpc-setup.md": jobs,
    "own-loop.md": own_training,
    "traces.md": traced_runs,
}


@pytest.mark.parametrize("block", TO_RUN, ids=lambda own: f"{own.page}: {'; '.join(own.commands)}")
def test_a_block_runs_as_it_stands(block: CommandBlock, tmp_path: Path, undrawn: None, monkeypatch: pytest.MonkeyPatch) -> None:
    here = [command for command in block.commands if command not in NOT_HERE]
    assert block.page in HOMES, f"nothing makes the runs that docs/{block.page} names: {here}"
    HOMES[block.page](tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUT", "out")
    for command in here:
        verb, *words = words_here(command)
        assert main([verb, *words]) in ((0, CHECK_SAYS_NO) if verb == "check" else (0,)), command


def words_here(command: str) -> list[str]:
    """Return what a shell would hand to commprof, with numbers of jobs in place of what stands for them."""
    text = command.partition("commprof ")[2]
    for name, stand_in in STAND_INS.items():
        text = text.replace(name, stand_in)
    words = shlex.split(os.path.expandvars(text))
    return [found for word in words for found in (sorted(glob.glob(word)) or [word])]


@pytest.mark.parametrize("command", NOT_HERE)
def test_the_words_of_what_is_not_run_are_accepted(command: str) -> None:
    name, *words = shlex.split(command.partition("commprof ")[2])
    parser_of(name, verb_named(name)).read(words)


def test_what_is_not_run_here_is_shown_and_run_elsewhere() -> None:
    shown = {command for block in BLOCKS for command in block.commands}
    assert set(NOT_HERE) <= shown
    named = {name for reason in NOT_HERE.values() for name in re.findall(r"tests/[\w/.]+\w", reason)}
    assert {name for name in named if not (ROOT / name).exists()} == set()
