"""Every prediction, sum and table closes: parts add up to the step, as numbers and as they are printed."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from commprof.analysis.advice.parts_text import parts_blocks
from commprof.analysis.advice.predict import predict_runs
from commprof.analysis.advice.predict_text import prediction_sheet
from commprof.analysis.report.sections.assumptions import assumption_table
from commprof.analysis.runs.load import Run, load_run, load_runs
from commprof.analysis.step.assumptions import check_assumptions
from commprof.analysis.step.closing import closing
from commprof.analysis.step.estimate import Setting
from commprof.analysis.step.gather import gather
from commprof.analysis.step.results import Overhead
from commprof.analysis.step.what_if import what_if, what_if_sheet
from commprof.commbench.display.sheet import plain_text
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.training import BucketTiming, StepMeasurement
from tests.factory import MIB, timeline, write_bench_run, write_training_run
from tests.paper_study import STEPS

SECONDS = st.floats(1e-6, 100)
GRADIENTS = timeline([("head", MIB, 0.03), ("embedding", 8 * MIB, 0.05)], backward_s=0.06)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """Runs whose steps are made up anew for each example."""
    folder = tmp_path_factory.mktemp("runs")
    made = {
        "profile": write_training_run(folder / "profile", STEPS, gradients=GRADIENTS),
        "compute": write_training_run(folder / "compute", STEPS, world_size=2, synchronised=False, gradients=GRADIENTS),
        "real": write_training_run(folder / "real", STEPS, world_size=2, gradients=GRADIENTS),
        "bench": write_bench_run(folder / "bench", 100e-6, 1e9),
    }
    loaded = {name: load_run(path) for name, path in made.items()}

    def named(name: str) -> Run:
        return loaded[name]

    return named


def made_up(run: Run, seed: int, pace: float) -> Run:
    """The run with steps whose phases vary by up to a third, each rank's for itself, rank 1 up to twice as slow."""
    draw = random.Random(seed)
    paces = {rank: pace * draw.uniform(1, 2) if rank else pace for rank in run.steps}

    def varied(one: StepMeasurement, rank: int) -> StepMeasurement:
        forward, backward, gap = (paces[rank] * draw.uniform(1, 1.3) * seconds for seconds in (0.04, 0.06, 0.003))
        return replace(one, forward_s=forward, backward_s=backward, step_s=forward + backward + gap)

    return replace(run, steps={rank: tuple(varied(one, rank) for one in own) for rank, own in run.steps.items()})


def bucketed(run: Run, draw: random.Random) -> Run:
    """The run with buckets that landed at any time after they were ready."""
    assert run.gradients is not None
    ready = [parameter.ready_s for parameter in run.gradients.parameters]
    landed = [at + draw.uniform(0, 0.05) for at in ready]
    buckets = tuple(
        BucketTiming(index=i, num_bytes=MIB, ready_s=at, launched_s=at, done_s=done)
        for i, (at, done) in enumerate(zip(ready, landed, strict=True))
    )
    return replace(run, gradients=replace(run.gradients, buckets=buckets))


def printed_sum(cells: Sequence[str]) -> float:
    return round(sum(map(float, cells)), 9)


@example(seed=4345, side_by_side=2.90625, measured=True)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), side_by_side=st.floats(1.0, 3.0), measured=st.booleans())
def test_the_parts_of_a_prediction_add_up_to_its_step(
    known: Callable[[str], Run], seed: int, side_by_side: float, measured: bool
) -> None:
    runs = [made_up(known("profile"), seed, 1.0), known("bench")]
    runs += [made_up(known("compute"), seed + 1, 1.3 * side_by_side)] if measured else []
    predicted = predict_runs(runs)
    (part,), schedule = predicted.overheads, predicted.predictions[0]
    never_below_zero = (part.single_step_s, part.waiting_s, part.copies_s, part.exposed_s)
    assert sum(never_below_zero) + part.compute_s == pytest.approx(schedule.step_s)
    assert min(never_below_zero) >= 0
    assert part.compute_s >= -0.05 * part.step_s
    row = plain_text(prediction_sheet(predicted, (), ())).partition("exposed communication\n")[2].splitlines()[1]
    *cells, step, unit = row.split()[1:]
    assert printed_sum(cells) == float(step)
    assert float(step) * {"s": 1, "ms": 1e-3}[unit] == pytest.approx(schedule.step_s, rel=1e-3)
    (answer,) = what_if(gather(runs), Setting(sent_share=0.5, batch=2.0))
    computed, exposed, changed = plain_text(what_if_sheet([answer])).splitlines()[1].split()[3:6]
    assert printed_sum([computed, exposed]) == float(changed)


