"""A rank that holds at a phase: it has written its process id to `held.RANK` in the command's folder, and goes on once somebody
has opened `go.RANK` for writing.
"""

import os
from pathlib import Path
from typing import Any

import torch.distributed as dist

from commprof.commbench.bench import run as _bench  # noqa: F401
from commprof.commbench.bench import timer
from commprof.commbench.contention import overlap
from commprof.commbench.links import copies
from commprof.commbench.ranks import keeper, runtime, session
from commprof.train import loop
from tests.faults.grid import START_S

FOLDER, PHASE = "FAULT_FOLDER", "FAULT_PHASE"


def hold_at(phase: str) -> None:
    if phase == "loading":
        hold()
    elif phase == "meeting":
        before(runtime, "meet")
    elif phase == "set-up":
        before(session, "_describe_hosts")
    elif phase == "measuring":
        before(timer.CallTimer, "_exchange")
        before(copies, "time_calls")
        before(overlap, "gather_values")
        before(loop, "train_step")
    elif phase == "teardown":
        before(dist, "destroy_process_group")


def before(home: Any, name: str) -> None:  # noqa: ANN401
    """Hold before a function is called for the first time."""
    called = getattr(home, name)

    def held(*args: Any, **named: Any) -> Any:  # noqa: ANN401
        setattr(home, name, called)
        hold()
        return called(*args, **named)

    setattr(home, name, held)


def hold() -> None:
    """Say that this rank has come to the phase, and wait to be let go."""
    folder, rank = Path(os.environ[FOLDER]), os.environ["RANK"]
    os.mkfifo(folder / f"go.{rank}")
    (folder / f"held.{rank}.part").write_text(str(os.getpid()))
    (folder / f"held.{rank}.part").rename(folder / f"held.{rank}")
    os.close(os.open(folder / f"go.{rank}", os.O_RDONLY))


def come_up_soon() -> None:
    """Give ranks as long to come up as the grid waits for, instead of half a minute."""
    keeper._LEAST_START_S = START_S
