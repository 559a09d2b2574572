"""Did a script's recording give what its stage is for? And what in the script ended it, where it did not?"""

import re
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from commprof.commbench.errors import RunFailed
from commprof.commbench.records.rundir import RUN_FILE, read_info
from commprof.commbench.records.training_kind import KIND_NAMES
from commprof.launch import launch

# How Python ends a traceback, behind torch's [rank0]: if need be; torchrun's own names no reason.
_RAISED = re.compile(r"(?:\[rank\d+\]:\s*)?((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit): \S.*)")
_NOTHING = "commprof: nothing was recorded: "


def run_recorded(
    command: Sequence[str], run: Path, world_size: int, *, environ: Mapping[str, str], log: IO[str], show: Callable[[str], None]
) -> None:
    """Run a command that records a script into `run`; raise RunFailed with the script's own reason, or for other ranks."""
    raised: list[str] = []
    nothing: list[str] = []

    def on_line(line: str) -> None:
        text = line.strip()
        show(text)
        if not raised and (found := _RAISED.match(text)):
            raised.append(found[1][:300])
        if text.startswith(_NOTHING):
            nothing.append(text.removeprefix(_NOTHING))

    try:
        launch(command, run, environ=environ, log=log, on_line=on_line, orphaned=signal.SIGTERM)
    except RunFailed as error:
        reason = next(iter(nothing), None) or failure_of(run) or str(error)
        raise RunFailed(f"{reason} ({raised[0]})" if raised else reason) from None
    if missing := missing_ranks(run, world_size):
        raise RunFailed(missing)


def missing_ranks(run: Path, world_size: int) -> str | None:
    """Say what is wrong with a run of other ranks than were started; None of one that has them all."""
    found = read_info(run).world_size
    if found == world_size:
        return None
    return (
        f"of {world_size} ranks that were started {found} trained together; does the script call init_process_group and "
        "wrap its model where WORLD_SIZE says so?"
    )


def exchanged_as_ever(run: Path) -> str | None:
    """Say of a run whose ranks were to send nothing that they did, and what that leaves; None of one whose ranks did not."""
    work = read_info(run).workload
    if work is None or not work.synchronised:
        return None
    name = "this training" if work.kind is None else KIND_NAMES[work.kind]
    return (
        f"its ranks exchanged as ever, for {name} as it is here cannot be kept from it; predictions rest on one rank's profile"
    )


def failure_of(run: Path) -> str | None:
    """Return what ended a run, as it is marked: without where it lies, which a study changes; None where nothing says."""
    return read_info(run).failure if (run / RUN_FILE).exists() else None
