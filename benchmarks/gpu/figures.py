"""One GPU, the most evidence a minute: NCCL on one and two ranks, copies, the recorder's cost and marks, trainings, lost ranks.

    make gpu                                         all three parts, 5 to 9 minutes each
    .venv/bin/python -m benchmarks.gpu.figures A     one part: A the wire, B trainings, C tests and lost ranks
    .venv/bin/python -m benchmarks.gpu.figures --cpu the same stages on a machine without a GPU: gloo, tiny sizes

Each stage is a process with a limit; one that fails or hangs costs the others nothing. Its exit code, seconds and last lines go
to gpu-NAME.md, NAME being the card's, its whole output and its runs to --work. Two ranks share the one GPU: NCCL takes them
for two hosts by NCCL_HOSTID and talks over sockets on the loopback interface.
"""

import argparse
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

from benchmarks.machine import describe_machine
from commprof.commbench.records.rundir import write_text
from commprof.commbench.units import printable

COMMPROF = str(Path(sys.executable).parent / "commprof")
KEPT_LINES = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One command of one or two ranks. `loses` is the rank that gets the signal `by` once the run has begun, None for none."""

    name: str
    part: str
    limit_s: float
    words: tuple[str, ...]
    ranks: int = 1
    loses: int | None = None
    by: signal.Signals = signal.SIGSTOP


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a stage ended: exit codes by rank (None: killed at the limit), seconds, the first rank's last lines."""

    stage: Stage
    codes: tuple[int | None, ...]
    seconds: float
    lines: tuple[str, ...]


def stages(work: Path, *, gpu: bool) -> Iterator[Stage]:
    """Yield every stage; without a GPU the same with gloo and small sizes."""
    yield from _wire(work, gpu=gpu)
    yield from _trainings(work, gpu=gpu)
    yield from _ends(work, gpu=gpu)


def _wire(work: Path, *, gpu: bool) -> Iterator[Stage]:
    backend = ("--backend", "nccl" if gpu else "gloo")
    large, few = ("256M", "20") if gpu else ("64K", "2")
    modes = ("--mode", "isolated,pipelined")

    def bench(name: str, *words: str, ranks: int = 1) -> Stage:
        folder = ("--folder", str(work / name))
        return Stage(
            name=name, part="A", limit_s=90, ranks=ranks, words=(COMMPROF, "bench", *words, *backend, "-n", few, *folder)
        )

    yield Stage(name="env", part="A", limit_s=30, words=(COMMPROF, "env"))
    yield bench("one-rank", "-b", "8", "-e", large, "-f", "8", "--place", "in", *modes)
    if gpu:
        yield bench("graph", "-b", "8", "-e", "1M", "-f", "8", "--place", "in", "--mode", "pipelined", "-G")
    yield bench("gather", "all_gather", "-b", large, "-e", large, "--place", "out", "--hot", *modes)
    yield bench("two-ranks", "-b", "1M", "-e", "4M", "--mode", "isolated,pipelined,burst", "--buckets", "8M", ranks=2)
    yield _measure("clock", "A", gpu=gpu)
    yield _measure("collectives", "A", ranks=2, gpu=gpu)
    sizes = ("-e", "1M" if gpu else "16K", "-f", "1024", "-n", few)
    links = (COMMPROF, "links", *backend, *sizes, "--folder", str(work / "links"))
    yield Stage(name="links", part="A", limit_s=90, ranks=2, words=links)
    contention = (COMMPROF, "contention", *backend, "-b", "1M", "-e", "1M", "-n", "3", "--folder", str(work / "contention"))
    yield Stage(name="contention", part="A", limit_s=90, ranks=2, words=contention)
    if gpu:
        copies = (sys.executable, "-m", "benchmarks.host_device_copies", "--repeats", "3", "--out", str(work))
        yield Stage(name="copies", part="A", limit_s=150, words=copies)
    yield _measure("recorder", "A", gpu=gpu, limit_s=180)


