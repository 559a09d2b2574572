"""Logs that cannot be used are refused with the reason, and what was read of others is not pooled with another wire."""

from pathlib import Path

import pytest

from commprof.analysis.readers.foreign import figure
from commprof.analysis.readers.presets import preset_names
from commprof.analysis.runs.load import load_run
from commprof.analysis.wire.benched import fit_costs
from commprof.cli import main
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.rundir import read_info
from tests.factory import MIB, step, timeline, write_bench_run, write_training_run
from tests.unit.analysis.readers.tables import BANDWIDTH, LATENCY_S, Table, imported, lines


@pytest.mark.parametrize(("word", "value"), [("1e999", None), ("1e-999", 0.0), ("9" * 41, None), ("0." + "1" * 60, 1 / 9)])
def test_a_number_is_read_or_refused_and_never_an_error(word: str, value: float | None) -> None:
    read = figure(word)
    assert (read is None) if value is None else (read is not None and read.value == pytest.approx(value))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no table is recognised"),
        ("# nThread 1 nGpus 8\nnode: Test CUDA failure common.cu:892 'out of memory'\n", "Test CUDA failure"),
        ("./build/hypercube_perf\n" + "\n".join(lines(Table(ranks=4, listed=0))), "hypercube has no counterpart"),
        ("\n".join(lines(Table(listed=0), [8, 64])), "fit 5 to 65536 ranks and nothing else tells"),
        ("\n".join(lines(Table(ranks=1000, listed=0))), "fit 9.. to 1... ranks and nothing else tells"),
        ("\n".join(lines(Table())).replace(" time ", " cputime "), "CPU time"),
        ("   D\\D     0      1\n     0 910.02  18.83\n", "not collectives"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(UnusableData, match=reason):
        imported(text)


def test_hostile_files_are_answered_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "\x1b[31mbad.log"
    bad.write_text("\n".join(lines(Table())).replace("H100", "H\x1b[2J100\x07"))
    spaces, binary = tmp_path / "spaces", tmp_path / "binary"
    spaces.write_text("1 " * 50_000 + "\n" + " [0] NCCL INFO" * 9_000 + "\n" + "9" * 90_000 + "\n" + "{" * 90_000)
    binary.write_bytes(bytes(range(256)) * 40)
    (tmp_path / "nested").write_text('{"results": ' + "[" * 90_000)
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**30)
    names = [str(bad), *(str(tmp_path / name) for name in ("spaces", "binary", "nested", "huge", "missing", "."))]
    assert main(["import", *names, "--out", str(tmp_path / "runs")]) == 1
    out = capsys.readouterr().out
    assert out.count("REFUSED") == 6
    (run,) = (tmp_path / "runs").iterdir()
    assert "\x1b" not in out + (run / "run.json").read_text() + read_info(run).ranks[0].device_name
    assert "\x07" not in read_info(run).ranks[0].device_name


def test_a_log_is_not_pooled_with_another_wire_of_as_many_ranks(
    tmp_path: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log.txt").write_text("\n".join(lines(Table())))
    assert main(["import", str(tmp_path / "log.txt"), "--folder", str(tmp_path / "imported")]) == 0
    measured = write_bench_run(tmp_path / "measured", LATENCY_S, BANDWIDTH, world_size=8, backend="nccl")
    assert main(["fit", str(tmp_path / "imported"), str(measured)]) == 2
    assert "not of one wire" in capsys.readouterr().err
    assert main(["fit", str(tmp_path / "imported")]) == 0
    assert "one a size and so no interval" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "imported")]) == 0
    assert "log.txt, a log of another program" in (here / "report.html").read_text()


def test_every_preset_fits_and_answers_what_if(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = preset_names()
    assert main(["import", *(word for name in names for word in ("--preset", name)), "--out", str(tmp_path / "runs")]) == 0
    costs = [cost for run in (tmp_path / "runs").iterdir() for cost in fit_costs([load_run(run)]).values()]
    assert len(costs) == len(names)
    assert all(cost.message_bytes[0] == 256 * 2**10 and 1e9 < cost.bandwidth_bytes_per_s < 1e12 for cost in costs)
    ready = timeline([("w", 40 * MIB, 0.05)], 0.06)
    profile, of_cpu = (
        write_training_run(tmp_path / backend, [step(index) for index in range(10)], gradients=ready, backend=backend)
        for backend in ("nccl", "gloo")
    )
    assert main(["import", "--preset", "h100x8-nvlink", "--folder", str(tmp_path / "wire")]) == 0
    capsys.readouterr()
    assert main(["predict", str(profile), str(tmp_path / "wire"), "-n", "8"]) == 0
    assert "the wire is that of preset h100x8-nvlink" in capsys.readouterr().out
    for words in (["predict", str(of_cpu), str(tmp_path / "wire"), "-n", "8"], ["advise", str(of_cpu), str(tmp_path / "wire")]):
        assert main(words) == 2
        assert "no machine computes on CPUs and sends between GPUs" in capsys.readouterr().err
    page = tmp_path / "page.html"
    assert main(["report", str(of_cpu), str(tmp_path / "wire"), "--out", str(page)]) == 0
    assert "no machine computes on CPUs and sends between GPUs" in page.read_text()
    assert main(["import", "--preset", "abacus"]) == 2
    assert "known are a100x8-nvlink" in capsys.readouterr().err
