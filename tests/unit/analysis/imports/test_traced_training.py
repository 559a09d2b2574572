"""Traces that become a profile, drawn on paper; each step in milliseconds, the GPU above, its host's calls below:

            0        40 50        70 80 85  90 100   110   120
    rank 0  |forward=|====A=======|===B=====|         |opt=|
                                  |--0---|  |----1----|
    rank 1  |forward====|====A========|==B=====|      |opt=|
                                      |0-|     |--1---|
    host    forward 1, autograd 2, A 3, bucket 0 at 4, B 5, bucket 1 at 6, optimizer 7

Rank 0 computes for 100 of its 120 ms, rank 1 for 110; backward takes 50 on both, and bucket 0 is ready after 30 of them.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.browser import chromium, visit
from commprof.analysis.advice.changes import changes
from commprof.analysis.advice.predict import predict_runs
from commprof.analysis.imports.profile import read_profile
from commprof.analysis.imports.traced_training import understand_traces
from commprof.analysis.report.sections.build import write_report
from commprof.analysis.runs.load import load_run, load_runs
from commprof.analysis.step.estimate import Setting, estimate
from commprof.analysis.step.gather import gather
from commprof.analysis.step.inputs import SingleRank
from commprof.analysis.traces.one_rank.files import is_trace
from commprof.cli import main
from commprof.commbench.errors import UnusableData
from tests.factory import write_bench_run, write_contention_run
from tests.traces import all_reduce, event, header, kernel, profiler_step, write_trace
from tests.unit.analysis.traces.all_ranks.test_buckets import AUTOGRAD, Events, call, gloo_rank

MS = 1000.0  # microseconds
STEP_MS, STEPS = 120, 3
ELEMENTS = 1_000_000


def traced_step(number: int, late: float, **args: object) -> Events:
    """One step of the rank whose forward pass takes `late` ms more than rank 0's."""
    t = (number - 1) * STEP_MS
    at = [t + ms for ms in range(8)]
    spans = {1: (0, 40 + late), 3: (40 + late, 70 + late), 5: (70 + late, 90 + late), 7: (110, 120)}
    sent = {4: (70 + late, 85), 6: (90 + late, 110)}
    first = 10 * number
    events = [
        profiler_step(number, t * MS, (t + STEP_MS) * MS),
        event("cpu_op", AUTOGRAD + "Mm", at[2] * MS, (at[2] + 0.5) * MS),
    ]
    for row, (start, end) in spans.items():
        events += kernel("gemm", (t + start) * MS, (t + end) * MS, launched_us=at[row] * MS, correlation=first + row)
    for row, (start, end) in sent.items():
        events += call(at[row] * MS, at[row] * MS + 3)
        own = {"launched_us": at[row] * MS + 1, "correlation": first + row, "elements": ELEMENTS, **args}
        events += all_reduce((t + start) * MS, (t + end) * MS, **own)  # type: ignore[arg-type]
    return events


def traced_rank(late: float, **args: object) -> Events:
    return [own for number in range(1, STEPS + 1) for own in traced_step(number, late, **args)]


def write_ranks(folder: Path, **args: object) -> list[str]:
    paths = [folder / f"big-rank{rank}.pt.trace.json.gz" for rank in range(2)]
    return [str(write_trace(path, traced_rank(10.0 * rank, **args), header(rank))) for rank, path in enumerate(paths)]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traces")
    assert main(["import", *write_ranks(folder), "--folder", str(folder / "run")]) == 0
    return folder / "run"


def test_steps_and_buckets_are_those_on_paper(imported: Path) -> None:
    run = load_run(imported)
    assert (run.world_size, run.info.backend, run.info.imported_from) == (2, "nccl", "big-rank0.pt.trace.json.gz and 1 more")
    for rank, step_ms in ((0, 100), (1, 110)):
        assert [step.step for step in run.steps[rank]] == [1, 2, 3]
        for step in run.steps[rank]:
            parts = (step.forward_s, step.backward_s, step.optimizer_s, step.step_s)
            assert parts == pytest.approx([(step_ms - 60) / 1e3, 0.05, 0.01, step_ms / 1e3], abs=1e-6)
    work, gradients = run.info.workload, run.gradients
    assert work is not None
    assert gradients is not None
    assert work.starts_together
    assert (work.experiment, work.num_parameters, work.gradient_bytes) == ("big", 2_000_000, 8_000_000)
    assert [own.num_bytes for own in gradients.parameters] == [4_000_000] * 2
    assert [own.ready_s for own in gradients.parameters] == pytest.approx([0.03, 0.05], abs=1e-6)
    assert gradients.backward_s == gradients.parameters[-1].ready_s


