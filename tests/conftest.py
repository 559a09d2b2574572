"""How the tests run side by side, and what they may do to the machine."""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.forked import Zygote, fork_server

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

# Workers fill the cores: of more threads, here and in what is started, the others only wait, which takes a core as well.
os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("machine", deadline=None)  # a busy machine is no failure
settings.load_profile("machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # In the background of a script Ctrl-C is ignored, and what the tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What waits most comes first, what is short and plentiful last: it fills the gaps at the end.
ORDER = ("slurm", "testbed", "distributed", "frameworks", "faults", "packaging", "perfetto", "field", "gpu", "fuzz", "unit")
# There is one of these on a machine: one cluster, whose jobs' numbers become ports, and one testbed.
ONCE = ("slurm", "testbed")
NO_PROCESSES = "not processes"  # what `make test-quick` asks for
FORK_SERVER = "COMMPROF_TESTS_FORK_SERVER"


@pytest.fixture(autouse=True)
def _handlers_of_signals_stay() -> Iterator[None]:
    """What a test lets signals do is not what they do in the next one."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture(scope="session", autouse=True)
def _probes_are_brief() -> None:
    """Trainings in this process; without torch there are none."""
    if "torch" in sys.modules:
        from tests.brief_probe import probe_briefly

        probe_briefly()


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """One for each worker that has a test which asks for it, a fork of one process with torch loaded."""
    with ExitStack() as alone:
        own = Zygote(os.environ.get(FORK_SERVER) or alone.enter_context(fork_server()))
        yield own
        own.end()


def folder_of(nodeid: str) -> str:
    """Return the folder below tests/ that a test is in."""
    return nodeid.split("/")[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    waiting = {item.path for item in items if item.get_closest_marker("processes")}
    items.sort(key=lambda item: (ORDER.index(folder_of(item.nodeid)), item.path not in waiting))


def pytest_sessionstart(session: pytest.Session) -> None:
    gc.disable()  # nothing is garbage while modules are loaded
    if getattr(session.config.option, "numprocesses", None) and session.config.option.markexpr != NO_PROCESSES:
        shared = ExitStack()
        os.environ[FORK_SERVER] = shared.enter_context(fork_server())  # what workers find there
        session.config.add_cleanup(shared.close)


def pytest_collection_finish() -> None:
    gc.freeze()  # nor is what was loaded ever after
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two more than there are cores where tests wait for processes."""
    return len(os.sched_getaffinity(0)) + (0 if config.option.markexpr == NO_PROCESSES else 2)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: "Producer") -> "LoadScopeScheduling":
    """Keep a module's tests in one worker, for its fixtures are made once, and all of a folder's that exist once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByModule(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return folder_of(nodeid) if folder_of(nodeid) in ONCE else nodeid.partition("::")[0]

    config.option.loadscopereorder = False
    return ByModule(config, log)
