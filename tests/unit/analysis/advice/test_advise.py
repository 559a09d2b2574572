import argparse
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.analysis.advice.advise import advise
from commprof.analysis.advice.changes import changes
from commprof.analysis.advice.cli import VERB as ADVISE
from commprof.analysis.advice.predict import predict_runs
from commprof.analysis.advice.results import Advice, RankAdvice
from commprof.analysis.advice.text import advice_sheet
from commprof.analysis.runs.interval import Interval
from commprof.analysis.runs.load import load_runs
from commprof.analysis.step.estimate import Setting, estimate
from commprof.analysis.step.gather import gather
from commprof.analysis.step.inputs import SingleRank, StepInputs
from commprof.analysis.step.results import Change
from commprof.analysis.step.what_if import answer
from commprof.cli import main
from commprof.commbench.display.sheet import Words
from commprof.commbench.errors import BadInput
from tests.factory import MIB, step, timeline, workload, write_bench_run, write_training_run
from tests.paper_study import verdict

# One rank: 103 ms, of which 2 ms are the optimizer's. One bucket of 8 MiB, ready when backward's 60 ms end, so that all of its
# 52.5 ms on the wire of two ranks are exposed: T_2 = 155.5 ms.
STEP_S, UPDATE_S, COMM_S = 0.103, 0.002, 0.0525
TRANSFER_S = 8 * MIB / 1e9
LATENCY_S = COMM_S - TRANSFER_S
SINGLE = SingleRank(step_s=STEP_S, update_s=UPDATE_S)
STEPS = [step(i) for i in range(20)]
GRADIENTS = timeline([("w", 8 * MIB, 0.06)], backward_s=0.06)


def write_study(folder: Path, *, latency_s: float = LATENCY_S, **work: object) -> list[Path]:
    own = workload(**work)  # type: ignore[arg-type]
    return [
        write_training_run(folder / "profile", STEPS, gradients=GRADIENTS, backend="nccl", workload=own),
        write_bench_run(folder / "bench", latency_s, 1e9, backend="nccl"),
    ]


def inputs(folders: list[Path], world_size: int = 2) -> StepInputs:
    return gather(load_runs(folders), [world_size]).at[0]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def known(folders: list[Path]) -> StepInputs:
    return inputs(folders)


@pytest.fixture(scope="module")
def two(folders: list[Path]) -> RankAdvice:
    return advise(load_runs(folders)).ranks[0]


def saved(advice: RankAdvice) -> dict[str, float]:
    return {row.what: row.seconds_saved for row in advice.what_ifs}


def test_a_model_of_a_few_bytes_is_made_no_smaller_than_one(tmp_path: Path) -> None:
    write_training_run(tmp_path / "one", STEPS, gradients=timeline([("w", 8, 0.06)], 0.06), backend="nccl")
    write_bench_run(tmp_path / "bench", LATENCY_S, 1e9, backend="nccl")
    small = estimate(inputs([tmp_path / "one", tmp_path / "bench"]), Setting(model=1e-3))
    assert [bucket.num_bytes for bucket in small.buckets] == [1]


def test_a_batch_pays_where_one_rank_takes_longer_for_twice_the_samples(two: RankAdvice) -> None:
    """2 (101 b + 2) > 101 b + 2 + 52.5 from b = 0.5 on: 16 of 32 samples. Bisected to 2 %, so that it may say 17."""
    found = two.smallest_batch
    assert (found.now, found.smallest_tried, found.largest_tried) == (32, 1, 2048)
    assert found.smallest in (16, 17)
    assert found.possibly is not None and found.surely is not None
    assert 8 < found.possibly < 16 < found.surely < 32


def test_an_update_grows_with_the_model_alone() -> None:
    assert SingleRank(step_s=10.0, update_s=2.0).changed_s(batch=2.0, model=3.0) == 3 * (2 * 8 + 2)


def test_a_model_pays_where_its_computation_outgrows_the_latency(two: RankAdvice) -> None:
    """Transfer grows with it as computation does: 2 (103 m) > 103 m + 8.39 m + 44.11 from m = 0.466 on."""
    assert two.smallest_model.smallest == pytest.approx(1e6 * LATENCY_S / (STEP_S - TRANSFER_S), rel=0.025)


