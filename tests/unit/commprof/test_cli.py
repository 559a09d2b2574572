import argparse
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.advice.predict_cli import VERB as PREDICT
from commprof.analysis.wire.cli import VERB as FIT
from commprof.cli import VERBS, main, parser_of, verb_named
from commprof.commbench.errors import BadInput
from commprof.commbench.verb import Verb
from tests.factory import MIB, collective, step, timeline, write_bench_run, write_measurements, write_training_run
from tests.forked import DEADLINE_S

SCRIPT = Path(sys.executable).parent / "commprof"


def parse(verb: Verb, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    return parser.parse_args(words)


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE_S, check=True
    ).stdout.strip()


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in VERBS)
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("name", VERBS)
def test_every_verbs_help_has_two_examples_and_80_columns(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert shown.count(f"commprof {name} ") >= 3  # the usage line and two examples
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("name", VERBS)
def test_every_default_is_in_the_help(name: str) -> None:
    parser = parser_of(name, verb_named(name))
    flags = [own for own in parser._actions if own.option_strings and own.default not in (None, False, [], argparse.SUPPRESS)]
    shown = {own.dest: f"{own.default:g}" if isinstance(own.default, float) else str(own.default) for own in flags}
    assert [own.dest for own in flags if f"({shown[own.dest]}" not in str(own.help)] == []


def test_a_mistyped_verb_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benhc"]) == 2
    assert "did you mean bench?" in capsys.readouterr().err
    for name in ("latest", "@train-n1"):
        assert main([name]) == 2
        assert f"it names a run, which a verb reads: commprof report {name}" in capsys.readouterr().err
    assert main([]) == 2


@pytest.mark.processes
@pytest.mark.parametrize(
    "code",
    [
        "import commprof.cli; commprof.cli.main(['--help'])",
        "from commprof.commbench import errors, units; from commprof.commbench.records import types, rundir; "
        "import commprof.commbench.bench.cli, commprof.commbench.links.cli",
        "import commprof.cli; commprof.cli.main(['completion', 'zsh'])",
    ],
)
def test_what_people_wait_for_does_not_load_torch(code: str) -> None:
    assert run_python(f"{code}; import sys; print('torch' in sys.modules)").endswith("False")


@pytest.mark.parametrize(
    ("word", "said"), [("help", "usage: commprof VERB"), ("version", "commprof "), ("-v", "commprof "), ("-V", "commprof ")]
)
def test_what_other_programs_take_is_taken(word: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 0
    assert capsys.readouterr().out.startswith("usage: commprof VERB" if word == "help" else "commprof ")


def test_help_of_a_verb_may_be_asked_for_first(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["help", "fit"])
    assert capsys.readouterr().out.startswith("usage: commprof fit")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bench", "--npoc", "2"], "there is no flag --npoc; did you mean --nproc?"),
        (["bench", "all_redce"], "did you mean all_reduce?"),
        (["predict", "x", "--jsn"], "did you mean --json?"),
        (["report", "--zzzzz=1", "x"], "there is no flag --zzzzz\n"),
        (["bench", "--backend", "ncl"], "did you mean nccl?"),
        (["fit", "--\x1b[2J", "x"], "there is no flag --\\x1b[2J"),
    ],
)
def test_a_wrong_word_gets_the_nearest_right_one(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    shown = capsys.readouterr().err
    assert said in shown
    assert "\x1b" not in shown


@pytest.mark.processes
def test_what_follows_two_dashes_is_another_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["testbed", "exec", "--hosts", "2", "--", "true", "--npoc"]) in (0, 1, 2)
    assert "there is no flag" not in capsys.readouterr().err


def test_an_error_is_one_line_and_the_exit_code_says_whose(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "-b", "12Q"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["report", "/nowhere"]) == 2
    assert "/nowhere is not a run folder" in capsys.readouterr().err


def test_a_hostile_name_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "x\x1b[2J\ny"]) == 2
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert shown.count("\n") == 1


@pytest.mark.usefixtures("here")
def test_what_is_written_is_named_without_steering_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    hostile = "x\x1b[31m\n\u202e\u200f"
    bench = write_bench_run(tmp_path / hostile, 1e-4, 1e9)
    assert main(["report", str(bench), "--markdown", "--out", str(tmp_path / hostile / "words.md")]) == 0
    assert main(["report", str(bench)]) == 0
    with pytest.raises(SystemExit):
        main(["fit", f"--{hostile}"])
    out, err = capfd.readouterr()
    assert not {"\x1b", "\u202e", "\u200f"} & set(out + err)
    assert out.splitlines()[-1] == "report.html"


