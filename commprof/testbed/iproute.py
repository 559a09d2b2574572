"""The programs of iproute2: run one, and say in its own words why it failed."""

import subprocess
from collections.abc import Sequence

from commprof.commbench.errors import RunFailed
from commprof.commbench.units import printable

_TIMEOUT_S = 20.0


def ip(*words: str, namespace: str | None = None) -> str:
    return run(["ip", *(("-n", namespace) if namespace else ()), *words])


def tc(*words: str, namespace: str) -> str:
    return run(["tc", "-n", namespace, *words])


def run(command: Sequence[str]) -> str:
    """Run one command of iproute2 and return what it printed; raise RunFailed with its own words."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except subprocess.CalledProcessError as error:
        words = printable(" ".join(error.stderr.split())[:300])
        raise RunFailed(f"`{' '.join(command)}` failed: {words}; the testbed needs CAP_NET_ADMIN and CAP_SYS_ADMIN") from None
    except subprocess.TimeoutExpired:
        raise RunFailed(f"`{' '.join(command)}` did not end within {_TIMEOUT_S:g} s") from None
    return done.stdout
