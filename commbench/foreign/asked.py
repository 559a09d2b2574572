"""What `commprof record` wants of the processes that its command starts: it travels in one variable of their environment."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

VARIABLE = "COMMPROF_RECORD"
NOTES_VARIABLE = "COMMPROF_RECORD_NOTES"
UNPASSED = "unpassed"  # the note of a process whose optimizer took a step before any backward pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """`folder` is the run's; `notes` a folder in which each process says what it is, for words where nothing was recorded.

    Steps from `first_step` on and before `last_step` are recorded, counted from 0; after `max_steps` the training is ended.
    """

    folder: str
    notes: str
    experiment: str | None = None
    dataset: str | None = None
    samples_per_rank: int | None = None
    bucket_cap_bytes: int | None = None
    first_step: int = 1
    last_step: int | None = None
    max_steps: int | None = None
    trace: bool = False
    compute_only: bool = False


def encode(asked: Asked) -> str:
    return msgspec.json.encode(asked).decode()


def decode(environ: Mapping[str, str] = os.environ) -> Asked:
    """Return what is asked for; raise msgspec.MsgspecError for a variable that no `commprof record` wrote."""
    return msgspec.json.decode(environ[VARIABLE], type=Asked)


def note(asked: Asked, text: str) -> None:
    """Leave a word for `commprof record`; on another host its folder is not there, and nobody asks for it."""
    with contextlib.suppress(OSError), open(os.path.join(asked.notes, str(os.getpid())), "a") as file:
        file.write(text + "\n")
