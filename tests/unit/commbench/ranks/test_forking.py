"""A fork becomes the script it is given: its words, its environment, its name, its end, and nothing of what was open before."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.forked import DEADLINE_S

FORKS = """
import os, sys
from commprof.commbench.ranks.forking import fork_script
held = open(sys.argv[1])
pid = fork_script(sys.argv[2:], {"RANK": "3", "OWN": "yes", "PATH": os.environ["PATH"]}, held.close)
print("code", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), "group", pid != os.getpgrp())
"""
SCRIPT = """
import os, sys
own = open("/proc/self/comm").read().strip()
held = [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")]
print(sys.argv[1:], sorted(os.environ), own, os.getpgrp() == os.getpid(), __name__, __file__ in held)
END
"""
ENDS = {
    "pass": (0, ""),
    "sys.exit(7)": (7, ""),
    "raise KeyboardInterrupt": (130, ""),
    "1 / 0": (1, "ZeroDivisionError"),
    "os.kill(os.getpid(), 15)": (-15, ""),
}


@pytest.mark.processes
@pytest.mark.parametrize("end", ENDS)
def test_a_fork_is_the_script_as_if_it_had_been_executed(tmp_path: Path, end: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("END", f"sys.stdout.flush()\n{end}"))
    words = [sys.executable, "-c", FORKS, str(script), str(script), "--flag", "word"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE_S)
    code, error = ENDS[end]
    assert done.stdout.splitlines() == [
        "['--flag', 'word'] ['OWN', 'PATH', 'RANK'] commprof 3 True __main__ False",
        f"code {code} group True",
    ]
    assert error in done.stderr
    assert bool(error) == bool(done.stderr)
