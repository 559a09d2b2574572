"""The CPU time of a job's processes: the root's, its children's and theirs, and of those that ended; and who is stopped."""

import os
from pathlib import Path

from commprof.commbench.machine.processes import is_stopped, tree_ticks
from tests.unit.commbench.machine.test_network import write


def process(proc: Path, pid: int, ticks: tuple[int, int, int, int], *children: int, name: str = "python") -> None:
    fields = " ".join(map(str, ("S", *range(10), *ticks, 0, 0)))
    write(proc / str(pid), stat=f"{pid} ({name}) {fields}")
    write(proc / str(pid) / "task" / str(pid), children=" ".join(map(str, children)))


def test_a_tree_is_the_root_and_all_below_it(tmp_path: Path) -> None:
    process(tmp_path, 10, (1, 2, 3, 4), 11, 12)
    process(tmp_path, 11, (10, 0, 0, 0), 13, name="a) (b")
    process(tmp_path, 13, (100, 0, 0, 0))
    process(tmp_path, 99, (5000, 0, 0, 0))  # another job's
    assert tree_ticks(10, tmp_path) == 120  # 12 ended before it was read


def test_without_a_list_of_children_nothing_is_said(tmp_path: Path) -> None:
    write(tmp_path / "10", stat="10 (x) " + " ".join("0" * 20))
    assert tree_ticks(10, tmp_path) is None


def test_this_process_is_read() -> None:
    assert (tree_ticks(os.getpid()) or 0) > 0


def test_a_stopped_process_is_told_from_one_that_sleeps_ends_or_is_debugged(tmp_path: Path) -> None:
    for pid, state in enumerate("TtSZ", 10):
        write(tmp_path / str(pid), stat=f"{pid} (a) T (b) {state} 1 2 3")
    assert [is_stopped(pid, tmp_path) for pid in (10, 11, 12, 13, 99)] == [True, False, False, False, False]
