"""A rank is a fork of a process that has loaded torch, and becomes the console script as if it had been executed.

Loading torch takes seconds of a core, and on a cluster's file system minutes, for each process that does it. It starts no
thread and opens no device, so that what a fork gets is whole; whoever forks must not have gone further than that.
"""

import os
import runpy
import signal
import sys
from collections.abc import Callable, Mapping, Sequence

from commprof.commbench.errors import Interrupted
from commprof.commbench.ranks.stopping import STOPPING, child_dies_with, name_process


def fork_script(words: Sequence[str], environ: Mapping[str, str], forget: Callable[[], None]) -> int:
    """Fork a process, a group of its own that dies with this one, that runs a Python script; return its id.

    `words` are the script and its arguments, `forget` closes what the child must not hold. What the standard streams still
    buffer is written first, or it would be written twice.
    """
    dies_with_us = child_dies_with(os.getpid(), signal.SIGTERM)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        dies_with_us()
        forget()
        _become(words, environ)
    return pid


def _become(words: Sequence[str], environ: Mapping[str, str]) -> None:
    code = 1
    try:
        for signum in STOPPING:
            signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(environ)
        name_process(f"commprof {environ.get('RANK', '')}")
        sys.argv = list(words)
        runpy.run_path(words[0], run_name="__main__")
        code = 0
    except SystemExit as ending:
        code = int(ending.code or 0)
    except KeyboardInterrupt:
        code = Interrupted.exit_code
    except BaseException:  # noqa: BLE001  whatever it is, the fork must not go on as its parent would
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
