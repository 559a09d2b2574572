"""Work on several items is done wherever it is asked for."""

from multiprocessing import get_context

import pytest

from commprof.analysis.runs.workers import side_by_side


@pytest.mark.processes
def test_a_process_of_a_pool_does_the_work_itself() -> None:
    """It is a daemon, which may have no children."""
    with get_context("spawn").Pool(1) as pool:
        asked = pool.apply_async(side_by_side, (abs, [-1, -2]), {"deadline_s": 60.0, "doing": "counting"})
        assert asked.get(60) == [1, 2]
