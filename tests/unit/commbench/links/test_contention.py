import pytest

from commprof.cli import main
from commprof.commbench.contention.backward import width_for
from commprof.commbench.contention.cli import row
from commprof.commbench.contention.overlap import inside, mean_s
from commprof.commbench.machine import hardware
from commprof.commbench.records.contention import ContentionMeasurement
from tests.factory import MIB


def test_only_whole_units_inside_the_window_count() -> None:
    spans = [(-1.0, 0.5), (0.0, 1.0), (1.0, 3.0), (3.0, 4.5), (5.0, 6.0)]
    assert inside(spans, 0.0, 4.0) == [(0.0, 1.0), (1.0, 3.0)]
    assert mean_s(inside(spans, 0.0, 4.0)) == 1.5
    assert mean_s([]) == 0.0


@pytest.mark.parametrize(
    ("target_s", "expected"),
    [(8e-3, 512), (1e-3, 256), (1e-12, 32), (1e9, 8192)],
)
def test_the_width_grows_with_the_cube_root_of_its_time(target_s: float, expected: int) -> None:
    assert width_for(target_s, 256, 1e-3) == expected


def test_a_row_shows_both_sides() -> None:
    measured = ContentionMeasurement(
        message_bytes=4 * MIB, world_size=2, matrix_size=500, threads_per_rank=1, timer="fake",
        compute_alone_s=(0.01, 0.01, 0.5), compute_with_comm_s=(0.0125,), comm_alone_s=(0.1,), comm_with_compute_s=(0.3, 0.3),
    )  # fmt: skip
    assert row(measured).split() == ["4", "MiB", "10", "ms", "12.5", "ms", "1.25x", "25/20", "100", "ms", "300", "ms", "3.00x"]


@pytest.mark.parametrize("verb", ["links", "contention"])
def test_flags_that_measure_nothing_are_refused_before_anything_starts(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hardware, "available_memory_bytes", lambda: 40 * MIB)
    for words, message in (
        (("-b", "2G", "-e", "1G"), "-b 2G -e 1G: need 0 < smallest size <= largest size"),
        (("-f", "1"), "-f 1 never reaches"),
        (("-n", "0"), "need at least 1 sample"),
        (("--timeout", "0"), "must be above 0 seconds"),
        ((), "40 MiB is free; lower -e"),
    ):
        assert main([verb, "--nproc", "2", *words]) == 2
        shown = capsys.readouterr().err
        assert message in shown
        assert shown.count("\n") == 1
