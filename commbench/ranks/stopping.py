"""How a run is asked to stop, and how its process ends; also when whoever started it has gone. No torch here.

Ctrl-C, a scheduler's SIGTERM or SIGUSR2, a terminal's SIGHUP: whatever stops a run is written down by its own name.
"""

import atexit
import ctypes
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from commprof.commbench.errors import Interrupted

_ECHO_S = 3.0
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ORPHANS_GRACE_S = 5.0  # for a rank whose launcher has gone: it marks the run, then it is killed whatever it does
_INIT = 1
_LAUNCHERS = ("python", "torchrun", "pt_")  # torch names its own processes pt_...
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_NAME = 15
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded here: a forked child may only call it


def raise_when_stopped() -> None:
    """Turn SIGTERM and SIGHUP into Interrupted, so that the run is marked before it ends; nohup's SIGHUP stays ignored."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise Interrupted(stopped_by(signum), signum)

    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, stop)


def stopped_by(signum: int) -> str:
    return f"stopped by {signal.Signals(signum).name}"


@contextmanager
def answering_later() -> Iterator[None]:
    """Let the block finish before SIGINT, SIGTERM and SIGHUP are answered, each once. Other threads than the main hear none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: dict[int, None] = {}
    own = [(signum, signal.signal(signum, lambda number, _: came.setdefault(number))) for signum in STOPPING]
    try:
        yield
    finally:
        for signum, handler in own:
            signal.signal(signum, handler)
        for number in came:
            signal.raise_signal(number)


class StopRequest:
    """Remembers the first signal that asks to stop, so that the work in hand can be finished.

    A second SIGINT, SIGTERM or SIGHUP ends it at once, but not the echo of a SIGTERM within seconds: a scheduler sends it to
    every process, launchers among them, which hand it on. SIGUSR2 is a scheduler's warning: it may come several times, in
    several ways.
    """

    def __init__(self, signals: Iterable[int] = STOPPING, now_s: Callable[[], float] = time.monotonic) -> None:
        self.signum = 0
        self._pressed_s: float | None = None
        self._now_s = now_s
        self.listen(signals)

    def __call__(self) -> bool:
        return self.signum != 0

    @property
    def reason(self) -> str | None:
        return stopped_by(self.signum) if self.signum else None

    def listen(self, signals: Iterable[int]) -> None:
        """Remember these signals too from now on."""
        for signum in signals:
            if signum == signal.SIGHUP and signal.getsignal(signum) == signal.SIG_IGN:
                continue  # nohup
            signal.signal(signum, self._note)
            if signum == signal.SIGUSR2:
                # Python takes its handlers down before the process has ended, and a late warning would kill it.
                atexit.register(signal.signal, signum, signal.SIG_IGN)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = self.signum or signum
        if signum == signal.SIGUSR2:
            return
        if self._pressed_s is None:
            self._pressed_s = self._now_s()
        elif signum != signal.SIGTERM or self._now_s() - self._pressed_s > _ECHO_S:
            raise Interrupted(stopped_by(signum), signum)


def die_with_parent(signum: int = signal.SIGTERM) -> None:
    """Ask Linux to end this process, by that signal, with the one that started it."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signum)


def name_process(name: str) -> None:
    """Give this process, on Linux, the name that top and ps show; its first 15 bytes."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def child_dies_with(parent: int, signum: int) -> Callable[[], None]:
    """Return what a child of the process `parent` calls before it becomes its program: from then on it dies with its parent.

    A parent that died before the call would send no signal any more, so it is looked at afterwards.
    """

    def die_with() -> None:
        die_with_parent(signum)
        if os.getppid() != parent:
            os._exit(128 + signum)

    return die_with


def end_with_launcher() -> None:
    """End this rank with whoever started it: SIGTERM as that dies, and SIGKILL seconds later whatever the rank does then.

    Called before anything is imported that takes a while.
    """
    launcher = os.getppid()
    die_with_parent()
    try:
        alive = os.pidfd_open(launcher)
    except OSError:
        alive = None  # it is gone already, or this kernel is older than 5.3 and SIGTERM has to do
    if os.getppid() != launcher or (launcher == _INIT and not _may_start_ranks(_INIT)):
        os._exit(128 + signal.SIGTERM)
    if alive is not None:
        threading.Thread(target=_kill_after, args=(alive,), name="commprof-launcher", daemon=True).start()


def _may_start_ranks(process: int) -> bool:
    """Say whether a process may be a launcher: a Python, or torchrun, which may well be a container's first process.

    A rank whose launcher died before it could ask to die with it has become the child of a first process that is neither.
    """
    try:
        name = Path(f"/proc/{process}/comm").read_text()
    except OSError:
        return True  # this system does not tell
    return name.startswith(_LAUNCHERS)


def _kill_after(process: int) -> None:
    """Wait, at no cost, for a process to end; then give this one its seconds."""
    waiting = select.poll()
    waiting.register(process, select.POLLIN)
    waiting.poll()
    time.sleep(_ORPHANS_GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)


def end_process(code: int) -> NoReturn:
    """End this process as Python would, exit functions run and output written, but without taking the interpreter down.

    Threads of torch, gloo and Kineto outlive the last line of Python. One that asks for the interpreter's lock while that is
    being taken down is ended in the middle of C++, which aborts the process ("terminate called without an active
    exception"): a run that went well would count as killed. What asks to stop meanwhile cannot be answered any more, for an
    exception in an exit function is printed and lost: it ends the process at once, with the same code.
    """
    sys.stdout.flush()
    for signum in STOPPING:
        if signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, lambda *_: os._exit(code))
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