def test_the_bottleneck_moves_where_the_wire_takes_as_long_as_backward(two: RankAdvice, tmp_path: Path) -> None:
    """44.11 ms + 8.39 ms / f = 60 ms: at 0.53 times the bandwidth of 1 GB/s. Where latency takes longer, at none."""
    needed = two.bottleneck.busbw_needed_bytes_per_s
    assert needed == pytest.approx(1e9 * TRANSFER_S / (0.06 - LATENCY_S), rel=1e-4)
    assert two.bottleneck.busbw_bytes_per_s == pytest.approx(1e9)
    slow = advise(load_runs(write_study(tmp_path, latency_s=0.2))).ranks[0]
    assert slow.bottleneck.busbw_needed_bytes_per_s is None
    assert slow.smallest_batch.smallest == pytest.approx(32 * (0.2 + TRANSFER_S - UPDATE_S) / (STEP_S - UPDATE_S), rel=0.04)


def test_ranks_that_cost_nothing_always_pay_and_hopeless_ones_never(tmp_path: Path) -> None:
    free = advise(load_runs(write_study(tmp_path / "free", latency_s=1e-9))).ranks[0]
    assert free.smallest_model.smallest == free.smallest_model.smallest_tried == 1e6 / 64
    hopeless = advise(load_runs(write_study(tmp_path / "none", latency_s=50.0))).ranks[0]
    assert hopeless.smallest_batch.smallest is hopeless.smallest_model.smallest is hopeless.smallest_batch.possibly is None


def test_under_strong_scaling_the_batch_of_all_ranks_counts(tmp_path: Path) -> None:
    """101 b + 2 > 51 b + 2 + 25 from b = 0.5 on: 16 samples for both ranks together; twice the ranks cannot be predicted."""
    runs = write_study(tmp_path, latency_s=0.025 - TRANSFER_S, scaling="strong")
    half = [step(i, forward_s=0.02, backward_s=0.03) for i in range(20)]
    share = workload(scaling="strong", samples_per_rank=16, synchronised=False)
    runs.append(
        write_training_run(tmp_path / "compute", half, world_size=2, backend="nccl", workload=share, gradients=GRADIENTS)
    )
    found = advise(load_runs(runs)).ranks[0]
    assert found.smallest_batch.smallest in (16, 17)
    assert found.smallest_batch.smallest_tried == 2
    assert any(note.startswith("4 ranks cannot be predicted") for note in found.notes)


def test_a_profile_without_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"run\.json is not a valid RunInfo.*workload\.samples_per_rank"):
        advise(load_runs(write_study(tmp_path, samples_per_rank=0)))


def test_other_hardware_saves_what_it_takes_away(two: RankAdvice) -> None:
    rows = saved(two)
    assert rows["computation twice as fast"] == pytest.approx(STEP_S / 2, rel=1e-3)
    assert rows["twice the wire's bandwidth"] == pytest.approx(TRANSFER_S / 2, rel=1e-3)
    assert rows["half the wire's latency"] == pytest.approx(LATENCY_S / 2, rel=1e-3)
    four_s = STEP_S + 3 * LATENCY_S + 1.5 * TRANSFER_S  # the ring's, for twice the samples
    assert rows["4 ranks, its wire extrapolated"] == pytest.approx(STEP_S + COMM_S - four_s / 2, rel=1e-3)
    assert rows["the wire of rtx4090x2-pcie"] == pytest.approx(COMM_S - 0.0040774, rel=1e-3)  # its time for 8 MiB
    assert all(row.interval_s.low <= row.seconds_saved <= row.interval_s.high for row in two.what_ifs)


@given(
    batch=st.floats(0.1, 20),
    accumulation=st.integers(1, 16),
    compute=st.floats(0.2, 5),
    sent_share=st.sampled_from([None, 0.5]),
    bucket_view=st.booleans(),
)
def test_no_change_gives_more_than_n(known: StepInputs, **changed: object) -> None:
    """A larger batch spreads the optimizer's work on one rank as on two: both are set alike."""
    setting = Setting(**changed)  # type: ignore[arg-type]
    assert 0 < answer(known, setting, SINGLE).speedup <= 2 * (1 + 1e-9)


