"""A run on disk: `runs/<UTC>-<kind>-n<world>-<hex>/`.

    run.json          RunInfo, replaced atomically when the run ends
    run.lock          who writes it (ownership.py)
    *.jsonl           raw records, append-only: complete up to the last line even after a crash
    gradients.json    single documents, atomic
    traces/ logs/     other programs' files
    analysis/         everything derived; may be deleted

Readers may look while the run is in progress: a last line without its newline is not there yet.
"""

import errno
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

import msgspec

from commprof.commbench.errors import BadInput, RunFailed
from commprof.commbench.records.masking import masked, masked_command, masked_variables
from commprof.commbench.records.ownership import LOCK_FILE, Ownership, take
from commprof.commbench.records.reading import decode, open_regular, read_bounded
from commprof.commbench.records.types import SCHEMA_VERSION, RunInfo, RunKind, RunStatus

RUN_FILE = "run.json"
_MAX_DOCUMENT_BYTES = 64 * 2**20
_MAX_LINE_BYTES = 4 * 2**20

# What a file system says to a writer; a block may also talk to a network, whose errors are its own.
_WRITING = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOTDIR, errno.ENOENT, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
}

T = TypeVar("T")


def now_utc() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def new_run_path(root: Path, kind: RunKind, world_size: int) -> Path:
    """Name a run folder that no other run will take, sortable by its start."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return root / f"{stamp}-{kind}-n{world_size}-{secrets.token_hex(3)}"


def create_run(path: Path, info: RunInfo) -> None:
    """Create the folder exclusively and write its run.json; raise BadInput where the folder exists or cannot be.

    What the disk does not take leaves no folder.
    """
    _make_folder(path)
    try:
        write_document(path / RUN_FILE, without_secrets(info))
    except OSError:
        path.rmdir()
        raise


def create_owned_run(path: Path, info: RunInfo, mark: str) -> Ownership:
    """Create a run as `create_run` does, owned by the command of this mark; what the disk does not take leaves no folder."""
    _make_folder(path)
    try:
        owned = take(path, mark)
        write_document(path / RUN_FILE, without_secrets(info))
    except BaseException:
        with suppress(OSError):  # what is in it is somebody else's
            (path / LOCK_FILE).unlink(missing_ok=True)
            path.rmdir()
        raise
    return owned


def _make_folder(path: Path) -> None:
    if path.exists():
        raise BadInput(f"{path} already exists; a run never overwrites another, choose a new folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir()  # fails if somebody else was faster
    except OSError as error:
        raise BadInput(f"cannot create the run folder {path}: {error.strerror}; choose one you may write to") from None


def finish_run(path: Path, status: RunStatus, failure: str | None = None, *, override: bool = False) -> None:
    """Mark a run as ended. The first verdict stands unless `override`: one rank's failure reaches all the others.

    On a full disk, where no second file has room, the mark overwrites the first one in its place.
    """
    info = read_info(path)
    if info.status == "running" or (override and info.status != "completed"):
        ended = replace(info, status=status, failure=None if failure is None else masked(failure), ended_at=now_utc())
        try:
            write_document(path / RUN_FILE, ended)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            _overwrite(path / RUN_FILE, msgspec.json.encode(ended) + b"\n")  # compact, so no longer than before


def _overwrite(path: Path, text: bytes) -> None:
    """Write into the room that the file has; to cut it first would let another writer take that room."""
    with path.open("r+b", buffering=0) as file:
        file.write(text)
        file.truncate()


def reopen_run(path: Path, mark: str) -> Ownership:
    """Own a run and mark it as running again; raise BadInput, which names the owner, where another command has it."""
    owned = take(path, mark)
    try:
        write_document(path / RUN_FILE, replace(read_info(path), status="running", failure=None, ended_at=None))
    except BaseException:
        owned.release()
        raise
    return owned


def read_info(path: Path) -> RunInfo:
    """Read a folder's run.json; raise BadInput where it is missing, malformed or of a newer version."""
    try:
        known = (path / RUN_FILE).is_file()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise BadInput(f"cannot read {path}: {error.strerror}; name a folder below runs/") from None
    if not known:
        raise BadInput(f"{path} is not a run folder (it has no {RUN_FILE}); name a folder below runs/")
    info = read_document(path / RUN_FILE, RunInfo)
    if info.schema_version > SCHEMA_VERSION:
        raise BadInput(f"{path} has schema {info.schema_version}, this commprof reads up to {SCHEMA_VERSION}; upgrade")
    return without_secrets(info)  # an earlier commprof wrote commands down as they were


