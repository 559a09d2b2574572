"""The scripts in the shells they are for: words are typed at a terminal, and TAB is pressed."""

import os
import pty
import select
import shutil
import signal
import time
from collections.abc import Callable

import pytest

from commprof.cli import VERBS, main

DEADLINE_S = 5
# A program stands in that says which words it was given; the prompt is set last, so that it tells when all this is read.
STAND_IN = "commprof() { printf '<%s>' \"$@\"; echo; echo done; }\nPS1='ready> '\n"
SHELLS = {
    "bash": (("bash", "--noprofile", "--norc", "-i"), ". ./_commprof\n"),
    "zsh": (("zsh", "-f", "-i"), "fpath=($HOME $fpath)\nautoload -Uz compinit\ncompinit -u -D\n"),
}


@pytest.fixture(scope="module", params=SHELLS)
def typed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """Type a line at a shell that has read the script, and return the words that the program got."""
    command, load = SHELLS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    folder = tmp_path_factory.mktemp(command[0])
    (folder / "a-log.csv").touch()
    (folder / "_commprof").write_text(printed(request.param))
    (folder / "start").write_text(load + STAND_IN)

    def type_line(line: str) -> list[str]:
        child, terminal = pty.fork()
        if child == 0:
            os.chdir(folder)
            os.execvpe(command[0], command, {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(folder)})
        try:
            os.write(terminal, b". ./start\n")
            wait_for(terminal, "ready> ")
            os.write(terminal, f"{line}\n".encode())
            answer = wait_for(terminal, "\ndone").partition("\ndone")[0].splitlines()[-1]
            return answer.removeprefix("<").removesuffix(">").split("><")
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(terminal)

    return type_line


def printed(shell: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        written: list[str] = []
        patch.setattr("sys.stdout.write", written.append)
        assert main(["completion", shell]) == 0
    return "".join(written)


def wait_for(terminal: int, word: str) -> str:
    """Read from a terminal until a word has come."""
    read, end_s = "", time.monotonic() + DEADLINE_S
    while word not in read:
        ready, _, _ = select.select([terminal], [], [], max(0.0, end_s - time.monotonic()))
        assert ready, f"{word!r} did not come within {DEADLINE_S} s after {read!r}"
        read += os.read(terminal, 4096).decode(errors="replace").replace("\r", "")
    return read


@pytest.mark.processes
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("commprof cont\t", ["contention"]),
        ("commprof check --base\ta-l\t", ["check", "--baseline", "a-log.csv"]),
        ("commprof bench --backend nc\t--cuda\t", ["bench", "--backend", "nccl", "--cudagraph"]),
        ("commprof bench all_red\t", ["bench", "all_reduce"]),
    ],
)
def test_tab_completes_verbs_flags_choices_and_paths(typed: Callable[[str], list[str]], line: str, words: list[str]) -> None:
    assert typed(line) == words


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_knows_every_verb(shell: str) -> None:
    script = printed(shell)
    assert all(f"_shtab_commprof_{name}_option" in script for name in VERBS)
