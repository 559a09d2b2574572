from commprof.analysis.wire.cost import fit_cost
from commprof.analysis.wire.outside_sweep import unmeasured_buckets, unmeasured_sizes
from commprof.analysis.wire.results import CostModel
from commprof.analysis.wire.text import fit_sheet
from commprof.commbench.display.sheet import plain_text
from tests.factory import MIB, collective


def swept(*sizes: int) -> CostModel:
    return fit_cost([collective(size, [50e-6 + size / 1e9] * 3) for size in sizes])


def test_buckets_on_either_side_of_the_sweep_are_told() -> None:
    cost = swept(4 * MIB, 8 * MIB, 16 * MIB)
    assert list(unmeasured_sizes(cost, [4 * MIB, 10 * MIB])) == []
    below, beyond = unmeasured_sizes(cost, [MIB, 2 * MIB, 25 * MIB])
    assert below == "2 of 3 buckets are below the smallest message benched (4 MiB); the fitted line goes on"
    assert beyond.startswith("the largest bucket is beyond the largest message benched (16 MiB)")


def test_fit_says_from_which_size_on_a_sweep_was_measured() -> None:
    assert unmeasured_buckets(swept(1024, MIB, 16 * MIB)) is None
    shown = " ".join(plain_text(fit_sheet([swept(512 * MIB, 1024 * MIB, 2048 * MIB)])).split())
    assert "all_reduce on 2 ranks: nothing was measured below 512 MiB; the fitted line goes on there" in shown
    assert "~25.6 ms" not in shown and "~26.3 ms" in shown  # 25 MiB at 1 GB/s and 50 us
