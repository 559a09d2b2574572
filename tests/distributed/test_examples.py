"""Every example that README.md, the first ten minutes, the optimization guide and `--help` show: it runs as it is typed, or,
where that takes long, its words are accepted.

The first ten minutes' bench and trainings run once, the bench as a shell starts it, in a folder of their own, with words added
that make them small; what reads runs then reads those.
"""

import glob
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from commprof.cli import VERBS, main, parser_of, verb_named
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import read_info, write_document
from commprof.testbed.network import check_usable
from tests.distributed.conftest import SCRIPT, run_in
from tests.factory import collective, retime_steps, write_measurements
from tests.forked import Zygote

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MINUTES = (ROOT / "docs" / "first-ten-minutes.md").read_text()
GUIDE = (ROOT / "docs" / "optimization-guide.md").read_text()
TINY = (
    "model.vocabulary=300 model.sequence_length=16 model.d_model=16 model.layers=1 model.heads=2 model.feed_forward=32 "
    "data.synthetic_articles=1000 data.cache_dir=cache training.batch_size=8 training.evaluate=false"
)
SMALLER = {"bench": "-e 4M -f 16 -n 5 -w 1", "train": f"{TINY} training.max_steps=14"}
# What is not run, and why; its words are parsed and checked as before a run.
ONLY_CHECKED = {
    "bench": "measures for a minute; test_bench.py runs it",
    "links": "starts ranks; test_links.py runs it",
    "contention": "starts ranks; test_contention.py runs it",
    "record": "starts the reader's own program; test_record.py runs it",
    "train": "trains for minutes; test_train.py and test_training_options.py run it",
    "study": "takes minutes, or a testbed; test_study_script.py and tests/slurm run it",
    "testbed": "makes network namespaces as root; tests/testbed runs it",
}
# Cannot even be checked without files that only an interrupted run leaves.
NOT_EVEN_CHECKED = {
    "20261122T...": "goes on with a run that was interrupted; test_resume.py and test_bench_faults.py do",
}
# Names that stand for the reader's own runs.
STAND_INS = {
    **dict.fromkeys(("RUN", "EARLIER_RUN", "runs/BENCH", "runs/TODAY", "runs/LAST-WEEK"), "large-bench"),
    **dict.fromkeys(("runs/TRAIN", "runs/AFTER"), "runs/*-train-n2-*"),
    "runs/BEFORE": "runs/*-train-n1-*",
    "runs/PROFILE": "runs/*-train-n1-*",
    "runs/GPU_PROFILE": "gpu-profile",
    "runs/demo": "demo",
    **dict.fromkeys(("runs/MONDAY", "runs/BENCH2"), "large-bench"),
    "runs/TUESDAY": "runs/*-bench-n2-*",
    "runs/BENCH4": "bench-of-4",
    **{f"runs/{name}": f"{name}-bench" for name in ("gather", "scatter", "reduce")},
    "AGNews": "synthetic",
}
CHECK_SAYS_NO = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A line as it is shown, and its words from the verb on."""

    line: str
    words: tuple[str, ...]

    @property
    def verb(self) -> str:
        return self.words[0]


def examples() -> Iterator[Example]:
    """Yield those of the documents, then those of each verb's help."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", f"{README}\n{MINUTES}\n{GUIDE}", re.MULTILINE | re.DOTALL)
    for block in (text for language, text in blocks if not language):
        for line in block.replace("\\\n", " ").splitlines():
            yield from example(line)
    for name in VERBS:
        for line in verb_named(name).examples:
            yield from example(line)


def example(line: str) -> Iterator[Example]:
    """Yield the line's words as commprof gets them, if it is a command: the prompt, sudo and torchrun come before them."""
    command = re.match(r"(?:\$ |sudo |srun |torchrun |eval \"\$\(|\.venv/bin/)?[^#]*?\bcommprof (?P<words>[a-z].*)", line)
    if command is None:
        return
    text = re.sub(r"(\s+#|\s+>|\)\").*$", "", command["words"])
    words = tuple(shlex.split(text))
    assert words[0] in VERBS, line
    yield Example(line=line, words=words)


