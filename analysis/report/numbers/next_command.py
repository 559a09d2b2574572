"""Which command comes next? What is missing, measured again, or tried: made of the commands that made these runs.

Their words come from run.json: they are quoted for a shell here and made printable where they are shown.
"""

import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from commprof.analysis.report.numbers.data import Material
from commprof.analysis.report.numbers.titles import ranks
from commprof.analysis.runs.load import Run, select
from commprof.analysis.scaling.decision import Decision
from commprof.analysis.step.evidence.profiles import profile_runs
from commprof.analysis.strategies.engine.inputs import engine_runs, engine_strategy
from commprof.analysis.strategies.inputs import sharded_runs
from commprof.analysis.strategies.results import COPIES, STRATEGIES, Strategy

_OF_ITS_RANKS = ("--nproc", "--folder", "--out", "--resume")
_MOST_WORDS = 40
_MOST_RUNS = 4
_A_PROFILE = "commprof train configs/small.yaml, or your own script on one rank (docs/own-loop.md)"


def next_command(material: Material, decision: Decision) -> str:
    """Return the command, and in a few words what for."""
    profiles = profile_runs(material.runs)
    sharding = [] if material.predicted is not None else sharded_runs(material.runs) or engine_runs(material.runs)
    if sharding and material.disturbed is None:
        return _of_strategies(material, sharding)
    profiles = profiles or [run for run in sharding if run.world_size == 1]
    if not profiles:
        return f"{_A_PROFILE}{_profiled_with(material)}"
    if material.disturbed is not None or material.contradicted or material.unpredicted is not None:
        return f"{_afresh(material, profiles[-1])}: the same on a quiet machine"
    if material.predicted is None:
        return "commprof bench --nproc 2: the wire, which a prediction needs; then commprof report @train-n1 @bench-n2"
    unchecked = [own.candidate for own in decision.answers if not own.candidate.measured]
    wanted = [own for own in unchecked if decision.best is not None and own == decision.best.candidate] or unchecked
    if wanted:
        n = wanted[0].world_size
        if _would_lack_cores(material, profiles[-1], n):
            again = _again(material, profiles[-1], threads="OMP_NUM_THREADS=1")
            return f"{again}: one rank with the one thread that torchrun gives each of several"
        return f"{_again(material, profiles[-1], n)}: a run that checks what is predicted of {n} ranks"
    if not any(run.world_size > 1 for run in select(material.runs, kind="bench")):
        return "commprof bench --nproc 2: the wire, which advice needs; then commprof advise @train-n1 @bench-n2"
    if all(own.too_disturbed is not None for own in material.predicted.predictions if own.model == "schedule"):
        return f"{_afresh(material, profiles[-1])}: the same on a quiet machine"  # no saving can be told of these either
    sizes = " ".join(str(own.candidate.world_size) for own in decision.answers)
    return f"commprof advise {_named(material)} -n {sizes}: every change with what it saves, and from where on more ranks pay"


def _profiled_with(material: Material) -> str:
    """Say what the profile is for, which machine it is to be made on, and with which benches to report on it."""
    benches = select(material.runs, kind="bench")
    elsewhere = " on such a machine" if any(run.info.imported_from is not None for run in benches) else ""
    wire = _joined([_from_here(run.path) for run in benches[:_MOST_RUNS]]) or "@bench-n2"
    return f"{elsewhere}: the profile of one rank that a prediction starts from; then commprof report @train-n1 {wire}"


def _of_strategies(material: Material, sharding: Sequence[Run]) -> str:
    """Return the command that compares strategies, or what this takes: a profile, or the benches of what is sent."""
    stages = [own for own in map(engine_strategy, sharding) if own is not None][-1:]
    told = material.sharded is not None and any(not own.cannot for choice in material.sharded.choices for own in choice.answers)
    if not told and (missing := _unbenched(material, stages)):
        both = " and ".join(f"commprof bench {op} --nproc {_benched_ranks(material)}" for op in missing)
        return f"{both}: what shards send, which a prediction needs"
    if not told and not any(run.world_size == 1 for run in sharding):
        return f"{_again(material, sharding[-1])}: one rank of it, which a prediction starts from"
    ids = () if material.sharded is None else material.sharded.run_ids
    used = [run.path for run in material.runs if run.world_size == 1 or run.info.kind == "bench" or run.info.run_id in ids]
    asked = f"commprof predict {_joined([_from_here(path) for path in [*material.studies] or used])} --strategy "
    if stages:
        return f"{asked}{stages[0]}: its step on more ranks, by DeepSpeed's own schedule"
    copies = COPIES if material.sharded is None else material.sharded.copies
    replicas = "" if copies == COPIES else f" --replicas {copies}"
    return f"{asked}{','.join(STRATEGIES)}{replicas}{_of_memory(material)}"


