from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from commprof.cli import main
from commprof.commbench.contention import overlap
from commprof.commbench.contention.backward import width_for
from commprof.commbench.contention.cli import row
from commprof.commbench.contention.overlap import ContentionOptions, Round, inside, mean_s, measure_contention
from commprof.commbench.errors import RunFailed
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


def test_a_size_that_no_pass_fits_into_is_left_out_and_all_of_them_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the smallest all-reduce may be over before a rank has a core to compute on; larger ones are not."""
    backward = SimpleNamespace(seconds=1e-3, run=None, layers=1, width=32)
    monkeypatch.setattr(overlap, "_calibrate", lambda size, *_: (size, 1e-2, backward))
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)

    def a_round(size: int, *_: object) -> Round:
        beside_s = 2e-3 if size >= 4 * MIB else None
        return Round(compute_alone_s=1e-3, compute_with_comm_s=beside_s, comm_alone_s=1e-2, comm_with_compute_s=2e-2)

    monkeypatch.setattr(overlap, "_round", a_round)

    def fits(*sizes: int) -> list[tuple[int, bool]]:
        options = ContentionOptions(sizes=sizes, rounds=2, warmup_rounds=1)
        return [(size, found is not None) for size, found in measure_contention(options, torch.device("cpu"))]

    assert fits(MIB, 4 * MIB, 16 * MIB) == [(MIB, False), (4 * MIB, True), (16 * MIB, True)]
    with pytest.raises(RunFailed, match=r"no backward pass fits into an all-reduce here, not even of 2 MiB; .* or raise -e"):
        fits(MIB, 2 * MIB)
