"""Where does the merged trace go? Into one file, an event a line, written as it is made: memory does not grow with it."""

from collections.abc import Iterable
from io import BufferedWriter
from pathlib import Path
from typing import IO

import msgspec
from isal import igzip

from commprof.analysis.traces.one_rank.files import find_traces, folder_of_traces
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import replacing

_BUFFER_BYTES = 2**18


def check_timeline_path(path: Path, inputs: Iterable[Path]) -> None:
    """Raise BadInput for a file that no viewer would take, or that would replace a trace or be read as one."""
    inputs = list(inputs)
    if not path.name.endswith((".json", ".json.gz")):
        raise BadInput(f"--perfetto {path} must end in .json or .json.gz")
    if path.is_dir():
        raise BadInput(f"--perfetto {path} is a folder; name a file")
    target = path.resolve()
    if any(target == own.resolve() for own in find_traces(inputs)):
        raise BadInput(f"--perfetto {path} would replace a trace that is read; name another file")
    if any(own.is_dir() and target.parent == folder_of_traces(own).resolve() for own in inputs):
        raise BadInput(f"--perfetto {path} would be taken for a rank's trace the next time; choose another folder")


def write_timeline(path: Path, events: Iterable[object]) -> int:
    """Write events as a Chrome trace, packed where the name ends in .gz; return how many. Raises BadInput where it cannot."""
    try:
        with replacing(path) as file:
            if path.suffix != ".gz":
                return _write(file, events)
            with (
                igzip.IGzipFile(fileobj=file, filename="", mode="wb", mtime=0) as packed,  # type: ignore[no-untyped-call]
                BufferedWriter(packed, _BUFFER_BYTES) as buffered,
            ):
                return _write(buffered, events)
    except OSError as error:
        raise BadInput(f"--perfetto {path} cannot be written: {error.strerror}") from error


def _write(file: IO[bytes] | BufferedWriter, events: Iterable[object]) -> int:
    encode = msgspec.json.Encoder().encode
    number = 0
    file.write(b'{"traceEvents":[')
    for number, event in enumerate(events, 1):
        file.write((b"\n" if number == 1 else b",\n") + encode(event))
    file.write(b"\n]}\n")
    return number