def test_the_predicted_step_is_that_worked_out_by_hand(imported: Path, tmp_path: Path) -> None:
    """The slower rank's 110 ms are spread as the median parts 45 + 50 + 10, and a bucket takes 40 ms on this wire: the second
    ends 80 ms after the first is ready, with 20 * 110/105 ms of backward in between. What contention runs say is in it."""
    bench = write_bench_run(tmp_path / "bench", 1e-9, 1e8, backend="nccl")
    hindered = write_contention_run(tmp_path / "contention", [(4_000_000, 3.0, 3.0)], backend="nccl")
    predicted = predict_runs(load_runs([imported, bench, hindered]))
    assert predicted.predictions[0].step_s == pytest.approx((110 + 80 - 20 * 110 / 105) / 1e3, rel=1e-3)
    assert predicted.single_step_s == pytest.approx(0.105)
    assert not any("bucket" in change.what and "close" in change.what for change in predicted.changes)
    notes = " ".join(predicted.predictions[0].assumptions)
    assert "big-rank0.pt.trace.json.gz and 1 more" in notes
    assert "profiler" in notes


def test_other_numbers_of_ranks_are_not_judged_by_the_slowest_of_two(imported: Path, tmp_path: Path) -> None:
    """Of the six steps, half 100 and half 110 ms, the slower of eight draws is 110; on a free wire only that is left."""
    bench = write_bench_run(tmp_path / "bench", 1e-9, 1e13, world_size=8, backend="nccl")
    (eight,) = gather(load_runs([imported, bench]), [8]).at
    assert float(estimate(eight).step_s[0]) == pytest.approx(0.11, rel=1e-3)
    assert (eight.measured_at_n, eight.slowdown, eight.alone_s) == (False, 1.0, pytest.approx(0.105))
    assert not any("MiB" in change.what for change in changes(eight, SingleRank(step_s=0.105, update_s=0.0)))
    with pytest.raises(UnusableData, match="cannot be laid out anew"):
        estimate(eight, Setting(caps_bytes=(2**20, 2**20)))


def test_gloo_without_its_waiting_and_no_want_of_cores_is_made_up(tmp_path: Path) -> None:
    """In microseconds: of 200, 45 to 47 and 60 to 90 only send; backward begins at 10, buckets are ready at 20 and 40."""
    events = gloo_rank([*call(22, 23, elements=1000), *call(42, 43, elements=500)])
    path = write_trace(tmp_path / "rank1.json", events, header(1))
    assert main(["import", str(path), "--folder", str(tmp_path / "run")]) == 0
    run = load_run(tmp_path / "run")
    (step,) = run.steps[1]
    assert (step.forward_s, step.backward_s, step.optimizer_s) == pytest.approx((10e-6, 30e-6, 128e-6))
    assert run.gradients is not None
    assert run.info.workload is not None
    assert not run.info.workload.starts_together
    assert not run.info.oversubscribed
    assert [own.ready_s for own in run.gradients.parameters] == pytest.approx([10e-6, 30e-6])
    bench = write_bench_run(tmp_path / "bench", 1e-12, 1e15, world_size=4, cores=1)
    (four,) = gather(load_runs([tmp_path / "run", bench]), [4]).at
    assert float(estimate(four).step_s[0]) == pytest.approx(168e-6, rel=1e-3)


def test_gradients_in_two_bytes_stay_two_bytes_on_the_wire(tmp_path: Path) -> None:
    paths = write_ranks(tmp_path, dtype="BFloat16")
    assert main(["import", *paths, "--folder", str(tmp_path / "run")]) == 0
    bench = write_bench_run(tmp_path / "bench", 1e-9, 1e8, backend="nccl")
    (two,) = gather(load_runs([tmp_path / "run", bench]), [2]).at
    assert (two.workload.num_parameters, two.workload.communication_hook, two.sent_share) == (2_000_000, "bf16", 0.5)
    assert [two.sent_share * bucket.num_bytes for bucket in two.buckets] == [2_000_000, 2_000_000]


