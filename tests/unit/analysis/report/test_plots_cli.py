"""`commprof plots`: which figures come out of which runs, under which names, and the numbers behind those of its own."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from commprof.analysis.report.figures.files import write_figure
from commprof.analysis.report.figures.overview import Comparison, comparisons, efficiency_bars, speedup_bars
from commprof.analysis.report.figures.training import accuracy_curve, accuracy_figure, loss_curve
from commprof.analysis.report.numbers.data import cell_material
from commprof.analysis.runs.load import load_run
from commprof.analysis.study.below import Wanted, find_experiments
from commprof.cli import main
from commprof.commbench.errors import BadInput
from tests.factory import step, workload, write_bench_run, write_training_run
from tests.finished_study import PAIR_S, SINGLE_S, add_evaluations, finished_study, training

STUDY = ["speedup", "step-time", "bandwidth", "latency", "anatomy", "overhead", "buckets-2", "errors"]
LEARNING = ["loss-over-time", "loss-over-samples", "accuracy-over-time", "accuracy-over-samples"]
OVERVIEW = ["speedup-bars", "efficiency-bars", "predicted-measured"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a command left: the folder searched, the files, and what it printed."""

    root: Path
    out: Path
    printed: str
    noted: str

    @property
    def names(self) -> list[str]:
        return [Path(line).name for line in self.printed.splitlines()]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Everything below a folder that holds a study, another training, and a run that failed."""
    top = tmp_path_factory.mktemp("plots")
    root, out = top / "runs", top / "figures"
    finished_study(root / "demo")
    other = workload(experiment="Gr\u00f6\u00dfe/$x$ \U0001f600", dataset="synthetic")
    training(root / "loose-n2", 2, PAIR_S, work=other)
    write_bench_run(root / "broken", 1e-3, 1e9, status="failed")
    with pytest.MonkeyPatch.context() as patch:
        printed, noted = [], []
        patch.setattr("sys.stdout.write", printed.append)
        patch.setattr("sys.stderr.write", noted.append)
        assert main(["plots", str(root), "--out", str(out), "--format", "svg"]) == 0
    return Written(root=root, out=out, printed="".join(printed), noted="".join(noted))


def test_every_figure_that_the_data_allow_is_a_file_of_a_stable_name(written: Written) -> None:
    loose = ["groe-x-anatomy", "groe-x-loss-over-time", "groe-x-loss-over-samples"]
    expected = [*(f"demo-{name}" for name in (*STUDY, *LEARNING)), *loose, *OVERVIEW]
    assert {f"{name}.svg" for name in expected} <= set(written.names)
    assert not [name for name in written.names if name.startswith("groe-x-speedup")], "one run alone has no speedup"
    assert sorted(path.name for path in written.out.iterdir()) == sorted([*written.names, "captions.txt"])


def test_every_figure_has_a_caption_that_names_its_samples_and_files(written: Written) -> None:
    lines = (written.out / "captions.txt").read_text().splitlines()
    captions = dict(zip(lines[::3], lines[1::3], strict=True))
    assert list(captions) == written.names and not any(lines[2::3])
    assert all(f"Drawn from, in {written.root.resolve()}" in caption for caption in captions.values())
    assert captions["demo-accuracy-over-time.svg"].endswith(
        f"evaluations: train-n2 2. Drawn from, in {written.root.resolve()}/demo: train-n2/steps.rank*.jsonl, "
        "train-n2/evaluations.jsonl."
    )
    assert "15 steps of all ranks (profile-n1 5, train-n2 10)" in captions["demo-loss-over-samples.svg"]
    assert "demo: 15 steps of all ranks" in captions["speedup-bars.svg"]
    assert captions["demo-speedup.svg"].endswith(", analysis/predictions.json.")
    assert written.noted.endswith("figures/captions.txt\n")


def test_what_is_left_out_is_named_with_the_reason(written: Written) -> None:
    assert "commprof: left out broken: it is failed, not completed\n" in written.noted
    assert "left out groe-x-speedup, groe-x-step-time, groe-x-overhead: no data; it takes a prediction" in written.noted
    assert "left out groe-x-accuracy-over-time, groe-x-accuracy-over-samples: no data; it takes evaluations" in written.noted
    assert "demo-" not in written.noted


def test_names_from_files_are_drawn_as_text_that_the_font_has(tmp_path: Path) -> None:
    rows = [
        Comparison(experiment="$x$ \U0001f600 \x1b", world_size=2, work_s=0.2, measured_step_s=0.1, predicted=None),
        Comparison(experiment="y" * 60, world_size=4, work_s=0.4, measured_step_s=0.1, predicted=None),
    ]
    for draw, label in ((speedup_bars, "2.00<"), (efficiency_bars, "100.0<")):
        write_figure(draw(rows), tmp_path / "bars.svg", "svg")
        svg = (tmp_path / "bars.svg").read_text()
        assert "$x$ [U+1F600] \\x1b<" in svg and f">{'y' * 17}...{'y' * 16}<" in svg and ">4 ranks<" in svg
        assert label in svg


def test_a_pdf_holds_its_font_and_no_date(tmp_path: Path) -> None:
    run = load_run(finished_study(tmp_path / "demo") / "train-n2")
    curve = accuracy_curve(run)
    assert curve is not None
    write_figure(accuracy_figure([curve], "samples"), tmp_path / "a.pdf", "pdf")
    pdf = (tmp_path / "a.pdf").read_bytes()
    assert b"/CIDFontType2" in pdf and b"/FontFile2" in pdf and b"/Type3" not in pdf and b"CreationDate" not in pdf


def test_loss_and_accuracy_stand_over_counted_time_and_all_samples(tmp_path: Path) -> None:
    run = load_run(finished_study(tmp_path / "demo") / "train-n2")
    loss, accuracy = loss_curve(run), accuracy_curve(run)
    assert loss is not None and accuracy is not None
    assert loss.time_s == pytest.approx([PAIR_S * i for i in range(1, 6)]), "the warm-up step takes no time"
    assert loss.samples == (128, 192, 256, 320, 384), "but its samples were learnt from: 2 ranks of 32"
    assert loss.values == (1.0,) * 5
    assert accuracy.values == (0.5, 0.75)
    assert accuracy.time_s == pytest.approx((2 * PAIR_S, 5 * PAIR_S))
    assert accuracy.samples == (192, 384)


def test_a_long_run_is_drawn_as_means_of_equal_stretches(tmp_path: Path) -> None:
    steps = [replace(step(i, step_s=1.0), loss=float(i)) for i in range(300)]
    curve = loss_curve(load_run(write_training_run(tmp_path / "long", steps)))
    assert curve is not None
    assert curve.values == tuple(2 * i + 0.5 for i in range(150))
    assert curve.time_s[0] == 1.5


def test_speedups_are_the_medians_of_the_steps_that_are_left(tmp_path: Path) -> None:
    root = finished_study(tmp_path / "demo")
    slow_start = [step(i, step_s=9.0 if i < 3 else 0.2) for i in range(6)]
    write_training_run(root / "train-n4", slow_start, world_size=4, workload=workload(dataset="ag_news"))

    def speedups(warmup_steps: int) -> dict[int, float | None]:
        (experiment,) = find_experiments(root, Wanted(warmup_steps=warmup_steps)).experiments
        material = cell_material(experiment.runs, experiment.folder)
        return {row.world_size: row.measured_speedup for row in comparisons("demo", material)}

    assert speedups(0) == {2: pytest.approx(2 * SINGLE_S / PAIR_S), 4: pytest.approx(4 * SINGLE_S / 4.6)}
    assert speedups(3) == {2: pytest.approx(2 * SINGLE_S / PAIR_S), 4: pytest.approx(2.0)}


def test_a_data_set_is_chosen_by_name_whatever_its_spelling(tmp_path: Path) -> None:
    finished_study(tmp_path / "demo")
    for name, dataset in (("other", "synthetic"), ("old", None)):
        training(tmp_path / name, 1, SINGLE_S, work=workload(experiment=name, dataset=dataset))
    found = find_experiments(tmp_path, Wanted(datasets=frozenset({"AGNews"})))
    assert [experiment.name for experiment in found.experiments] == ["demo"]
    assert sorted(found.left_out) == ["old: it names no data set", "other: it read synthetic"]
    with pytest.raises(BadInput, match=r"--datasets imdb: no training below .* read it; named there: ag_news, synthetic"):
        find_experiments(tmp_path, Wanted(datasets=frozenset({"imdb"})))


def test_loose_runs_are_put_together_where_they_can_be_combined(tmp_path: Path) -> None:
    work = workload()
    for name, world_size, own in (("a", 1, work), ("b", 2, work), ("c", 2, replace(work, bucket_cap_bytes=4 * 2**20))):
        training(tmp_path / name, world_size, 0.1, work=own)
    write_bench_run(tmp_path / "d", 1e-3, 1e9)
    write_bench_run(tmp_path / "nested" / "e", 1e-3, 1e9, backend="nccl")
    found = find_experiments(tmp_path, Wanted())
    told = {experiment.name: [run.path.name for run in experiment.runs] for experiment in found.experiments}
    assert told == {"small": ["a", "b", "d"], "small 2": ["c", "d"], "nested bench": ["e"]}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["nowhere"], "nowhere is no folder"),
        ([".", "--warmup", "-1"], "--warmup -1 must not be negative"),
        (["."], "no completed run below .; make one with commprof study"),
    ],
)
def test_what_cannot_be_drawn_is_an_error_that_names_the_mend(
    flags: Sequence[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plots", *flags]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_damaged_run_takes_no_other_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_evaluations(training(tmp_path / "good", 1, SINGLE_S, work=workload()))
    training(tmp_path / "bad", 1, SINGLE_S, work=workload())
    (tmp_path / "bad" / "run.json").write_text(json.dumps({"kind": "\x1b[31m"}))
    monkeypatch.chdir(tmp_path)
    assert main(["plots", ".", "--out", "out"]) == 0
    said = capsys.readouterr()
    assert "bad/run.json is not a valid RunInfo" in said.err and "\x1b" not in said.err
    assert "out/small-accuracy-over-time.png\n" in said.out