def test_named_changes_stay_below_n(tmp_path: Path) -> None:
    """On a free wire all of the update that eight micro-batches share is saved, on one rank too: 2.00x, not 2.03x."""
    free = load_runs(write_study(tmp_path, latency_s=1e-9, bucket_cap_bytes=MIB))
    found = advise(free).ranks[0]
    assert any("accumulate" in change.what for change in found.changes)
    assert max(row.speedup for row in (*found.changes, *(row for row in found.what_ifs if "4 ranks" not in row.what))) <= 2


def test_a_size_without_a_published_wire_says_which_have_one(folders: list[Path]) -> None:
    (three,) = advise(load_runs(folders), [3]).ranks
    assert three.extrapolated
    assert any("no published wire of 3 ranks; there are some of 2, 4, 8, 16 ranks" in note for note in three.notes)


def test_the_wires_of_gpus_are_not_shown_to_a_cpus_computation(folders: list[Path], tmp_path: Path) -> None:
    of_cpu = [
        write_training_run(tmp_path / "profile", STEPS, gradients=GRADIENTS),
        write_bench_run(tmp_path / "bench", LATENCY_S, 1e9),
    ]
    (found,) = advise(load_runs(of_cpu)).ranks
    assert not any("the wire of" in row.what for row in found.what_ifs)
    assert any("published wires are between GPUs and this computation is a CPU's" in note for note in found.notes)


def test_of_bucket_caps_the_best_alone_is_named(tmp_path: Path) -> None:
    """Twenty gradients of 2 MiB with a latency of 3 ms each: the fewer messages, the better, until the last waits for all."""
    ready = [(f"p{i}", 2 * MIB, 0.003 * (i + 1)) for i in range(20)]
    runs = write_study(tmp_path, latency_s=0.003, first_bucket_bytes=MIB, bucket_cap_bytes=MIB)
    write_training_run(
        tmp_path / "even", STEPS, gradients=timeline(ready, 0.06), backend="nccl", workload=load_runs(runs)[0].info.workload
    )
    known = inputs([tmp_path / "even", runs[1]])
    steps_s = {cap: estimate(known, Setting(caps_bytes=(cap * MIB,) * 2)).step_s[0] for cap in (2, 4, 10, 25, 50, 100)}
    best = min(steps_s, key=lambda cap: steps_s[cap])
    named = [change.setting for change in changes(known, SINGLE) if "bucket_cap_mb" in change.setting]
    assert named == [f"distributed.bucket_cap_mb={best}"]


def test_what_cannot_be_configured_is_not_advised(folders: list[Path]) -> None:
    plain = inputs(folders)
    settings = " ".join(change.setting for change in changes(plain, SINGLE))
    assert "training.accumulation=8 training.batch_size=256" in settings
    assert "communication_hook=bf16" in settings
    fixed = replace(plain, workload=replace(plain.workload, static_graph=True, communication_hook="bf16"))
    settings = " ".join(change.setting for change in changes(fixed, SINGLE))
    assert "accumulation" not in settings
    assert "hook" not in settings