SHOWN = tuple(dict.fromkeys(examples()))
# What is shown twice, in README and by --help say, runs once.
EXAMPLES = tuple({own.words: own for own in reversed(SHOWN)}.values())[::-1]
_STEPS = MINUTES.partition("## Your own machine")[2].split("```")[1].splitlines()
WALK = [own for own in SHOWN if own.line in _STEPS]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, zygote: Zygote) -> Path:
    """Take the first ten minutes' steps that measure, made small, and add what else the examples name."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "configs").symlink_to(ROOT / "configs")
    (folder / "train.py").write_text("")  # what the reader's own script is called
    for step in (own for own in WALK if own.verb in SMALLER):
        if step.verb == "bench":
            line = f"{step.line.partition('#')[0]} {SMALLER[step.verb]}"
            done = run_in(folder, "bash", "-c", line, PATH=f"{SCRIPT.parent}:{os.environ['PATH']}")
        else:
            done = zygote.run(folder, "commprof", *step.words, *SMALLER[step.verb].split())
        assert done.returncode == 0, (step.line, done.stderr)
    for num_ranks, step_s in ((1, 0.020), (2, 0.025)):  # were one rank's measured beside others, two could seem too fast
        (run,) = (folder / "runs").glob(f"*-train-n{num_ranks}-*")
        retime_steps(run, step_s)
    shutil.copytree(folder / "runs", folder / "demo", ignore=shutil.ignore_patterns("*.pt"))
    (study,) = (folder / "demo").glob("*-train-n1-*")
    shutil.copytree(study, folder / "gpu-profile")
    write_document(folder / "gpu-profile" / "run.json", replace(read_info(study), backend="nccl"))
    write_document(folder / "demo" / "run.json", replace(read_info(study), kind="study", run_id="demo", workload=None))
    (trained,) = (folder / "runs").glob("*-train-n2-*")
    shutil.copytree(trained / "traces", folder / "traces")
    for rank in range(2):
        shutil.copy(trained / "traces" / f"rank{rank:05d}.trace.json.gz", folder / f"rank{rank}.json.gz")
    log = "size,time_us,op,ranks\n" + "".join(f"{4**k},{20 + 4**k / 1e5},all_reduce,8\n" for k in range(5, 15))
    (folder / "logs").mkdir()
    for name in ("all_reduce.log", "logs/one.txt", "logs/two.txt"):
        (folder / name).write_text(log)
    for name, n, op in (
        ("large-bench", 2, "all_reduce"),
        ("bench-of-4", 4, "all_reduce"),
        ("gather-bench", 2, "all_gather"),
        ("scatter-bench", 2, "reduce_scatter"),
        ("reduce-bench", 2, "all_reduce"),
    ):
        swept = [collective(4**k, [1e-4 + 4**k / 1e9] * 5, world_size=n, op=op) for k in range(5, 16)]
        write_measurements(folder / name, swept, world_size=n)
    (folder / "table.csv").write_text("n_gpus,throughput\n1,100\n2,190\n4,370\n")
    (folder / "nodes.csv").write_text(
        "n_gpus,nodes,throughput_per_gpu,machine\n8,1,5200,a100\n16,2,5100,a100\n32,4,5050,a100\n"
    )
    (folder / "data" / "ag_news_csv").mkdir(parents=True)
    articles = "".join(f'"{i % 4 + 1}","Title {i}","A dog number{i} barks."\n' for i in range(1000))
    for name in ("train.csv", "test.csv"):
        (folder / "data" / "ag_news_csv" / name).write_text(articles)
    return folder


def words_here(words: tuple[str, ...]) -> list[str]:
    """Put this folder's runs for the reader's, but not where one is to be written, and expand patterns as a shell does."""
    named = [
        word if before == "--folder" else STAND_INS.get(word, word) for before, word in zip(("", *words), words, strict=False)
    ]
    return [found for word in named for found in (sorted(glob.glob(word)) or [word])]


def test_there_are_examples_of_every_verb_and_a_walk_from_bench_to_report() -> None:
    assert {own.verb for own in EXAMPLES} == set(VERBS)
    assert [own.verb for own in WALK] == ["env", "bench", "check", "train", "predict", "advise", "train", "report", "report"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda own: " ".join(own.words))
def test_examples_are_right(example: Example, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setattr("commprof.study.estimate.tried_step_s", lambda study, model: 0.5)  # test_study_plan.py tries one
    monkeypatch.setenv("PATH", f"{SCRIPT.parent}:{os.environ['PATH']}")  # torchrun's place
    words = words_here(example.words)
    if example.verb not in ONLY_CHECKED or "--dry-run" in words:
        shutil.rmtree("runs/h100", ignore_errors=True)
        if "runs/h100" in words and example.verb == "predict":
            assert main(["import", "--preset", "h100x8-nvlink", "--folder", "runs/h100"]) == 0
        before = set(Path("runs").iterdir())
        assert main(words) in ((0, CHECK_SAYS_NO) if example.verb == "check" else (0,))
        if example.verb == "import":  # what others mean by runs/*-train-n2-* is the walk's own training
            for imported in set(Path("runs").iterdir()) - before:
                shutil.rmtree(imported)
        return
    verb = verb_named(example.verb)
    args = parser_of(example.verb, verb).read([*words[1:], *(TINY.split() if example.verb == "train" else ())])
    if example.verb == "testbed" or "study-testbed" in example.line:
        try:
            check_usable()
        except BadInput as reason_not:
            pytest.skip(str(reason_not))
    if not any(word in example.line for word in NOT_EVEN_CHECKED):
        verb.check(args)


def test_formats_names_every_file_of_these_runs(home: Path) -> None:
    known = re.sub(r"\d+", "0", (ROOT / "docs" / "formats.md").read_text())
    files = [file.relative_to(run) for run in (home / "runs").iterdir() for file in run.rglob("*") if file.is_file()]
    assert len(files) > 20
    unknown = {name for file in files if (name := re.sub(r"\d+", "0", file.name)) not in known}
    assert unknown == set()