def _trainings(work: Path, *, gpu: bool) -> Iterator[Stage]:
    backend = "nccl" if gpu else "gloo"
    for model in ("small", "large", "gpt-124m") if gpu else ("small",):
        for precision in ("float32", "bfloat16") if gpu else ("float32",):
            name = f"{model}-{precision}"
            num_steps = 40 if model == "gpt-124m" else 200 if gpu else 12
            keys = (
                f"training.max_steps={num_steps}", f"training.precision={precision}", "training.evaluate=false",
                f"distributed.backend={backend}", f"data.cache_dir={work / 'cache'}",
                *(() if gpu else ("training.batch_size=2", "model.sequence_length=16")),
            )  # fmt: skip
            folder = str(work / name)
            train = (COMMPROF, "train", f"configs/{model}.yaml", *keys, "--folder", folder)
            yield Stage(name=name, part="B", limit_s=120, words=train)
            yield Stage(name=f"trace-{name}", part="B", limit_s=60, words=(COMMPROF, "trace", folder))
            if gpu:
                wire = str(work / "h100x8-nvlink")
                if model == "small" and precision == "float32":
                    words = (COMMPROF, "import", "--preset", "h100x8-nvlink", "--folder", wire)
                    yield Stage(name="import", part="B", limit_s=30, words=words)
                predict = (COMMPROF, "predict", folder, wire, "-n", "8")
                yield Stage(name=f"predict-{name}", part="B", limit_s=60, words=predict)
    yield from _exchanging(work, backend, gpu=gpu)
    yield _measure("marks", "B", ranks=2, gpu=gpu)


def _exchanging(work: Path, backend: str, *, gpu: bool) -> Iterator[Stage]:
    """Yield trainings of two ranks, which share the card, and what their traces say."""
    for strategy in ("ddp", "fsdp"):
        name = f"two-ranks-{strategy}"
        keys = (
            f"distributed.strategy={strategy}", f"distributed.backend={backend}", "training.evaluate=false",
            f"training.max_steps={60 if gpu else 12}", f"data.cache_dir={work / 'cache'}",
            *(() if gpu else ("training.batch_size=2", "model.sequence_length=16")),
        )  # fmt: skip
        folder = str(work / name)
        words = (COMMPROF, "train", "configs/small.yaml", *keys, "--folder", folder)
        yield Stage(name=name, part="B", limit_s=60, ranks=2, words=words)
        yield Stage(name=f"trace-{name}", part="B", limit_s=30, words=(COMMPROF, "trace", folder))


def _ends(work: Path, *, gpu: bool) -> Iterator[Stage]:
    tests = "tests/gpu" if gpu else "tests/unit/commbench/test_timing.py"
    words = (sys.executable, "-m", "pytest", "-q", tests, "-o", "filterwarnings=default", "-p", "no:cacheprovider")
    yield Stage(name="tests", part="C", limit_s=420, words=words)
    backend = ("--backend", "nccl" if gpu else "gloo", "--timeout", "20" if gpu else "8")
    for name, rank, by in (("lost-1", 1, signal.SIGSTOP), ("lost-0", 0, signal.SIGSTOP), ("killed-1", 1, signal.SIGKILL)):
        bench = (COMMPROF, "bench", "-b", "1M", "-e", "1M", "-n", "50000", *backend, "--folder", str(work / name))
        yield Stage(name=name, part="C", limit_s=120, ranks=2, loses=rank, by=by, words=bench)


def _measure(name: str, part: str, *, gpu: bool, ranks: int = 1, limit_s: float = 120) -> Stage:
    """Return a stage that is a module beside this one."""
    words = (sys.executable, "-m", f"benchmarks.gpu.{name}", "cuda" if gpu else "cpu")
    return Stage(name=name, part=part, limit_s=limit_s, ranks=ranks, words=words)


def run(stage: Stage, work: Path) -> Outcome:
    """Run a stage to its end or its limit; its output goes to files below `work`."""
    begin_s = time.monotonic()
    logs = [work / f"{stage.name}.rank{rank}.log" for rank in range(stage.ranks)]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        processes += (_start(stage, rank, log) for rank, log in enumerate(logs))
        if stage.loses is not None:
            _lose_one(stage, processes, work / stage.name / "telemetry.jsonl")
        end_s = begin_s + stage.limit_s
        survivors = [process for rank, process in enumerate(processes) if rank != stage.loses]
        codes = [_wait(process, end_s - time.monotonic()) for process in survivors]
        seconds = time.monotonic() - begin_s
    finally:  # also of whoever is told to stop: its ranks have sessions of their own
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    told = logs[1 if stage.loses == 0 else 0].read_text(errors="replace").splitlines()
    if any(codes) and len(logs) > 1 and stage.loses is None:
        told += logs[1].read_text(errors="replace").splitlines()[-3:]
    return Outcome(stage=stage, codes=tuple(codes), seconds=seconds, lines=tuple(map(printable, told[-KEPT_LINES:])))


def _start(stage: Stage, rank: int, log: Path) -> "subprocess.Popen[bytes]":
    environ = {**os.environ, "OMP_NUM_THREADS": "1", **(_two_hosts(stage, rank) if stage.ranks > 1 else {})}
    with log.open("wb") as output:
        return subprocess.Popen(stage.words, stdout=output, stderr=subprocess.STDOUT, env=environ, start_new_session=True)


