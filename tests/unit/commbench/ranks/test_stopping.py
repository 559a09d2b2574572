"""Nobody outlives who started it; tried on processes that end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from commprof.commbench.ranks import stopping
from tests.forked import DEADLINE_S

# A launcher that starts a rank, whose first act is `end_with_launcher`, and that dies once the rank says so.
LAUNCHER = """\
import os, signal, subprocess, sys
rank = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, start_new_session=True)
rank.stdout.readline()
print(rank.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
ENDS = "from commprof.commbench.ranks.stopping import end_with_launcher as end; end(); "
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
WAITS = "print('ready', flush=True); import signal; signal.pause()"


@pytest.mark.processes
@pytest.mark.parametrize("rank", [ENDS + WAITS, STUBBORN + ENDS + WAITS], ids=["listens", "is deaf"])
def test_a_rank_ends_with_its_launcher_whatever_it_does(rank: str) -> None:
    with subprocess.Popen([sys.executable, "-c", LAUNCHER, rank], stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        pid = int(launcher.stdout.readline())
        try:
            alive = os.pidfd_open(pid)
        except ProcessLookupError:
            return
    try:
        assert stopping.select.select([alive], [], [], 60)[0], "it lives on"
    finally:
        os.close(alive)


def test_a_container_whose_first_process_is_torchrun_has_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"pt_elastic\n": True, "python3\n": True, "torchrun\n": True, "systemd\n": False, "tini\n": False, "bash\n": False}
    for name, may in names.items():
        monkeypatch.setattr(Path, "read_text", lambda _, name=name: name)
        assert stopping._may_start_ranks(1) is may


@pytest.mark.processes
def test_a_child_whose_parent_has_gone_does_not_become_its_program() -> None:
    gone = stopping.child_dies_with(2**22 + 1, signal.SIGTERM)
    done = subprocess.run(["echo", "started"], preexec_fn=gone, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, "")


@pytest.mark.processes
def test_what_asks_to_stop_in_an_exit_function_ends_the_process_with_its_code() -> None:
    program = (
        "import atexit, signal; from commprof.commbench.ranks.stopping import end_process, raise_when_stopped; "
        "raise_when_stopped(); atexit.register(lambda: (signal.raise_signal(signal.SIGTERM), print('too late'))); "
        "print('written'); end_process(7)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=DEADLINE_S)
    assert (done.returncode, done.stdout, done.stderr) == (7, "written\n", "")
