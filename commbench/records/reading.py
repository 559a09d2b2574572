"""Files that anybody may have written: only regular ones are opened, none is read beyond a bound, all are decoded strictly.

Whatever such a file holds, what comes out is a value of the type asked for or a BadInput of one line.
"""

import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, TypeVar, get_args, get_origin

import msgspec

from commprof.commbench.errors import BadInput

T = TypeVar("T")

_decoder: Any = lru_cache(maxsize=64)(msgspec.json.Decoder)  # takes longer to make than a record to decode


def open_regular(path: Path) -> IO[bytes]:
    """Open a file for reading; raise BadInput where it cannot be, or is a folder, a device or a pipe, which has no end."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe without a writer would never open
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:  # a NUL byte in the name
        raise BadInput(f"cannot read {path}: {error}") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise BadInput(f"cannot read {path}: it is not a file; restore it")
    return os.fdopen(handle, "rb")


def read_bounded(path: Path, max_bytes: int, role: str = "a file commprof wrote") -> bytes:
    """Return a file's content; raise BadInput where it cannot be read, or is larger than what has its role."""
    with open_regular(path) as file:
        try:
            content = file.read(max_bytes + 1)
        except OSError as error:
            raise BadInput(f"cannot read {path}: {error.strerror}") from None
    if len(content) > max_bytes:
        raise BadInput(f"{path} is larger than {max_bytes} bytes; this is not {role}")
    return content


def decode(content: bytes, record_type: type[T], place: str) -> T:
    """Decode JSON strictly into a type, the laws of its quantities included; raise BadInput naming the place and the field."""
    try:
        found: T = _decoder(record_type).decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{place} is not a valid {name_of(record_type)}: {_reason(error)}; restore it or run again") from None
    return found


def name_of(record_type: Any) -> str:  # noqa: ANN401  a type, or a generic such as tuple[HostInfo, ...]
    """Name a type as the documents do: `tuple[HostInfo, ...]` is a list of HostInfo."""
    inner = get_args(record_type)
    if get_origin(record_type) in (tuple, list):
        return f"list of {name_of(inner[0])}"
    return name_of(inner[0]) if hasattr(record_type, "__metadata__") else str(getattr(record_type, "__name__", record_type))


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start + 1} of a text is not UTF-8"
    return "it is nested without end" if isinstance(error, RecursionError) else str(error)
