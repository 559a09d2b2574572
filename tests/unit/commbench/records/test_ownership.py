"""One command writes a run at a time; who it is can be told, and its end, however it came, sets the run free."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.commbench.errors import BadInput
from commprof.commbench.records import ownership
from commprof.commbench.records.ownership import LOCK_FILE, Owner, belongs_to, check_free, take

HOLDER = """\
import sys; from pathlib import Path
from commprof.commbench.records.ownership import take
owned = take(Path(sys.argv[1]), "theirs"); print("taken", flush=True); sys.stdin.read()
"""


def test_a_run_is_one_owners_until_it_lets_go(tmp_path: Path) -> None:
    check_free(tmp_path)
    first = take(tmp_path, "first")
    for refused in (lambda: take(tmp_path, "second"), lambda: check_free(tmp_path)):
        with pytest.raises(BadInput, match=f"is being written by process {os.getpid()} on {socket.gethostname()}; wait for it"):
            refused()
    assert (belongs_to(tmp_path, "first"), belongs_to(tmp_path, "second")) == (True, False)
    first.release()
    first.release()
    check_free(tmp_path)
    assert belongs_to(tmp_path, "first"), "who wrote it last may still say how it ended"
    take(tmp_path, "second").release()
    assert not belongs_to(tmp_path, "first")


@pytest.mark.processes
def test_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "taken\n"
        with pytest.raises(BadInput, match=f"is being written by process {holder.pid} on "):
            take(tmp_path, "ours")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    take(tmp_path, "ours").release()


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks, such as NFS whose lock manager does not run."""

    def refuse(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


def owner(**changes: object) -> Owner:
    return replace(ownership._this_process("x", alive=True), **changes)  # type: ignore[arg-type]


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize(
    ("left", "refusal"),
    [
        (owner(), "is being written by process"),
        (owner(began_ticks=1), None),  # its number is another process's by now
        (owner(pid=2**22 + 1), None),
        (owner(boot_id="another", hostname="n017"), r"on n017, and this file system has no locks that tell; .*run\.lock"),
        (owner(pid=0, boot_id="another"), None),  # it let go
    ],
)
def test_without_locks_the_text_decides(tmp_path: Path, left: Owner, refusal: str | None) -> None:
    (tmp_path / LOCK_FILE).write_bytes(msgspec.json.encode(left))
    if refusal is None:
        take(tmp_path, "ours").release()
    else:
        with pytest.raises(BadInput, match=refusal):
            take(tmp_path, "ours")


@given(st.binary(max_size=200))
def test_a_damaged_lock_file_is_nobodys(text: bytes) -> None:
    assert ownership._decoded(text) is None


def test_a_folder_that_may_only_be_read_is_free_to_readers(tmp_path: Path) -> None:
    check_free(tmp_path / "missing")
    assert belongs_to(tmp_path / "missing", "anyone")


def test_a_lock_that_is_no_file_of_the_run_s_own_is_refused(tmp_path: Path) -> None:
    """What is written through a link would be written into somebody's file, and a pipe does not open."""
    (tmp_path / "other").write_text("mine")
    for number, make in enumerate((lambda path: path.symlink_to(tmp_path / "other"), os.mkfifo, Path.mkdir)):
        run = tmp_path / str(number)
        run.mkdir()
        make(run / LOCK_FILE)
        with pytest.raises(BadInput, match=r"run.lock is not a file; remove it"):
            take(run, "mark")
        with pytest.raises(BadInput, match=r"run.lock is not a file; remove it"):
            check_free(run)
        assert belongs_to(run, "mark")
    assert (tmp_path / "other").read_text() == "mine"