def _two_hosts(stage: Stage, rank: int) -> dict[str, str]:
    place = {"RANK": str(rank), "WORLD_SIZE": str(stage.ranks), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    nccl = {"NCCL_HOSTID": f"host{rank}", "NCCL_SOCKET_IFNAME": "lo", "NCCL_IB_DISABLE": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return {**place, **nccl, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_port_of(stage.name))}


_PORTS: dict[str, int] = {}


def _port_of(name: str) -> int:
    if name not in _PORTS:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            _PORTS[name] = probe.getsockname()[1]
    return _PORTS[name]


def _lose_one(stage: Stage, processes: Sequence["subprocess.Popen[bytes]"], sampled: Path) -> None:
    """Stop or kill a rank once the run is under way: its telemetry has a second sample then."""
    assert stage.loses is not None
    end_s = time.monotonic() + stage.limit_s / 2
    while time.monotonic() < end_s and all(process.poll() is None for process in processes):
        if sampled.exists() and sampled.read_bytes().count(b"\n") >= 3:
            os.kill(processes[stage.loses].pid, stage.by)
            return
        time.sleep(0.2)


def _wait(process: "subprocess.Popen[bytes]", limit_s: float) -> int | None:
    try:
        return process.wait(max(0.1, limit_s))
    except subprocess.TimeoutExpired:
        return None


def as_text(card: str, outcomes: Sequence[Outcome]) -> str:
    """Lay out a result: the machine, the versions, then every stage with what it said last."""
    versions = {"Python": platform.python_version(), "torch": torch.__version__, "commprof": metadata.version("commprof")}
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    nccl = ".".join(map(str, torch.cuda.nccl.version())) if torch.cuda.is_available() else "none"  # type: ignore[no-untyped-call]
    lines = [
        f"# {card}",
        "",
        describe_machine(),
        f"- {told}, NCCL {nccl}",
        "",
        "| stage | exit codes | seconds |",
        "|---|---|---|",
    ]
    for outcome in outcomes:
        codes = ", ".join("killed at its limit" if code is None else str(code) for code in outcome.codes)
        lines.append(f"| {outcome.stage.name} | {codes} | {outcome.seconds:.0f} |")
    for outcome in outcomes:
        lines += ["", f"## {outcome.stage.name}", "", *(f"    {line}".rstrip() for line in outcome.lines)]
    return "\n".join(lines) + "\n"


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chosen", nargs="*", metavar="PART|STAGE", help="A, B, C or stages by name (all)")
    parser.add_argument("--cpu", action="store_true", help="without a GPU: what the stages do, and no figure of worth")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="where the result goes")
    parser.add_argument("--work", type=Path, metavar="DIR", help="where logs and runs stay (a folder of the system's, removed)")
    args = parser.parse_args(words)
    if not args.cpu and not torch.cuda.is_available():
        sys.stderr.write("gpu: error: torch sees no NVIDIA GPU here; run this on a machine that has one, or try --cpu\n")
        return 2
    if not Path(COMMPROF).exists():
        sys.stderr.write(
            f"gpu: error: {COMMPROF} is missing; {sys.executable} -m pip install --editable '.[dev]' puts it there\n"
        )
        return 2
    known = {name for stage in stages(Path(), gpu=not args.cpu) for name in (stage.name, stage.part)}
    if unknown := set(args.chosen) - known:
        sys.stderr.write(f"gpu: error: no part or stage is named {' '.join(sorted(unknown))}\n")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with ExitStack() as stack:
        work = args.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="commprof-gpu-")))
        work.mkdir(parents=True, exist_ok=True)
        chosen = [s for s in stages(work, gpu=not args.cpu) if not args.chosen or {s.name, s.part} & set(args.chosen)]
        return run_all(chosen, work, args.out, "A rehearsal without a GPU" if args.cpu else torch.cuda.get_device_name())


def run_all(chosen: Sequence[Stage], work: Path, out: Path, card: str) -> int:
    """Run stages one after the other, write what they said, and return 0 where all ended as they should."""
    outcomes: list[Outcome] = []
    for stage in chosen:
        outcomes.append(run(stage, work))
        sys.stdout.write(f"{stage.name}: {outcomes[-1].codes}, {outcomes[-1].seconds:.0f} s\n")
        sys.stdout.flush()
        name = "-".join(re.findall(r"[a-z0-9]+", card.lower()))
        write_text(out / f"gpu-{name}.md", as_text(card, outcomes))  # after each: a session may end early
    expected = {stage.name: (1,) if stage.loses is not None else (0,) * stage.ranks for stage in chosen}
    return int(any(outcome.codes != expected[outcome.stage.name] for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
