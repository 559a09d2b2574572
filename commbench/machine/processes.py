"""How much CPU time has a process taken, with all that it started, and is it stopped? As /proc says, in the kernel's ticks."""

from pathlib import Path

_UTIME, _CSTIME = 11, 15  # of /proc/PID/stat behind the name: own time and that of children that ended, user and system each


def tree_ticks(root: int, proc: Path = Path("/proc")) -> int | None:
    """Return the ticks of a process and its descendants; None where the kernel does not list children or the root is gone."""
    if not list((proc / str(root) / "task").glob("*/children")):
        return None
    total, waiting = 0, [root]
    while waiting:
        folder = proc / str(waiting.pop())
        try:
            total += sum(map(int, (folder / "stat").read_text().rpartition(")")[2].split()[_UTIME:_CSTIME]))
            waiting += [int(pid) for file in folder.glob("task/*/children") for pid in file.read_text().split()]
        except OSError:
            continue  # it ended meanwhile; its time is its parent's from now on
    return total


def is_stopped(pid: int, proc: Path = Path("/proc")) -> bool:
    """Say whether a signal has stopped a process, so that it hears none but SIGCONT and SIGKILL; a debugger's hold is none."""
    try:
        return (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False