def test_it_says_what_became_of_traces_and_what_they_cannot_tell(
    tmp_path: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write_ranks(tmp_path)
    assert main(["import", *paths, "--out", str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert "6 steps of 120 ms" in out
    assert "15 ms are exposed" in " ".join(out.split())
    assert "2 buckets, 7.629 MiB" in out
    assert main(["import", paths[1], "--out", str(tmp_path / "runs"), "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert (answer["ok"], answer["world_size"], answer["num_steps"], answer["bucket_bytes"]) == (True, 2, 3, [4_000_000] * 2)
    assert any("1 of 2 ranks have no trace" in note for note in answer["notes"])
    bench = write_bench_run(tmp_path / "bench", 1e-9, 1e8, backend="nccl")
    assert main(["report", answer["run"], str(bench)]) == 0
    page = (here / "report.html").read_text()
    assert "traced under torch.profiler" in page
    assert "traces whose profiler slowed it" in page  # of a prediction


@pytest.mark.processes
def test_the_page_does_not_offer_other_bucket_caps(imported: Path, tmp_path: Path) -> None:
    if chromium() is None:
        pytest.skip("no Chromium; apt-get install chromium")
    bench = write_bench_run(tmp_path / "bench", 1e-9, 1e8, backend="nccl")
    page = write_report([imported, bench], tmp_path / "report.html").page
    said = "document.getElementById('what-if-cap-shown').textContent"
    visited = visit(page, f"const cap = document.getElementById('what-if-cap'); return [cap.disabled, cap.max, {said}];")
    assert (visited.value, visited.console) == ([True, "0", "as traced"], ())


def without(events: Events, *names: str) -> Events:
    return [own for own in events if not own["name"].startswith(names)]


TWICE = [*traced_step(1, 0), *[own | {"ts": own["ts"] + 30 * MS} for own in [
    event("user_annotation", "DistributedDataParallel.forward", 0, 1), event("cpu_op", AUTOGRAD + "Mm", 2, 3), *call(4, 7),
    *all_reduce(9, 10, launched_us=5, correlation=99)]]]  # fmt: skip


def gathered_after(share: float) -> Events:
    """Rank 0's trace, in each step of which the optimizer is followed by a gather of a share of the gradients' bytes."""
    gathered = {"Collective name": "_allgather_base", "Out msg nelems": int(share * 2 * ELEMENTS)}
    return traced_rank(0) + [
        own | {"name": own["name"].replace("AllReduce_Sum_f32", "AllGather")}
        for number in range(1, STEPS + 1)
        for own in all_reduce(
            (number * STEP_MS - 2) * MS, (number * STEP_MS - 1) * MS, launched_us=(number * STEP_MS - 3) * MS,
            correlation=1000 + number, elements=int(share * ELEMENTS), **gathered,
        )
    ]  # fmt: skip


REFUSED: dict[str, tuple[Events, dict[str, Any], str]] = {
    "no steps": (without(traced_rank(0), "ProfilerStep"), header(0), "marks no steps; profile with a schedule"),
    "no DDP": (without(traced_rank(0), "nccl"), header(0), "holds no collective"),
    "no buckets": (without(traced_rank(0), "c10d::"), header(0), "no all-reduce that DDP launched during backward"),
    "no sizes": (traced_rank(0, dtype="quark"), header(0), "do not tell the sizes"),
    "doubles": (traced_rank(0, dtype="Double"), header(0), "its buckets are of Double"),
    "two passes": (TWICE, header(0), "buckets from several backward passes"),
    "parameters gathered": (gathered_after(1.0), header(0), "its ranks send 7.629 MiB a step by all_gather, as ZeRO and"),
    "no ranks": (traced_rank(0), header(None), "say --world-size N"),
    "rank beyond": (traced_rank(0), header(7), "rank 7 is not one of 2 ranks"),
    "too many": (traced_rank(0, **{"Group size": 900_000}), header(0, 900_000), "of which there may be 65536"),
    "tensor parallel": (traced_rank(0), header(0, 8), "over 2 of 8 ranks"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_missing_is_named_in_one_sentence(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events, fields, words = REFUSED[case]
    path = write_trace(tmp_path / "\x1b[31mt.json", events, fields)
    assert main(["import", str(path), "--out", str(tmp_path / "runs")]) == 1
    out = capsys.readouterr().out
    assert words in " ".join(out.split())
    assert "REFUSED" in out
    assert "\x1b" not in out
    assert not (tmp_path / "runs").exists()


def test_a_little_that_is_sent_besides_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_trace(tmp_path / "t.json", gathered_after(0.2), header(0))
    assert main(["import", str(path), "--out", str(tmp_path / "runs"), "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert any(note.startswith("all_gather outside DDP's buckets") for note in answer["notes"])


def test_two_traces_of_a_rank_are_not_chosen_from(tmp_path: Path) -> None:
    paths = [write_trace(tmp_path / f"{name}.json", traced_rank(0), header(0)) for name in ("x", "y")]
    with pytest.raises(UnusableData, match=r"y.json is left out: .*x.json is rank 0 too; name one trace a rank"):
        understand_traces([read_profile(path) for path in paths], None)


def test_jobs_are_not_mixed_and_logs_beside_traces_stay_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here, there = (write_trace(tmp_path / f"{size}.json", traced_rank(0), header(size - 2, size)) for size in (2, 4))
    log = tmp_path / "mpirun.log"
    log.write_text('[1,0]<stdout>: {"ph": "X"}\n')
    cut = tmp_path / "cut.json.gz"
    cut.write_bytes(Path(write_ranks(tmp_path)[0]).read_bytes()[:60])
    assert not is_trace(log)
    assert not is_trace(tmp_path)
    assert main(["import", str(here), str(there), str(log), str(cut), "--out", str(tmp_path / "runs")]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "jobs of 2 and 4 ranks" in out
    assert out.count("REFUSED") == 3
    assert main(["import", str(here), "--world-size", "4", "--out", str(tmp_path / "runs")]) == 1
    assert "the traces are of a job of 2 ranks" in capsys.readouterr().out
    reduced = tmp_path / "reduced"
    assert main(["trace", "--reduce", str(here), "--out", str(reduced)]) == 0
    capsys.readouterr()
    assert main(["import", *map(str, reduced.iterdir()), "--out", str(tmp_path / "runs")]) == 1
    assert "import the trace it was made from" in " ".join(capsys.readouterr().out.split())
