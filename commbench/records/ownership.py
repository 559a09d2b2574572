"""Who writes into a run folder? One command at a time, known by a lock that dies with it.

    run.lock    locked (flock) by rank 0, or by whoever else writes the run, for as long as that lives; its text is an Owner

The kernel lets go of the lock when its holder ends, however it ends, on local disks and on file systems that share their locks
(NFS with its lock manager, Lustre mounted with flock, GPFS, BeeGFS with shared locks). Where a file system has no locks
at all, the text decides: a holder on this host is looked up by its process and when that began; of a holder on another host
nothing can be told, so its run is refused until its lock file is removed. A mount whose locks reach this host alone (NFS
with nolock or local_lock, Lustre with localflock) tells two hosts nothing of each other.

Every command that starts a run has a mark, which it gives its ranks. Whoever writes down how a run ended does so only where the
run is still that command's: one that lost the folder, or a rank that wakes up late, has no say in another's run.
"""

import errno
import fcntl
import os
import secrets
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from commprof.commbench.errors import BadInput
from commprof.commbench.records.reading import read_bounded
from commprof.commbench.units import printable

LOCK_FILE = "run.lock"
MARK_VARIABLE = "COMMPROF_RUN_MARK"
_MAX_BYTES = 4096
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_STARTED = 19  # of /proc/PID/stat behind the name: ticks after boot


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The process that writes, or last wrote, a run; `began_ticks` after the boot tells it from a later one of its number."""

    mark: str
    hostname: str
    pid: int
    boot_id: str
    began_ticks: int

    def __str__(self) -> str:
        return f"process {self.pid} on {printable(self.hostname)[:64]}"


class Ownership:
    """A run folder that is this process's until `release`, or until the process ends."""

    def __init__(self, path: Path, mark: str, handle: int) -> None:
        self.path, self.mark, self._handle = path, mark, handle

    def release(self) -> None:
        """Let another command go on with the run."""
        if self._handle < 0:
            return
        try:
            _write(self._handle, _this_process(self.mark, alive=False))
        finally:
            os.close(self._handle)
            self._handle = -1


def own_mark() -> str:
    """Return the mark of the command that started this process, or a new one."""
    return os.environ.get(MARK_VARIABLE) or secrets.token_hex(8)


def take(path: Path, mark: str) -> Ownership:
    """Make a run folder this process's; raise BadInput, which names the owner, where another one has it."""
    handle = _open(path, os.O_CREAT)
    try:
        _lock(path, handle)
        _write(handle, _this_process(mark, alive=True))
    except BaseException:
        os.close(handle)
        raise
    return Ownership(path, mark, handle)


def check_free(path: Path) -> None:
    """Raise BadInput, which names the owner, where a run is being written."""
    try:
        handle = _open(path, 0)
    except OSError:
        return  # no lock was ever taken, or none may be: then writing will be refused as well
    try:
        _lock(path, handle)
    finally:
        os.close(handle)


def belongs_to(path: Path, mark: str) -> bool:
    """Say whether a run is, or last was, written by the command of this mark; a run that no one ever locked is anyone's."""
    try:
        owner = _decoded(read_bounded(path / LOCK_FILE, _MAX_BYTES))
    except BadInput:
        return True
    return owner is None or owner.mark == mark


def _open(path: Path, flags: int) -> int:
    """Open a run's lock; raise BadInput where it is no file of the run's own: what is written would land elsewhere."""
    lock = path / LOCK_FILE
    if lock.is_symlink() or (lock.exists() and not lock.is_file()):
        raise BadInput(f"{lock} is not a file; remove it, and see who made this run")
    return os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | flags, 0o644)


def _lock(path: Path, handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = _decoded(os.pread(handle, _MAX_BYTES, 0))
        raise BadInput(f"{path} is being written by {owner or 'another process'}; wait for it, or stop it first") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _go_by_text(path, _decoded(os.pread(handle, _MAX_BYTES, 0)))


def _go_by_text(path: Path, owner: Owner | None) -> None:
    """Raise BadInput where the text of a lock file tells of an owner that lives, or of one of which nothing can be told."""
    if owner is None or owner.pid == 0:
        return
    if owner.boot_id != _boot_id():
        mend = f"if that has ended, remove {path / LOCK_FILE}"
        raise BadInput(f"{path} was being written by {owner}, and this file system has no locks that tell; {mend}")
    if _began_ticks(owner.pid) == owner.began_ticks:
        raise BadInput(f"{path} is being written by {owner}; wait for it, or stop it first")


def _this_process(mark: str, *, alive: bool) -> Owner:
    """Describe this process; one that lets go has number 0, which no process has."""
    pid = os.getpid() if alive else 0
    began_ticks = _began_ticks(pid) or 0
    return Owner(mark=mark, hostname=socket.gethostname(), pid=pid, boot_id=_boot_id(), began_ticks=began_ticks)


def _began_ticks(pid: int) -> int | None:
    """Return when a process began, in ticks after the boot; None where there is no such process."""
    with suppress(OSError, ValueError, IndexError):  # no such process, or a system that does not tell
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[_STARTED])
    return None


def _boot_id() -> str:
    with suppress(OSError):  # a system without one: then hosts are told apart by their names
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return socket.gethostname()


def _write(handle: int, owner: Owner) -> None:
    """Replace the text; first what is new, then the end of what was longer, so that a full disk has room for it."""
    text = msgspec.json.encode(owner) + b"\n"
    os.pwrite(handle, text, 0)
    os.ftruncate(handle, len(text))


def _decoded(text: bytes) -> Owner | None:
    """Read an owner; None where the text is none, for it is nobody's but a command's that is just writing it."""
    try:
        return msgspec.json.decode(text, type=Owner)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
