"""Whatever hits whom, and when: the command ends in time, says who and what it was in one line, and leaves nobody behind.

`make test` runs cases in which every two of verb, phase, signal and target meet; `make test-faults` runs all of them.
"""

import contextlib
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from commprof.commbench.errors import BadInput
from commprof.commbench.ranks.arguments import check_resume
from commprof.commbench.records.ownership import check_free
from commprof.commbench.records.rundir import RUN_FILE, read_info, read_records
from commprof.commbench.records.types import CollectiveMeasurement
from tests.factory import write_tiny_config
from tests.faults.conftest import alive, come_to_hold, let_go, wait_until
from tests.faults.grid import TIMEOUT_S, Case, covering_cases, every_case, expected, is_progress
from tests.forked import Zygote, ended

EVERY = "COMMPROF_EVERY_FAULT"
NUM_SOME = 40
CASES = every_case() if EVERY in os.environ else covering_cases(NUM_SOME)
ENDS_WITHIN_S = 2 * TIMEOUT_S + 15  # the timeout, the graces behind it, and room for neighbours
FLAGS = ("--timeout", f"{TIMEOUT_S:g}", "-n", "2", "-w", "1")

Start = Callable[..., int]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = write_tiny_config(tmp_path_factory.mktemp("tiny"))
    config.write_text(config.read_text().replace("timeout_s: 60", f"timeout_s: {TIMEOUT_S:g}"))
    return config


def argv(case: Case, tiny: Path) -> list[str]:
    sizes = ("-b", "4M", "-e", "8M") if case.verb == "contention" else ("-b", "64K", "-e", "256K")  # it computes beside
    words = [str(tiny), "training.max_steps=14"] if case.verb == "train" else [*FLAGS, *sizes]
    return ["commprof", case.verb, *words, "--nproc", "2", "--folder", "r"]


def hit(case: Case, launcher: int, folder: Path) -> list[int]:
    """Send the case's signal once all hold at the phase; return the processes of the command."""
    ranks = come_to_hold(launcher, folder)
    (keeper,) = map(int, Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split())
    pids = {"launcher": launcher, "keeper": keeper, "rank 0": ranks[0], "rank 1": ranks[1]}
    os.kill(pids[case.target], case.signum)
    if case.signum == signal.SIGKILL:
        wait_until("its end", lambda: not alive(pids[case.target]))
    let_go(folder)
    if case.signum == signal.SIGSTOP and case.target == "launcher":
        wait_until("the ranks to end", lambda: not any(map(alive, ranks)))
        os.kill(pids[case.target], signal.SIGCONT)
    return [keeper, *ranks]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_fault_is_told_ends_in_time_and_leaves_nothing(case: Case, zygote: Zygote, tiny: Path, tmp_path: Path) -> None:
    launcher = zygote.start(argv(case, tiny), tmp_path, out=tmp_path / "out", err=tmp_path / "err", phase=case.phase)
    others = hit(case, launcher, tmp_path)
    in_time = ended(launcher, ENDS_WITHIN_S)
    if not in_time:
        for pid in (launcher, *others):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    code, errors = zygote.reap(launcher), (tmp_path / "err").read_text()
    assert in_time, f"still there after {ENDS_WITHIN_S:g} s: {errors}"
    wait_until("nobody to be left", lambda: not any(map(alive, others)))
    outcome = expected(case)
    assert code == outcome.code, errors
    lines = [line for line in errors.splitlines() if not is_progress(line)]
    assert "Traceback" not in errors
    assert len(lines) <= 3, errors
    if outcome.words:
        assert re.search(outcome.words, lines[-1]), errors
    check_run(case, tmp_path / "r", outcome.statuses, errors)


def check_run(case: Case, run: Path, statuses: tuple[str, ...], errors: str) -> None:
    """What is left can be read, belongs to nobody, and can be gone on with, or says that it cannot."""
    if not (run / RUN_FILE).exists():
        assert case.phase in ("loading", "meeting")
        assert "what was measured" not in errors
        return
    info = read_info(run)
    assert info.status in statuses, info.failure
    check_free(run)
    if (run / "collectives.jsonl").exists():
        assert all(m.num_wrong == 0 for m in read_records(run / "collectives.jsonl", CollectiveMeasurement))
    if case.verb == "bench":
        check_going_on(run, completed=info.status == "completed")


def check_going_on(run: Path, *, completed: bool) -> None:
    import argparse

    from commprof.commbench.bench.cli import add_bench_arguments, bench_plan

    parser = argparse.ArgumentParser()
    add_bench_arguments(parser)
    args = parser.parse_args(["--resume", str(run), "--nproc", "2"])
    if completed:
        with pytest.raises(BadInput, match="is complete"):
            check_resume(args, "bench")
    elif (run / "bench.json").exists():
        assert bench_plan(args).sizes
    else:
        with pytest.raises(BadInput, match="start anew"):
            bench_plan(args)


def test_some_cases_cover_every_two_values() -> None:
    from itertools import combinations

    def pairs(cases: tuple[Case, ...]) -> set[tuple[object, ...]]:
        named = ([("verb", c.verb), ("phase", c.phase), ("signal", c.signum), ("target", c.target)] for c in cases)
        return {pair for values in named for pair in combinations(values, 2)}

    some = covering_cases(NUM_SOME)
    assert (len(every_case()), len(some)) == (400, NUM_SOME)
    assert pairs(some) == pairs(every_case())