@pytest.mark.processes
def test_a_reader_that_leaves_is_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [SCRIPT, "fit", "--times", "1=1", "2=2"], stdout=writer, stderr=subprocess.PIPE, timeout=DEADLINE_S
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.processes
def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [SCRIPT, "fit", "--times", "1=1", "2=2"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=DEADLINE_S
        )
    assert (done.returncode, done.stderr) == (
        1,
        "commprof: error: standard output cannot be written: No space left on device; make room where it goes\n",
    )


@pytest.mark.processes
def test_closed_streams_are_no_traceback_and_no_file_takes_their_place() -> None:
    code = """
import os, sys
for number in (0, 1, 2):
    os.close(number)
sys.stdin = sys.stdout = sys.stderr = None
from commprof.cli import _prepare_streams, main
_prepare_streams()
codes = main(["fit", "--times", "1=1", "2=2"]), main(["fit", "--times", "1=x"])
file = os.open(os.devnull, os.O_RDONLY)
os._exit(0 if codes == (0, 2) and file > 2 else 1)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=DEADLINE_S).returncode == 0


def test_fit_explains_four_times(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--times", "1=19.53", "4=42.34"]) == 0
    shown = capsys.readouterr().out
    assert "speedup 0.46x, efficiency 11.5%" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert main(["fit", "--times", "1=19.53", "4=42.34", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["world_size"], told["karp_flatt"]) == (4, pytest.approx(2.557, rel=1e-3))


def test_fit_and_predict_write_what_they_print(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = write_bench_run(tmp_path / "bench", 1e-4, 1e9)
    gradients = timeline([("w", 2**20, 0.06)], backward_s=0.06)
    profile = write_training_run(tmp_path / "profile", [step(i) for i in range(9)], gradients=gradients)
    assert main(["fit", str(bench)]) == 0
    assert "100 us [100 us, 100 us]" in capsys.readouterr().out
    assert (bench / "analysis" / "fit.json").exists()
    assert main(["predict", str(profile), str(bench), "-n", "2", "4"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "2: yes, 1.98x predicted" in shown
    assert (profile / "analysis" / "predictions.json").exists()


def test_fit_takes_every_collective_and_carries_each_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A ring all-gather: 3 messages on 4 ranks, 7 on 8; one that does not grow is named and spoils nothing."""
    flat = [replace(collective(size, [1e-4], world_size=4), op="broadcast") for size in (8, MIB)]
    gathered = [
        replace(collective(s, [3e-4 + 0.75 * s / 1e9], world_size=4), op="all_gather") for s in (2**k for k in range(3, 28))
    ]
    bench = write_measurements(tmp_path / "bench", [*gathered, *flat], world_size=4)
    assert main(["fit", str(bench), "--world-sizes", "8", "--beside", "h100x8-nvlink"]) == 0
    shown = capsys.readouterr().out
    assert "all-gather on p ranks" in shown
    assert re.search(r"all_gather, 8 ranks +~1.62 ms", shown)  # 700 us + 0.875 MiB at 1 GB/s
    assert "broadcast of float32 on 4 ranks: unusable: time does not grow with size" in shown
    assert re.search(r"h100x8-nvlink +28.4 us", shown)
    assert max(map(len, shown.splitlines())) <= 80
    assert main(["fit", str(bench), "--world-sizes", "8", "--json"]) == 0
    measured, carried = json.loads(capsys.readouterr().out)
    assert (measured["carried_from"], carried["carried_from"], carried["world_size"]) == ([], [4], 8)
    assert json.loads((bench / "analysis" / "fit.json").read_text()) == [measured, carried]


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        (FIT, []),
        (FIT, ["x", "--times", "1=1"]),
        (FIT, ["x", "--nodes", "2"]),
        (FIT, ["x", "--beside", "y"]),
        (PREDICT, ["x", "-n", "1"]),
    ],
)
def test_arguments_that_make_no_sense_are_refused(verb: Verb, words: list[str]) -> None:
    with pytest.raises(BadInput):
        verb.check(parse(verb, *words))


@pytest.mark.processes
def test_a_process_with_torch_ends_before_python_takes_its_threads_down() -> None:
    code = """
import atexit, sys, types
class Torn:
    def __del__(self): print("torn down")
keep = Torn()
atexit.register(print, "exit function")
sys.modules["torch"] = types.ModuleType("torch")
sys.argv = ["commprof", "nonsense"]
from commprof.cli import enter
print("unflushed", end=" ")
enter()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE_S)
    assert (done.returncode, done.stdout) == (2, "unflushed exit function\n")