def test_a_gain_that_may_be_none_is_not_advised(folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commprof.analysis.advice.changes.interval", lambda draws: Interval(low=0.0, high=2 * float(draws[0])))
    assert changes(inputs(folders), SINGLE) == []


def test_the_verdict_says_what_the_first_change_saves_and_costs(folders: list[Path]) -> None:
    runs = load_runs(folders)
    predicted = predict_runs(runs)
    told = tuple(replace(change, interval_s=Interval(low=0.001, high=0.1)) for change in predicted.changes)
    cure = verdict(replace(predicted, changes=told), [], runs)[-1]
    assert cure.startswith("Try first: send gradients in two bytes (distributed.communication_hook=bf16)")
    assert "predicted to save 4.19 ms (" in cure
    assert "but gradients are summed with 8 significant bits." in cure
    more = "accumulate gradients over 8 batches (training.accumulation=8 training.batch_size=256), 47.7 ms ("
    assert f"More would save, but may change what is learnt: {more}" in cure


def test_where_only_other_updates_help_that_is_said_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The hook is in use already, one parameter cannot be cut, and its gradient is a view of the bucket."""
    folders = write_study(tmp_path, communication_hook="bf16", gradient_as_bucket_view=True)
    runs = load_runs(folders)
    assert {change.alters_learning for change in predict_runs(runs).changes} == {True}
    assert verdict(predict_runs(runs), [], runs)[-1].startswith(
        "Nothing that leaves the updates as they are surely saves more than 1 %"
    )
    assert main(["advise", *map(str, folders)]) == 0
    text = capsys.readouterr().out
    assert text.index("no setting that leaves the updates as they are") < text.index("to change with what is learnt")


@pytest.mark.parametrize(("backend", "hook"), [("nccl", "bf16_compress_hook"), ("gloo", "fp16_compress_hook")])
@pytest.mark.parametrize(
    "origin", [{"command": ("train.py", "train")}, {"command": ("commprof", "import"), "imported_from": "torch.profiler"}]
)
def test_whoever_has_no_configuration_of_ours_is_told_in_torchs_words(
    tmp_path: Path, backend: str, hook: str, origin: dict[str, object]
) -> None:
    gradients = timeline([("a", 8 * MIB, 0.03), ("b", 8 * MIB, 0.06)], 0.06)
    work = workload(first_bucket_bytes=100 * MIB, bucket_cap_bytes=100 * MIB)
    profile = write_training_run(tmp_path / "profile", STEPS, gradients=gradients, backend=backend, workload=work, **origin)
    bench = write_bench_run(tmp_path / "bench", 1e-5, 1e9, backend=backend)
    advice = advise(load_runs([profile, bench])).ranks[0]
    settings = " ".join(change.setting for change in advice.changes)
    assert hook in settings and "DistributedDataParallel(..., bucket_cap_mb=" in settings
    for word in ("training.", "distributed.bucket", "distributed.gradient", "distributed.communication"):
        assert word not in settings
    alters = [change.alters_learning for change in advice.changes]
    assert not alters[0] and alters == sorted(alters)


def test_parameters_of_a_larger_model_fill_buckets_sooner(tmp_path: Path, folders: list[Path]) -> None:
    gradients = timeline([("a", 600_000, 0.03), ("b", 600_000, 0.06)], 0.06)
    profile = write_training_run(tmp_path / "p", STEPS, gradients=gradients, backend="nccl")
    known = inputs([profile, folders[1]])
    assert [bucket.num_bytes for bucket in estimate(known).buckets] == [1_200_000]
    assert [bucket.num_bytes for bucket in estimate(known, Setting(model=2.0)).buckets] == [1_200_000] * 2


def test_the_verb_prints_80_columns_or_one_document(folders: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(folder) for folder in folders]
    money = ["--price", "2.5", "--samples", "120000", "--epochs", "10", "--deadline", "50min"]
    assert main(["advise", *words, "--world-sizes", "2", "3", *money]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "      training.accumulation=8 training.batch_size=256\n      but 1/8 of the updates per epoch" in shown
    assert "10 epochs in 0.833 h: cheapest on 2 ranks" in " ".join(shown.split())
    assert main(["advise", *words, "--json"]) == 0
    document = msgspec.json.decode(capsys.readouterr().out, type=Advice)
    assert [ranks.world_size for ranks in document.ranks] == [2]
    assert document.costs is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--world-sizes", "1"], "ask about 2 to"),
        (["--price", "0"], "more than 0"),
        (["--price", "nan"], "more than 0"),
        (["--samples", "0"], "1 to"),
        (["--deadline", "2h"], "--deadline needs .* --samples"),
        (["--epochs", "3"], "--epochs needs .* --samples"),
        (["--samples", "9", "--deadline", "soon"], "write for example 2h"),
        ([], "not a run folder"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(words: list[str], message: str) -> None:
    parser = argparse.ArgumentParser()
    ADVISE.add_arguments(parser)
    with pytest.raises(BadInput, match=message):
        ADVISE.check(parser.parse_args(["/nowhere", *words]))


def test_an_interval_that_reaches_below_zero_is_explained_where_it_stands(folders: list[Path]) -> None:
    runs = load_runs(folders)
    sure = advise(runs)
    (ranks,) = sure.ranks
    first, unsure = ranks.changes[0], ranks.changes[-1]  # 4.2 and 47.7 ms of a step whose pace is off by 5.5 ms either way

    def explained(*changes: Change) -> bool:
        told = advice_sheet(replace(sure, ranks=(replace(ranks, changes=changes),)), runs)
        return any(isinstance(block, Words) and "cannot be told from no saving" in block.text for block in told)

    assert (explained(first), explained(first, unsure)) == (False, True)
