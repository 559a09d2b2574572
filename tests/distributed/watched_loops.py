"""The loops of unchanged_loops.py, each in a process of its own with `commprof record`'s stand-ins.

The processes are forked from one that has loaded torch and used nothing of it, as a loop's own Python would have; most of them
after it has also loaded what an optimizer's first use does, two seconds each.
"""

import atexit
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from commprof.commbench.foreign.arming import arm
from commprof.commbench.foreign.asked import VARIABLE, Asked, encode
from commprof.commbench.foreign.assembled import assemble
from commprof.commbench.ranks.loading import load_torch
from tests.brief_probe import probe_briefly
from tests.distributed.unchanged_loops import LOOPS, no_backward_pass


def run_forked(folder: Path, loop: Callable[[], None]) -> int:
    """Run a loop in a child, watched, and return its exit code."""
    if (pid := os.fork()) != 0:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        torch.set_num_threads(1)
        os.environ[VARIABLE] = encode(Asked(folder=str(folder), notes=str(folder.parent)))
        arm()
        loop()
        atexit._run_exitfuncs()
        code = 0
    except BaseException:  # noqa: BLE001  a fork must not go on as its parent would
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


ON_THEIR_OWN = ("plain", "compiled_in_place")  # load torch._dynamo themselves, once they are watched


def main(root: Path) -> None:
    probe_briefly()
    for name in sorted(LOOPS, key=lambda name: name not in ON_THEIR_OWN):
        if name not in ON_THEIR_OWN:
            load_torch(to_train=True)
        code = run_forked(root / name, LOOPS[name])
        assemble(root / name, None if code == 0 else f"exit code {code}")
    (root / "alone").mkdir()
    assert run_forked(root / "alone" / "run", no_backward_pass) == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
