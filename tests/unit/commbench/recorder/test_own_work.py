"""What ends the recorder's own work, and what is none of its business to keep from the job."""

import signal

import pytest

from commprof.commbench.errors import Interrupted
from commprof.commbench.recorder.own_work import OwnWork


def test_an_error_ends_the_work_and_reaches_nobody() -> None:
    said: list[str] = []
    work = OwnWork(said.append)
    work.do(lambda: 1 / 0)
    work.do(lambda: said.append("done after all"))
    assert said == ["ZeroDivisionError: division by zero"]


def test_a_signal_that_comes_meanwhile_is_the_jobs() -> None:
    def stopped() -> None:
        raise Interrupted("stopped by SIGTERM", signal.SIGTERM)

    work = OwnWork(lambda _: pytest.fail("the recorder let go of a job that was asked to end"))
    with pytest.raises(Interrupted):
        work.do(stopped)
    assert not work.ended
