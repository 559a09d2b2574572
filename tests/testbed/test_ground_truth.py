"""Does a bench on the testbed find the wire that the testbed made? The line's rate is known, so the fit has nowhere to hide."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from commprof.analysis.runs.load import load_run
from commprof.analysis.wire.benched import fit_costs
from commprof.commbench.machine.wire import parse_wire
from commprof.testbed import network as testbed
from tests.testbed.test_testbed import SCRIPT, commprof

pytestmark = pytest.mark.testbed
TOLERANCE = 0.04
TRIES = 3  # a core that is needed elsewhere makes the wire look slower, never faster

# Large enough that the bucket's burst is little beside the message, small enough for seconds.
SIZES = {"200mbit": ("2M", "8M"), "2.5gbit": ("8M", "64M")}


@pytest.mark.parametrize(("rate", "num_hosts"), [("200mbit", 2), ("2.5gbit", 4)])
def test_the_fitted_bandwidth_is_the_payload_rate_of_the_line(tmp_path: Path, rate: str, num_hosts: int) -> None:
    testbed.up(num_hosts, parse_wire(rate))
    line = parse_wire(rate).payload_bytes_per_s
    errors = []
    while not errors or (abs(errors[-1]) > TOLERANCE and len(errors) < TRIES):
        errors.append(fitted_busbw(tmp_path / str(len(errors)), rate) / line - 1)
    assert abs(errors[-1]) <= TOLERANCE, f"off by {', '.join(f'{error:+.1%}' for error in errors)}"
    assert max(errors) <= TOLERANCE


@contextmanager
def ahead_of_others() -> Iterator[None]:
    """Let what is started inside have a core whenever it asks for one, where we may: other tests run beside this one."""
    own = os.sched_getscheduler(0), os.sched_getparam(0)
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, *own)


def fitted_busbw(run: Path, rate: str) -> float:
    smallest, largest = SIZES[rate]
    sweep = ("-b", smallest, "-e", largest, "-f", "2", "-n", "7", "-w", "2", "--place", "in")
    with ahead_of_others():
        done = commprof("exec", "--", str(SCRIPT), "bench", *sweep, "--folder", str(run))
    assert done.returncode == 0, done.stderr
    (cost,) = fit_costs([load_run(run)]).values()
    loaded = load_run(run).info
    assert (loaded.wire, loaded.num_machines, loaded.num_nodes) == (rate, 1, loaded.world_size)
    return cost.busbw_bytes_per_s
