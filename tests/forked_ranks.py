"""Started by tests: loads torch once and forks N ranks, each with the variables that torchrun gives.

`python forked_ranks.py N SCRIPT ARGS...` runs a script in every rank, `python forked_ranks.py N commprof ARGS...` the console
script. A rank that torchrun starts loads torch for itself, and torchrun once more; that is most of what a short run costs.
What the launcher itself does is for tests that start one.
"""

import os
import runpy
import signal
import socket
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # torchrun's default; torch reads it when it is loaded
from commprof.commbench.ranks.loading import load_torch

load_torch(to_train=True)  # before the fork
from torch.distributed import TCPStore  # noqa: E402

sys.path.append(str(Path(__file__).parents[1]))  # of a script Python knows the folder alone
from tests.brief_probe import probe_briefly  # noqa: E402

sys.path.pop()

HOST = "127.0.0.1"
MEET_S = 60

probe_briefly()


def run_rank(rank: int, num_ranks: int, port: int, command: Sequence[str]) -> None:
    """Become the rank and end with its exit code."""
    code = 1
    try:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_ranks, "LOCAL_WORLD_SIZE": num_ranks}
        os.environ.update({name: str(value) for name, value in place.items()})
        os.environ.update(MASTER_ADDR=HOST, MASTER_PORT=str(port), TORCHELASTIC_USE_AGENT_STORE="True")
        sys.argv = list(command)
        if command[0] == "commprof":
            from commprof.cli import enter

            enter()
        sys.path[0] = str(Path(command[0]).parent)
        runpy.run_path(command[0], run_name="__main__")
        code = 0
    except SystemExit as ending:
        code = int(ending.code or 0)
    except BaseException:  # noqa: BLE001  a fork must not go on as its parent would
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        os._exit(code)


def main(num_ranks: int, command: Sequence[str]) -> int:
    """Return the exit code of the first rank that failed, or 0; the others are ended then."""
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        listening.listen()
        port = int(listening.getsockname()[1])
        pids = set()
        for rank in range(num_ranks):
            if (pid := os.fork()) == 0:
                listening.close()
                run_rank(rank, num_ranks, port, command)
            pids.add(pid)
        # The store has threads, so it comes after the forks; until then whoever calls waits at the socket.
        store = TCPStore(
            HOST, port, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=MEET_S),
            master_listen_fd=os.dup(listening.fileno()),
        )  # fmt: skip
    code = 0
    while pids:
        pid, status = os.wait()
        pids.remove(pid)
        if code == 0 and (code := abs(os.waitstatus_to_exitcode(status))) != 0:
            for other in pids:
                os.kill(other, signal.SIGKILL)
    del store
    return code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
