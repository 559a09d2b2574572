"""The foreign grid's page, worked out on paper from three cells; and the grid itself, which is stated before it is run."""

from collections import Counter
from dataclasses import asdict, replace

from benchmarks.foreign_grid import CHANGES, HALVES, cells
from benchmarks.foreign_summary import CellResult, WayResult, results_text

WAY = WayResult(
    step_s=0.2, low_s=0.19, high_s=0.21, exposed_s=0.1, ring_s=0.25, amdahl_s=0.201, assumptions=(),
    savings={"cap5": (0.02, 0.01, 0.03), "accumulate": (0.05, 0.04, 0.06)},
)  # fmt: skip
PLAIN = CellResult(
    model="gpt", hosts=2, rate="1gbit", mode="plain", disturbed=False, repeat=1,
    single_s=0.09, compute_s=0.1, measured_s=0.205, ways={"compute": WAY},
)  # fmt: skip
BARE = replace(WAY, savings={})
CAP = replace(PLAIN, mode="cap5", measured_s=0.18, ways={"compute": replace(BARE, step_s=0.18, low_s=0.181, high_s=0.19)})
ACCUMULATED = replace(PLAIN, mode="accumulate", measured_s=0.3, ways={"compute": replace(BARE, low_s=None, high_s=None)})


NOW = {PLAIN.name: {"cap5": (0.02, 0.01, 0.024), "accumulate": (0.05, 0.04, 0.07)}}


def rows(text: str, first: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith(f"| {first} |")]


def test_errors_coverage_and_width_are_those_worked_out_on_paper() -> None:
    """Errors -2.4, 0 and -33.3 %; of two intervals one holds, 9.8 and 5.0 % wide; ring is farther twice, Amdahl's once."""
    (own,) = rows(results_text([PLAIN, CAP, ACCUMULATED], 256, HALVES, "- here", NOW), "all")
    assert own[:5] == ["all", "3", "2.4%", "27.2%", "-33.3%"]
    assert own[6:9] == ["1 of 2 (50%)", "7.4%", "1"]
    assert own[10] == "2, 1"


def test_a_saving_is_held_against_every_plain_cell_per_batch() -> None:
    """205 ms less 180 are 25, inside 10 to 30, not 10 to 24; less 300 for two batches 55, inside 40 to 60. So too from 215."""
    text = results_text([PLAIN, CAP, ACCUMULATED], 256, HALVES, "- here", NOW)
    assert [row[2:] for row in rows(text, "gpt")] == [
        ["cap5", "no", "+20 ms", "+10 to +30 ms", "+10 to +24 ms, missed", "+25 ms"],
        ["accumulate", "no", "+50 ms", "+40 to +60 ms", "+40 to +70 ms", "+55 ms"],
    ]
    assert "- quiet: 2 of 2 in the intervals that were on disk before, 1 in those of the model now" in text
    again = replace(PLAIN, repeat=2, measured_s=0.215)
    both = results_text([PLAIN, again, CAP, ACCUMULATED], 256, HALVES, "- here", {**NOW, again.name: NOW[PLAIN.name]})
    assert [row[-1] for row in rows(both, "gpt")] == ["+25 ms", "+55 ms", "+35 ms", "+65 ms"]
    assert "- quiet: 2 of 4 in the intervals" in both


def test_a_cell_without_a_bench_of_its_own_is_carried_and_tells_of_no_saving() -> None:
    carried = replace(PLAIN, hosts=8, ways={"carried": BARE})
    text = results_text([carried, replace(carried, repeat=2)], 256, HALVES, "- here", NOW)
    assert [row[1] for row in rows(text, "8 hosts")] == ["2"]
    assert rows(text, "gpt") == []


def test_a_cell_is_read_as_it_was_written() -> None:
    assert CellResult.read(asdict(PLAIN)) == PLAIN


def test_the_grid_is_as_large_as_it_says_and_its_halves_share_no_loop() -> None:
    grid = cells()
    assert len(grid) == len({cell.name for cell in grid}) == 256
    assert Counter((cell.disturbed, cell.repeat) for cell in grid) == dict.fromkeys(
        ((d, r) for d in (False, True) for r in (1, 2)), 64
    )
    assert {cell.hosts for cell in grid} == {2, 4, 8}
    assert not set(HALVES["A"]) & set(HALVES["B"])
    assert set(CHANGES) <= {cell.mode for cell in grid}
    assert grid == cells()  # the same order every time