def without_secrets(info: RunInfo) -> RunInfo:
    """Return what may be written down of a run: *** for every credential in its command, variables and failure."""
    return replace(
        info,
        command=masked_command(info.command),
        environ=masked_variables(info.environ),
        failure=None if info.failure is None else masked(info.failure),
    )


def write_document(path: Path, document: Any) -> None:  # noqa: ANN401  any record of types.py, or a tuple of them
    """Replace a JSON document atomically: readers see the old one or the new one, never half of it."""
    write_text(path, msgspec.json.format(msgspec.json.encode(document), indent=1).decode() + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically, its folder made where it is missing."""
    with replacing(path) as file:
        file.write(text.encode())


def write_new_document(path: Path, document: Any) -> bool:  # noqa: ANN401  as above
    """Write a JSON document where there is none, whole or not at all; return False, and leave it, where there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.touch(mode=0o644, exist_ok=False)
    except FileExistsError:
        return False
    try:
        write_document(path, document)
    except BaseException:
        path.unlink()
        raise
    return True


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file that takes the place of `path` when the block succeeds and disappears when it does not.

    Raises OSError with the name of `path` where there is no room or it may not be written.
    """
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:200]}.")  # 255 bytes is a name's most
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            with suppress(FileNotFoundError):  # Ctrl-C may come when it has just taken its place
                os.unlink(temporary)
            raise


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let what the file system says bear the name of the file that was to be written, not of the one that grows beside it."""
    try:
        yield
    except OSError as error:
        if error.errno not in _WRITING:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def read_document(path: Path, document_type: type[T]) -> T:
    """Decode a JSON document strictly into its type; raise BadInput naming the file and the field."""
    return decode(read_bounded(path, _MAX_DOCUMENT_BYTES), document_type, str(path))


def read_records(path: Path, record_type: type[T]) -> Iterator[T]:
    """Yield a JSONL file's records; a last line still being written is left out. Raise BadInput with file, line and field."""
    with open_regular(path) as file:
        number = 0
        while (line := file.readline(_MAX_LINE_BYTES)).endswith(b"\n"):
            number += 1
            yield decode(line, record_type, f"{path}:{number}")
        if len(line) == _MAX_LINE_BYTES:
            raise BadInput(f"{path}:{number + 1} is longer than {_MAX_LINE_BYTES} bytes; commprof did not write it")


def keep_records(path: Path, record_type: type[T], wanted: Callable[[T], bool]) -> None:
    """Replace a JSONL file, atomically, by its records that are wanted."""
    encoder = msgspec.json.Encoder()
    with replacing(path) as file:
        for record in read_records(path, record_type):
            if wanted(record):
                file.write(encoder.encode(record) + b"\n")


class RecordWriter:
    """Appends records to a JSONL file; each one is with the operating system as soon as `append` returns.

    Half a line at the end of an existing file, left by a crash, is cut off first.
    """

    def __init__(self, path: Path) -> None:
        if path.exists():
            _drop_half_line(path)
        self._file = path.open("ab", buffering=0)
        self._encoder = msgspec.json.Encoder()

    def append(self, record: object) -> None:
        """Write one record; raise RunFailed where the disk does not take it. Half a line may stay: readers leave it out."""
        line = memoryview(self._encoder.encode(record) + b"\n")
        try:
            while line:  # a disk that fills up takes part of a line before it refuses
                line = line[self._file.write(line) :]
        except OSError as error:
            raise RunFailed(f"cannot write {self._file.name}: {error.strerror}; make room, what came before is kept") from None

    def clear(self) -> None:
        """Throw away what was written so far."""
        self._file.truncate(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._file.close()


def _drop_half_line(path: Path) -> None:
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - _MAX_LINE_BYTES))
        tail = file.read()
        file.truncate(end - (len(tail) - (tail.rfind(b"\n") + 1)))