def test_copies_that_were_measured_have_their_column(tmp_path: Path) -> None:
    """Two ranks side by side take 50 ms longer, 20 % of their backward being copies where one rank has none."""
    plain = timeline([("head", MIB, 0.03), ("embedding", 8 * MIB, 0.06)], backward_s=0.06)
    copying = timeline([("head", MIB, 0.04), ("embedding", 8 * MIB, 0.08)], backward_s=0.1)
    slower = [replace(one, backward_s=0.11, step_s=0.153) for one in STEPS]
    folders = [
        write_training_run(tmp_path / "profile", STEPS, gradients=plain),
        write_training_run(tmp_path / "compute", slower, world_size=2, synchronised=False, gradients=copying),
        write_bench_run(tmp_path / "bench", 100e-6, 1e9),
    ]
    (part,) = predict_runs(load_runs(folders)).overheads
    assert (part.copies_s, part.compute_s) == (pytest.approx(0.022), pytest.approx(0.028))


@given(st.lists(SECONDS | st.just(0.0) | SECONDS.map(lambda s: -0.01 * s), min_size=1, max_size=6))
def test_what_is_printed_adds_up_to_what_is_printed(parts_s: list[float]) -> None:
    parts, total = closing(parts_s)
    number, unit = total.split()
    assert printed_sum(parts) == float(number)
    scale = {"s": 1.0, "ms": 1e-3, "us": 1e-6}[unit]
    digit = 10.0 ** -len(number.partition(".")[2])
    assert all(abs(float(text) - part / scale) <= 1.01 * digit for text, part in zip(parts, parts_s, strict=True))


def test_the_table_of_parts_fits_a_terminal() -> None:
    part = Overhead(world_size=4096, single_step_s=0.422, compute_s=0.077, waiting_s=0.0, copies_s=0.0001, exposed_s=0.00432)
    lines = plain_text(parts_blocks([part, replace(part, single_step_s=4220.0)])).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[-2].split() == ["4096", "422.00", "77.00", "0.00", "0.10", "4.32", "503.42", "ms"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), with_buckets=st.booleans())
def test_what_a_run_differs_by_adds_up_to_the_error(known: Callable[[str], Run], seed: int, with_buckets: bool) -> None:
    real = made_up(known("real"), seed, 1.2)
    real = bucketed(real, random.Random(seed)) if with_buckets else real
    checks = check_assumptions([made_up(known("profile"), seed, 1.0), known("bench"), real], 2)
    assert sum(check.explains_s for check in checks) == pytest.approx(checks[0].error_s)
    measured_s = {check.name: check.measured_s for check in checks if check.measured_s is not None}
    assert min(measured_s[name] for name in ("input", "computation", "backward", "stragglers", "communication")) >= 0
    shares = [str(row[5]) for row in assumption_table(checks).rows if row[5] != "-"]
    assert abs(sum(int(share.removesuffix("%")) for share in shares) - 100) <= len(shares)


def test_a_run_that_cannot_be_compared_has_no_parts(known: Callable[[str], Run]) -> None:
    with pytest.raises(UnusableData, match="not comparable"):
        predict_runs([made_up(known("profile"), 0, 4.0), known("bench"), known("compute")])
