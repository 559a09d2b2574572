"""Loops of which no line knows of commprof: none notices it, and each is recorded as it goes."""

import sys
from pathlib import Path
from statistics import median

import pytest

from commprof.commbench.foreign.asked import UNPASSED
from commprof.commbench.foreign.cli import _why_nothing
from commprof.commbench.records.rundir import read_document, read_info
from commprof.commbench.records.training import GradientTimeline
from tests import ROOT
from tests.distributed.conftest import run_in, steps_of
from tests.distributed.unchanged_loops import LONG_S, LOOPS, STEPS


@pytest.fixture(scope="module")
def loops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loops")
    done = run_in(ROOT, sys.executable, "-m", "tests.distributed.watched_loops", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", LOOPS)
def test_no_loop_notices_and_each_is_recorded(loops: Path, name: str) -> None:
    info, steps = read_info(loops / name), steps_of(loops / name)
    assert (info.status, info.failure) == ("completed", None)
    per_step = {"accumulated": 1 / 3, "gan": 2, "workers": 2}.get(name, 1)
    wanted = 8 if name == "scaled" else per_step * STEPS
    assert len(steps) == wanted - 1, "all but the first, which shows what is trained"
    for step in steps:
        assert step.data_s + step.forward_s + step.backward_s + step.optimizer_s == pytest.approx(step.step_s, abs=1e-9)
        assert step.backward_s > 0
        assert step.forward_s > 0
    assert info.workload is not None
    assert info.workload.kind == ("in_turn" if name == "gan" else "none")
    assert bool(info.unseen) == (name in ("compiled_in_place", "steps_in_backward"))
    assert not (loops / name / "cards").exists()


def test_micro_batches_and_samples_are_counted(loops: Path) -> None:
    def counted(name: str) -> tuple[int, int]:
        work = read_info(loops / name).workload
        assert work is not None
        return work.accumulation, work.samples_per_rank

    assert (counted("accumulated"), counted("plain"), counted("by_parts")) == ((3, 12), (1, 4), (1, 4))
    assert (counted("checkpointed"), counted("checkpointed_reentrant")) == ((1, 4), (1, 4))
    assert {step.num_samples for step in steps_of(loops / "generator")} == {1, 5}


@pytest.mark.parametrize("name", ["plain", "checkpointed", "checkpointed_reentrant", "steps_in_backward"])
def test_every_gradient_is_seen_in_the_one_backward_pass(loops: Path, name: str) -> None:
    """A backward pass may call parts' forward passes again, and a backward pass inside it: neither ends it."""
    timeline = read_document(loops / name / "gradients.json", GradientTimeline)
    assert len(timeline.parameters) == (6 if name.startswith("checkpointed") else 4)
    ready = [parameter.ready_s for parameter in timeline.parameters]
    assert max(ready) <= timeline.backward_s


def test_evaluations_and_checkpoints_between_steps_are_none_of_their_time(loops: Path) -> None:
    assert median(step.step_s for step in steps_of(loops / "evaluated")) < LONG_S / 2


def test_what_a_process_that_is_torn_away_recorded_stays(loops: Path) -> None:
    assert read_document(loops / "os_exit" / "gradients.json", GradientTimeline).num_steps == 4
    assert len(steps_of(loops / "os_exit")) == STEPS - 1


def test_steps_without_a_backward_pass_are_no_run_and_a_reason(loops: Path) -> None:
    (note,) = (loops / "alone").iterdir()
    assert note.read_text().splitlines() == [UNPASSED]
    assert "no backward pass came before an optimizer's step" in _why_nothing(["python", "torch", UNPASSED], 1)
