"""Do the files of one run agree? Each record is possible by itself when it is read; here they are held against run.json.

A node's file that was not copied, a file of another run: what was worked out from them would be wrong without a word.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from commprof.commbench.errors import BadInput
from commprof.commbench.records.contention import ContentionMeasurement
from commprof.commbench.records.links import PairMeasurement
from commprof.commbench.records.training import GradientTimeline, StepMeasurement
from commprof.commbench.records.types import CollectiveMeasurement, RunInfo
from commprof.commbench.units import printable

_STEPS_FILE = re.compile(r"steps\.rank(\d{5,9})\.jsonl")


def step_files(path: Path, info: RunInfo) -> dict[int, Path]:
    """Return a run's files of steps by rank; raise BadInput for that of a rank which the run does not have."""
    found = {int(match[1]): file for file in path.glob("steps.rank*.jsonl") if (match := _STEPS_FILE.fullmatch(file.name))}
    for rank, file in found.items():
        if rank >= info.world_size:
            raise BadInput(f"{file} is of rank {rank}, the run of {info.world_size} ranks; it belongs to another run")
    return dict(sorted(found.items()))


def check_world_size(path: Path, info: RunInfo, measured: Iterable[CollectiveMeasurement | ContentionMeasurement]) -> None:
    """Raise BadInput for measurements on another number of ranks than the run's."""
    for record in measured:
        if record.world_size != info.world_size:
            raise BadInput(
                f"{path}: `world_size` is {record.world_size}, in run.json it is {info.world_size}; restore it or run again"
            )


def check_pairs(path: Path, info: RunInfo, pairs: Iterable[PairMeasurement]) -> None:
    """Raise BadInput for pairs of ranks that the run does not have, or that one host holds: they are another run's."""
    host_of = {own.rank: own.hostname for own in info.ranks}
    for pair in pairs:
        unknown = next((rank for rank in (pair.sender, pair.receiver) if rank not in host_of), None)
        if unknown is not None:
            raise BadInput(
                f"{path} names rank {unknown}, and run.json does not; it belongs to another run: restore it or run again"
            )
        if host_of[pair.sender] == host_of[pair.receiver]:
            one = f"on one host, {printable(host_of[pair.sender])}"
            raise BadInput(
                f"{path} pairs ranks {pair.sender} and {pair.receiver}, which run.json has {one}; "
                "it belongs to another run: restore it or run again"
            )


def check_steps(path: Path, info: RunInfo, steps: Mapping[int, Sequence[StepMeasurement]]) -> None:
    """Raise BadInput where a rank's steps are not in order, or a whole run lacks the file of a rank."""
    for rank, own in steps.items():
        for before, after in pairwise(own):
            if after.step <= before.step:
                file = path / f"steps.rank{rank:05d}.jsonl"
                raise BadInput(f"{file}: `step` {after.step} follows step {before.step}; restore it or run again")
    if steps and info.status == "completed" and info.imported_from is None:
        missing = next((rank for rank in range(info.world_size) if rank not in steps), None)
        if missing is not None:
            raise BadInput(f"{path} lacks steps.rank{missing:05d}.jsonl of a rank; copy it from its node, or run again")


def check_gradients(file: Path, steps: Mapping[int, Sequence[StepMeasurement]], gradients: GradientTimeline | None) -> None:
    """Raise BadInput where the rank whose gradients were timed has no steps."""
    if gradients is not None and gradients.rank not in steps:
        missing = f"steps.rank{gradients.rank:05d}.jsonl"
        raise BadInput(f"{file}: `rank` is {gradients.rank}, and {missing} is missing; restore it or run again")
