"""Numbers and lists beyond all bounds: one line that states the limit, at once, and never a loop, a crash or a full memory."""

import time

import pytest

from commprof.cli import main
from commprof.commbench.bench.plan import MAX_BUCKETS, parse_buckets
from commprof.commbench.errors import BadInput
from commprof.commbench.ranks.launched import detect_rank, expand_hosts, tasks_per_node
from commprof.commbench.records.quantities import MAX_RANKS
from commprof.train.config.limits import LARGEST
from tests import ROOT

SMALL = str(ROOT / "configs" / "small.yaml")
HUGE = 2**63 - 1
AT_ONCE_S = 10.0  # of the processor, however busy it is


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    began_s = time.process_time()
    assert main(words) == 2
    assert time.process_time() - began_s < AT_ONCE_S
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) < 400
    return line


@pytest.mark.parametrize("key", [f"{section}.{name}" for section, limits in LARGEST.items() for name in limits])
@pytest.mark.parametrize("value", [10**40, ".inf"])
def test_a_value_of_a_training_has_a_limit_that_is_stated(key: str, value: object, capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(["train", SMALL, f"{key}={value}"], capsys)
    assert key in line
    assert "use at most" in line or value == ".inf"


def test_heads_that_no_width_has_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert "model.heads" in refusal(["train", SMALL, f"model.heads={HUGE}"], capsys)
    assert refusal(["train", SMALL, "model.heads=1000000"], capsys).endswith("try heads=128")


def test_a_model_that_no_memory_holds_is_told_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(["train", SMALL, "model.d_model=1000000", "model.heads=1", "--nproc", "2"], capsys)
    assert "parameters on 2 ranks of this host need" in line and "is free; lower them" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bench", "-T", "1e300"], "at most 1e+06"),
        (["bench", "-T", "inf"], "at most 1e+06"),
        (["bench", "-T", "nan"], "at most 1e+06"),
        (["bench", "--seconds", "1e300"], "at most 1e+06"),
        (["bench", "-n", str(HUGE)], "use at most 50000"),
        (["bench", "-w", str(HUGE)], "1000000 untimed iterations"),
        (["bench", "--nproc", "1000000", "-e", "64"], "at most 1024 ranks"),
        (["bench", "-e", "999999999999999T"], "more than an exbibyte"),
        (["bench", "-e", "9" * 5000], "is not a number"),
        (["links", "--nproc", "2", "-n", str(HUGE)], "use at most 50000"),
        (["links", "--nproc", "2", "--timeout", "inf"], "at most 1e+06"),
        (["contention", "--nproc", "2", "-w", str(HUGE)], "1000000 untimed iterations"),
        (["contention", "--nproc", "2", "--timeout", "1e300"], "at most 1e+06"),
        (["train", SMALL, "training.seed=" + "[" * 3000], "the command line"),
        (["train", SMALL, "training.seed=" + "[" * 3000 + "]" * 3000], "the command line"),
        (["train", SMALL, "training.batch_size=" + "9" * 6000], "4300 digits"),
        (["study", str(ROOT / "configs/study-demo.yaml"), f"repeats={HUGE}"], "1 to 1000"),
        (["study", str(ROOT / "configs/study-demo.yaml"), f"world_sizes=[1,{HUGE}]"], "at most 65536 ranks"),
        (["study", str(ROOT / "configs/study-demo.yaml"), f"threads_per_rank={HUGE}"], "1 to 4096"),
        (["study", str(ROOT / "configs/study-demo.yaml"), f"contention.rounds={HUGE}"], "0 to 10000"),
        (["study", str(ROOT / "configs/study-demo.yaml"), "bench.seconds=.inf"], "at most 1e+06"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_a_flag_has_a_limit_that_is_stated(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in refusal(words, capsys)


SRUN = {"SLURM_PROCID": "0", "SLURM_NODEID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_NUM_TASKS": "2"}
SRUN |= {"SLURM_STEP_NUM_NODES": "2", "SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0"}


@pytest.mark.parametrize(
    ("tasks", "nodes"),
    [
        ("2(x99999999999)", "a"),
        ("99999999999(x2)", "a"),
        (",".join(["1(x60000)"] * 50), "a"),
        ("1(x2)", "a[1-99999999999]"),
        ("1(x2)", "a[1-60000]b[1-60000]"),
        ("1(x2)", "a" + "[1]" * 5000),
        ("1(x2)", "a" + "[1-9]" * 40 + "[2-1]"),
        ("1(x2)", "a[1-" + "9" * 5000 + "]"),
    ],
)
def test_a_job_of_more_ranks_than_there_may_be_is_told_at_once(tasks: str, nodes: str) -> None:
    began_s = time.process_time()
    with pytest.raises(BadInput, match="srun's environment is incomplete"):
        detect_rank(SRUN | {"SLURM_STEP_TASKS_PER_NODE": tasks, "SLURM_STEP_NODELIST": nodes})
    assert time.process_time() - began_s < AT_ONCE_S


def test_the_largest_job_there_may_be_is_read() -> None:
    assert tasks_per_node(f"1(x{MAX_RANKS})") == [1] * MAX_RANKS
    assert len(expand_hosts(f"a[1-{MAX_RANKS}]")) == MAX_RANKS


@pytest.mark.parametrize("count", [64, 70, MAX_BUCKETS])
def test_a_list_of_buckets_may_be_longer_than_a_file_s_name(count: int) -> None:
    sizes, source = parse_buckets(",".join(["25M"] * count))
    assert sizes == (25 * 2**20,) * count
    assert source == f"list of {count} sizes"


@pytest.mark.parametrize("text", ["1781/0M", "178M/0", "1/0.0001"])
def test_buckets_of_no_bytes_are_refused_at_once(text: str) -> None:
    with pytest.raises(BadInput, match="need a size above 0 in at most"):
        parse_buckets(text)


def test_a_list_of_too_many_buckets_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    listed = ",".join(["1"] * (MAX_BUCKETS + 1))
    line = refusal(["bench", "--mode", "burst", "--buckets", listed], capsys)
    assert f"a list of {MAX_BUCKETS + 1} sizes; need 1 to {MAX_BUCKETS}" in line