def _of_memory(material: Material) -> str:
    """Ask which strategies fit, where all that one of them takes was measured."""
    answers = [] if material.sharded is None else [own for choice in material.sharded.choices for own in choice.answers]
    if all(own.cannot for own in answers):
        return ": what each of them lacks"
    if any(own.memory is not None and own.memory.is_all for own in answers):
        return " --memory 24G: which of them fit, and the fastest"
    return ": each one's step and memory, and what that rests on"


def _unbenched(material: Material, stages: Sequence[Strategy]) -> list[str]:
    """Return the collectives that a sharded step sends and nobody benched."""
    sent = ["all_gather", "reduce_scatter"] if not stages else ["all_gather", "all_reduce"]
    sent += ["reduce_scatter"] if stages == ["zero3"] else []
    benched = {own.op for run in select(material.runs, kind="bench") if run.world_size > 1 for own in run.collectives}
    return [op for op in sent if op not in benched]


def _benched_ranks(material: Material) -> int:
    """Return the number of ranks to bench: the most that were benched, else two."""
    return max([2, *(run.world_size for run in select(material.runs, kind="bench"))])


def _afresh(material: Material, profile: Run) -> str:
    """Return the command that measures all of it again."""
    for path, study in material.studies.items():
        return study_elsewhere(path, study.command)
    return _again(material, profile)


def study_elsewhere(path: Path, command: Sequence[str]) -> str:
    """Return the command that makes a study again in another folder, for in its own it is measured already."""
    words = list(_without(_of_a_shell(command or ("commprof", "study")), ("--out",)))
    return _joined([*words, "--out", _from_here(path.parent / "again")])


def _again(material: Material, profile: Run, world_size: int = 1, threads: str = "") -> str:
    """Return the command that measures a training like this one on so many ranks; a study's own where it is one.

    `threads` sets how many a rank of a script has, by default as many as the profile's.
    """
    for study in material.studies.values():
        return _joined(_of_a_shell(study.command))
    words = _of_a_shell(profile.info.command)
    if words[:2] == ["commprof", "train"]:
        return _joined([*_without_ranks(words), *(["--nproc", str(world_size)] if world_size > 1 else [])])
    own, script = [], words
    if words[:2] == ["commprof", "record"] and "--" in words:
        own, script = [*_without_ranks(words[: words.index("--")]), "--"], words[words.index("--") + 1 :]
    started = _on_ranks(script, world_size)
    if not started:
        return f"the same training on {ranks(world_size)}"
    return _joined([*filter(None, [threads or _threads(profile, world_size)]), *own, *started])


def _would_lack_cores(material: Material, profile: Run, world_size: int) -> bool:
    """Whether a script's profile took more threads than its host has cores for so many ranks; ours share the cores out."""
    info = profile.info
    own = not material.studies and _of_a_shell(info.command)[:2] != ["commprof", "train"]
    return own and info.on_cpu and info.threads_per_rank > 1 and world_size * info.threads_per_rank > info.cores_per_node


def _threads(profile: Run, world_size: int) -> str:
    """Return what gives each rank the threads that the profile's one had; torchrun gives one to each of several."""
    info = profile.info
    alike = info.on_cpu and (info.threads_per_rank > 1 if world_size > 1 else "OMP_NUM_THREADS" in info.environ)
    return f"OMP_NUM_THREADS={info.threads_per_rank}" if alike else ""


def _on_ranks(script: Sequence[str], world_size: int) -> list[str]:
    """Return how a script is started on so many ranks; nothing where another program than Python starts it on several."""
    program, *words = ("python", *script) if script and script[0].endswith(".py") else script or ("",)
    if not Path(program).name.startswith("python"):
        return list(script) if world_size == 1 else []
    return [program, *words] if world_size == 1 else ["torchrun", "--nproc-per-node", str(world_size), *words]


def _of_a_shell(command: Sequence[str]) -> list[str]:
    """Return a command as somebody types it: commprof by its name, wherever it is installed."""
    return ["commprof", *command[1:]] if command and Path(command[0]).name == "commprof" else list(command)


def _without_ranks(words: Sequence[str]) -> Iterator[str]:
    """Leave out where the run went and on how many ranks it was."""
    return _without(words, _OF_ITS_RANKS)


def _without(words: Sequence[str], flags: Sequence[str]) -> Iterator[str]:
    skip = False
    for word in words:
        if not skip and word.partition("=")[0] not in flags:
            yield word
        skip = word in flags


def _named(material: Material) -> str:
    """Name the runs as one types them here; many of them by the first few."""
    used = material.known or select(material.runs, kind="train")
    paths = [*material.studies] or [run.path for run in used]
    shown = [_from_here(path) for path in paths[:_MOST_RUNS]]
    return _joined(shown) + (" ..." if len(paths) > _MOST_RUNS else "")


def _from_here(path: Path) -> str:
    here = Path.cwd()
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)


def _joined(words: Sequence[str]) -> str:
    return shlex.join(words[:_MOST_WORDS]) + (" ..." if len(words) > _MOST_WORDS else "")
