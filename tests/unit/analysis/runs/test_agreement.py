"""A run whose files do not belong together is refused by the name of the file, and nothing is worked out from it."""

import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from commprof.analysis.runs.load import load_run
from commprof.commbench.errors import BadInput
from commprof.commbench.records.links import PairMeasurement
from commprof.commbench.records.rundir import RUN_FILE, create_run, read_info, write_document, write_text
from tests.factory import collective, run_info, step, timeline, write_contention_run, write_measurements, write_training_run

GRADIENTS = timeline([("w", 8, 0.01)], 0.06)


def steps_on(run: Path, rank: int, numbers: list[int]) -> None:
    text = "".join(msgspec.json.encode(step(number)).decode() + "\n" for number in numbers)
    write_text(run / f"steps.rank{rank:05d}.jsonl", text)


FAULTS: list[tuple[Callable[[Path], object], str]] = [
    (lambda run: (run / "steps.rank00000.jsonl").unlink(), "lacks steps.rank00000.jsonl of a rank"),
    (lambda run: (run / "steps.rank00001.jsonl").unlink(), "lacks steps.rank00001.jsonl of a rank"),
    (lambda run: steps_on(run, 7, [0]), "steps.rank00007.jsonl is of rank 7, the run of 2 ranks"),
    (lambda run: steps_on(run, 1, [0, 1, 1]), "steps.rank00001.jsonl: `step` 1 follows step 1"),
    (lambda run: write_document(run / "gradients.json", replace(GRADIENTS, rank=7)), "gradients.json: `rank` is 7"),
]


@pytest.mark.parametrize(("damage", "said"), FAULTS)
def test_files_of_a_training_that_disagree_are_named(tmp_path: Path, damage: Callable[[Path], object], said: str) -> None:
    run = write_training_run(tmp_path / "r", [step(0), step(1)], world_size=2, gradients=GRADIENTS)
    damage(run)
    with pytest.raises(BadInput, match=re.escape(said)):
        load_run(run)


def test_measurements_on_other_ranks_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"collectives\.jsonl: `world_size` is 3, in run\.json it is 2"):
        load_run(write_measurements(tmp_path / "b", [collective(8, [1e-3], world_size=3)]))
    contention = write_contention_run(tmp_path / "c", [(8, 1.0, 1.0)], world_size=2)
    write_document(contention / RUN_FILE, run_info("contention", world_size=4))
    with pytest.raises(BadInput, match=r"contention\.jsonl: `world_size` is 2"):
        load_run(contention)


def test_a_run_that_failed_may_lack_the_steps_of_a_rank(tmp_path: Path) -> None:
    run = write_training_run(tmp_path / "r", [step(0)], world_size=2, status="failed")
    (run / "steps.rank00001.jsonl").unlink()
    assert list(load_run(run).steps) == [0]


def test_a_run_of_more_ranks_than_there_are_files_is_told_at_once(tmp_path: Path) -> None:
    run = write_training_run(tmp_path / "r", [step(0)], world_size=1)
    write_document(run / RUN_FILE, replace(read_info(run), world_size=65_536))
    begun_s = time.process_time()
    with pytest.raises(BadInput, match=r"lacks steps\.rank00001"):
        load_run(run)
    assert time.process_time() - begun_s < 5


@pytest.mark.parametrize(
    ("sender", "receiver", "said"),
    [
        (0, 7, "pairs.jsonl names rank 7, and run.json does not; it belongs to another run"),
        (0, 1, "pairs.jsonl pairs ranks 0 and 1, which run.json has on one host, host"),
    ],
)
def test_pairs_of_another_run_are_named(tmp_path: Path, sender: int, receiver: int, said: str) -> None:
    create_run(tmp_path / "l", run_info("links", world_size=2))
    pair = PairMeasurement(round=0, sender=sender, receiver=receiver, message_bytes=8, samples_s=(1e-3,), timer="fake")
    write_text(tmp_path / "l" / "pairs.jsonl", msgspec.json.encode(pair).decode() + "\n")
    with pytest.raises(BadInput, match=re.escape(said)):
        load_run(tmp_path / "l")
