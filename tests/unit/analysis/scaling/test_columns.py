"""Tables as people have them: what their columns and cells mean, and what is said of those that could mean two things."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.analysis.scaling.columns.measures import Meaning, Unclear, meaning_of
from commprof.analysis.scaling.columns.numbers import decimal_comma, number_of
from commprof.analysis.scaling.extrapolate import extrapolate, extrapolate_all
from commprof.analysis.scaling.results import Refused
from commprof.analysis.scaling.series import Measure, Series
from commprof.analysis.scaling.speedup import ScalingKind
from commprof.analysis.scaling.table import parse_series
from commprof.commbench.errors import BadInput, UnusableData

COSTS = {8: 1.0, 16: 1.0 / 0.975, 32: 1.0 / 0.95}  # 1000, 1950 and 3800 of anything a second


def costs(series: Series, scaling: ScalingKind = "weak") -> dict[int, float]:
    """Return the cost by ranks over that of 8."""
    return {n: series.cost(n, scaling) / series.cost(8, scaling) for n in series.values}


@pytest.mark.parametrize(
    ("header", "measure", "values"),
    [
        ("GPUs,samples/sec", "throughput", (1000, 1950, 3800)),
        ("#GPUs,img/s", "throughput", (1000, 1950, 3800)),
        ("Number of GPUs,Images per second", "throughput", (1000, 1950, 3800)),
        ("NumGPUs,TokensPerSecond", "throughput", (1000, 1950, 3800)),
        ("world size,Throughput [samples/s]", "throughput", (1000, 1950, 3800)),
        ("n_gpus,tokens_per_sec_per_device", "throughput_per_rank", (125, 121.875, 118.75)),
        ("n_gpus,tokens/s/GPU", "throughput_per_rank", (125, 121.875, 118.75)),
        ("n_gpus,throughput (tok/s/GPU)", "throughput_per_rank", (125, 121.875, 118.75)),
        ("n_gpus,Per-GPU throughput (tok/s)", "throughput_per_rank", (125, 121.875, 118.75)),
        ("n_gpus,Throughput \u2191", "throughput", (1000, 1950, 3800)),
        ("n_gpus,Avg. step_time_ms", "step_s", (100, 100 / 0.975, 100 / 0.95)),
        ("n_gpus,samples/GPU/s", "throughput_per_rank", (125, 121.875, 118.75)),
        ("n_gpus,TFLOPs/GPU", "throughput_per_rank", (125, 121.875, 118.75)),
        ("n_gpus,Achieved teraFLOP/s per GPU", "throughput_per_rank", (125, 121.875, 118.75)),
        ("n_gpus,TPS/GPU", "throughput_per_rank", (125, 121.875, 118.75)),
        ("n_gpus,Percentage of theoretical peak FLOP/s", "mfu", ("40%", "39%", "38%")),
        ("n_gpus,TGS", "throughput_per_rank", (125, 121.875, 118.75)),
        ("n_gpus,batch,step,MFU", "mfu", ("8,100,40%", "8,100,39%", "8,100,38%")),
        ("n_gpus,MFU (%)", "mfu", ("40%", "39%", "38%")),
        ("n_gpus,scaling efficiency", "throughput_per_rank", ("100%", "97.5%", "95%")),
        ("n_gpus,Step time (ms)", "step_s", (100, 100 / 0.975, 100 / 0.95)),
        ("n_gpus,iteration time (s)", "step_s", (0.1, 0.1 / 0.975, 0.1 / 0.95)),
        ("n_gpus,ms/step", "step_s", (100, 100 / 0.975, 100 / 0.95)),
        ("n_gpus,it/s", "step_s", (10, 9.75, 9.5)),
        ("n_gpus,TFLOP/s/GPU,tokens/s", "throughput", ("140,1000", "9,1950", "7,3800")),
        ("n_gpus,step time", "step_s", ("100 ms", f"{100 / 0.975} ms", f"{100 / 0.95} ms")),
        ("n_gpus,throughput", "throughput", ("1k", "1.95k", "3.8k")),
        ("n_gpus,throughput", "throughput", ("1_000", "1 950", "~3800 ± 20")),
        ("n_gpus,throughput", "throughput", ('"1,000"', '"1,950.0"', "3800*")),
    ],
)
def test_columns_and_cells_are_read_as_people_write_them(header: str, measure: Measure, values: tuple[object, ...]) -> None:
    rows = "".join(f"{n},{value}\n" for n, value in zip(COSTS, values, strict=True))
    (series,) = parse_series(f"{header}\n{rows}")
    assert series.measure == measure
    assert costs(series) == pytest.approx(COSTS)


@pytest.mark.parametrize(
    "text",
    [
        "| GPUs | Throughput (tok/s) | MFU |\n|-----:|:--|---|\n| 8 | **1,000** | 5% |\n"
        "| 16 | 1,950 | 4% |\n| 32 | 3,800 | 3% |\n",
        "GPUs | throughput\n--- | ---\n8 | 1000\n16 | 1950\n32 | 3800\n",
        "n_gpus   throughput\n8        1000\n16       1950\n32       3800\n",
        "gpus throughput\n8 1000\n16 1950\n32 3800\n",
        "sep=;\nn_gpus;throughput\n8;1000\n16;1950\n32;3800\n",
        "# 7B, taken in May\nn_gpus,throughput\n8,1000\n16,1950\n32,3800\n",
        "Scaling of 7B\n\nn_gpus;step_s\n8;0,475\n16;0,487179\n32;0,5\n",
        "n_gpus,throughput\r8,1000,\r16,1950,\r32,3800,\r",
    ],
)
def test_tables_of_other_programs_are_taken_apart(text: str) -> None:
    (series,) = parse_series(text)
    assert costs(series) == pytest.approx(COSTS, rel=1e-5)


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("nodes,gpus_per_node", ("1,4", "1,8", "2,8", "4,8")),
        ("num_nodes,num_gpus_per_node", ("1,4", "1,8", "2,8", "4,8")),
        ("nodes,gpus", ("1,4", "1,8", "2,16", "4,32")),
        ("gpus", ("1x4", "1x8", "2x8", "4 x 8 GPUs")),
        ("gpus", ("4x1", "8x1", "8x2", "8x4")),
        ("Nodes x GPUs", ("1x4", "1x8", "2x8xA100", "4x8")),
    ],
)
def test_ranks_are_nodes_times_those_on_each(header: str, rows: tuple[str, ...]) -> None:
    body = "".join(f"{cells},{value}\n" for cells, value in zip(rows, (510, 1000, 1950, 3800), strict=True))
    (series,) = parse_series(f"{header},throughput\n{body}")
    assert series.values == {4: 510, 8: 1000, 16: 1950, 32: 3800}
    assert series.ranks_per_node == 8


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nodes,throughput\n1,10\n", "nodes, but not how many ranks each has; add a column gpus_per_node"),
        ("gpus,throughput\n2 nodes,10\n", "'2 nodes' names nodes, not ranks"),
        (
            "nodes,gpus,throughput\n1,8,10\n2,8,19\n",
            "8 ranks on 1 and on 2 nodes in one series; tell them apart by series, or, if",
        ),
        ("n_gpus,8,16\nthroughput,10,19\n", "numbers in the header; give a line for each number of ranks"),
        ("gpus,tokens/s (per node)\n8,10\n", "'tokens/s' is of a part of the ranks"),
        ("n_gpus,tps\n8,10\n", "'tps' may be over all ranks or of one"),
        ("n_gpus,TFLOPS\n8,10\n", "'tflops' may be over all ranks or of one"),
        ("n_gpus,epoch_time_s\n8,10\n", "'epoch time' is no step's"),
        ("n_gpus,step time\n8,10\n", "a time without its unit"),
        ("n_gpus,step time (h)\n8,10\n", "the unit 'h' of 'step time' is no time; use s or ms"),
        ("n_gpus,step_ms\n8,10 s\n", "'10 s' and a unit in the header"),
        ("n_gpus;throughput\n8;1,000\n16;1,950\n", "a comma may be decimal or of thousands in '1,000'"),
        ("n_gpus,step time\n8,900 ms\n16,1 s\n", "in one series; keep one metric and unit"),
        ("n_gpus,mfu\n8,152\n", "MFU of 152 is over 100 %"),
        ("n_gpus,throughput,throughput_per_gpu\n8,125,125\n16,121,121\n", "125 of 8 ranks and of one"),
        ("n_gpus,Throughput (fp16),Throughput (fp32)\n8,125,60\n", "several columns throughput; keep one"),
        ("n_gpus,tokens/gpu\n8,2048\n", "nothing measured"),
        ('[{"n_gpus": 8}]', "begins like JSON or HTML"),
    ],
)
def test_what_may_mean_two_things_is_not_guessed(text: str, words: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_series(text)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 200


def test_ranks_may_have_words_behind_them() -> None:
    (one,) = parse_series("gpus,throughput\n8x4090,10\n16 (2x8),19\n32xA100,37\n64 x H100 80GB,70\n")
    assert list(one.values) == [8, 16, 32, 64]


@pytest.mark.parametrize(("ranks", "node"), [((8, 16, 24), 8), ((4, 12, 32), 4), ((6, 18), 6), ((3, 9), 8)])
def test_a_node_that_nobody_named_is_one_that_the_rows_fill(ranks: tuple[int, ...], node: int) -> None:
    rows = "".join(f"{n},{n}\n" for n in ranks)
    (one,) = extrapolate_all(parse_series("n,throughput\n" + rows), [48], scaling="weak")
    assert not isinstance(one, Refused)
    assert f"ranks on a node not given: taken as {node} (--gpus-per-node)" in one.predictions[0].notes


def test_trainings_in_one_table_are_told_apart_by_what_they_are() -> None:
    rows = "7B,A,8,1000\n7B,A,16,1950\n13B,A,32,500\n13B,A,64,960\n"
    first, second = parse_series("model,framework,n_gpus,throughput\n" + rows)
    assert (first.name, second.name) == ("7B", "13B")
    assert (first.values, second.values) == ({8: 1000, 16: 1950}, {32: 500, 64: 960})
    tried = parse_series("experiment,n,throughput\nbase,8,100\nbase,16,195\ntuned,8,110\ntuned,16,215\n")
    assert [one.name for one in tried] == ["base", "tuned"]
    (runs,) = parse_series("name,n,throughput\ngpt2-8,8,100\ngpt2-16,16,195\n")
    assert list(runs.values) == [8, 16], "a name that stands beside one number of ranks is a run's"
    machines = parse_series("cluster,n,throughput\nlumi,8,10\njuwels,16,12\n")
    assert [(one.name, one.machine) for one in machines] == [("lumi", "lumi"), ("juwels", "juwels")]
    degrees = parse_series("parallelism,n,throughput\nDP 8 x TP 1,8,10\nDP=16 x TP 1,16,19\nDP 4 x TP 2; act ckpt,8,9\n")
    assert [(one.values, one.split) for one in degrees] == [({8: 10, 16: 19}, "dp x tp 1"), ({8: 9}, "dp x tp 2")]
    named = parse_series("batch_per_gpu,n_gpus,throughput\n32,8,1000\n64,8,1100\n32,16,1950\n64,16,2150\n")
    assert [one.name for one in named] == ["batch_per_gpu 32", "batch_per_gpu 64"]
    (one,) = parse_series("batch_per_gpu,n_gpus,throughput\n32,8,1000\n16,16,1900\n")
    assert one.batches == {8: 256, 16: 256}


def test_of_several_metrics_a_measurement_the_first_is_told() -> None:
    rows = "".join(f"{n},throughput,{100 * n},tok/s\n{n},mfu,50,%\n" for n in (8, 16))
    (series,) = parse_series("n_gpus,metric,value,unit\n" + rows)
    assert (series.measure, series.values) == ("throughput", {8: 800, 16: 1600})


@pytest.mark.parametrize(("scaling", "batches"), [("weak", (64, 64)), ("strong", (64, 128))])
def test_steps_of_other_batches_are_not_compared(scaling: ScalingKind, batches: tuple[int, int]) -> None:
    """One batch for all ranks is strong scaling, a growing one weak; throughputs compare either way."""
    (one,) = parse_series(f"n,global_batch_size,step_s\n8,{batches[0]},1\n16,{batches[1]},.7\n")
    other: ScalingKind = "strong" if scaling == "weak" else "weak"
    with pytest.raises(UnusableData, match=f"the batch of .* steps do not compare so; try --scaling {other}"):
        extrapolate(one, [32], scaling=scaling)
    assert extrapolate(one, [32], scaling=other).predictions[0].value
    (same,) = parse_series(f"n,global_batch_size,throughput\n8,{batches[0]},10\n16,{batches[1]},19\n")
    assert extrapolate(same, [32], scaling=scaling).predictions[0].value


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            "8,step_s,1.0\n16,step_s,0.75\n",
            "more each than 8: is one of the rows wrong, or the batch in all fixed",
        ),
        ("8,step_s,1.0\n16,step_s,0.5\n", "leave one out (--anchors), or the batch in all fixed (--scaling strong))"),
        ("8,throughput,980\n16,throughput,1.95\n", "the rows of 8 and 16 ranks do not compare"),
        ("8,throughput,125\n16,throughput,122\n", "16 ranks do hardly more in all than 8: if each row is one rank's, name it"),
        (
            "1,step_s,1.0\n2,step_s,0.55\n",
            "1 and 2 ranks do not compare: more than their number differs, or the batch",
        ),
    ],
)
def test_rows_that_look_like_something_else_are_doubted(rows: str, words: str) -> None:
    (one,) = extrapolate_all(parse_series("n,metric,value\n" + rows), [32], scaling="weak")
    assert not isinstance(one, Refused)
    assert words in " ".join(one.predictions[0].notes)


def test_a_node_that_is_partly_filled_is_told_between_whole_ones_and_said() -> None:
    (series,) = parse_series("n_gpus,gpus_per_node,throughput\n16,8,1950\n32,8,3700\n")
    whole, part, more = extrapolate(series, [24, 20, 36], scaling="weak").predictions
    assert whole.notes == ()
    for one in (part, more):
        assert one.notes == (f"{one.world_size} ranks leave a node of 8 partly empty: told as between whole nodes",)
    assert part.value is not None and whole.value is not None
    assert 1950 / 16 > part.value / 20 > whole.value / 24 > 3700 / 32


def test_a_long_table_takes_time_by_its_lines_alone() -> None:
    """Eight thousand lines of one training; and as many that each have a unit of their own."""
    values = "".join(f"{8 << (i % 4)},{1000 << (i % 4)},tok/s\n" for i in range(8_000))
    started_s = time.process_time()
    (one,) = parse_series("n,throughput,unit\n" + values)
    assert list(one.values) == [8, 16, 32, 64]
    with pytest.raises(BadInput, match="in one series; keep one metric and unit"):
        parse_series("n,throughput,unit\n" + "".join(f"{8 << (i % 4)},{i + 1},u{i}\n" for i in range(8_000)))
    assert time.process_time() - started_s < 4


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10**6,
        "n_gpus," + "a( " * 10**6,
        "|-|\n" + "-" * 10**6 + "x|",
        " " * 10**6 + "per",
        "n,throughput\n" + "0(" * 10**6 + ",1\n",
    ],
)
def test_a_hostile_table_is_refused_at_once(text: str) -> None:
    """Patterns that look for the end of a name from each place in it would take hours."""
    with pytest.raises(BadInput) as refused:
        parse_series(text)
    assert len(str(refused.value)) < 200


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=5), st.sampled_from([",", "'", "_", " ", "\u202f"]))
def test_thousands_are_what_they_were(values: list[int], mark: str) -> None:
    cells = [f"{value:,}".replace(",", mark) for value in values]
    assert not decimal_comma(cells, ",")
    assert [number.value for cell in cells if (number := number_of(cell, comma_is_decimal=False))] == values


@given(st.text(max_size=40))
def test_any_cell_is_a_finite_time_to_read(cell: str) -> None:
    told = number_of(cell, comma_is_decimal=False)
    assert told is None or isinstance(told.value, float)
    meaning = meaning_of(cell)
    assert meaning is None or isinstance(meaning, Meaning | Unclear)
