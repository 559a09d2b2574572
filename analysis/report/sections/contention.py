"""What a report says of overlap: how much a backward pass and an all-reduce slow each other when both run at once."""

from collections.abc import Iterator
from statistics import median

from commprof.analysis.report.numbers.data import Material
from commprof.analysis.report.numbers.titles import ranks
from commprof.analysis.report.page.html import Section, Table
from commprof.analysis.runs.load import Run
from commprof.commbench.units import format_bytes, format_seconds


def contention_section(material: Material) -> Section | None:
    """Return one table a contention run; None without any."""
    measured = [run for run in material.runs if run.contention]
    if not measured:
        return None
    return Section(
        name="contention",
        title="Computation and communication at once",
        folded=material.predicted is not None,
        sentences=(
            *(words for run in measured for words in _worst(run)),
            "Overlap is not free: the two share cores, memory or a GPU's multiprocessors. Both are timed alone and at once, "
            "and 1.00x would be no slowdown.",
        ),
        tables=tuple(_table(run) for run in measured),
    )


def _worst(run: Run) -> Iterator[str]:
    compute, comm = (max(run.contention, key=lambda m: getattr(m, f"{part}_slowdown")) for part in ("compute", "comm"))
    sizes = format_bytes(compute.message_bytes), format_bytes(comm.message_bytes)
    yield (
        f"{run.path.name} on {ranks(run.world_size)}: the backward pass takes up to {compute.compute_slowdown:.2f}x as long "
        f"beside an all-reduce ({sizes[0]}), the all-reduce up to {comm.comm_slowdown:.2f}x beside the pass ({sizes[1]})."
    )


def _table(run: Run) -> Table:
    rows = []
    for m in run.contention:
        backward = tuple(format_seconds(median(times)) for times in (m.compute_alone_s, m.compute_with_comm_s))
        reduce = tuple(format_seconds(median(times)) for times in (m.comm_alone_s, m.comm_with_compute_s))
        slowdowns = (f"{m.compute_slowdown:.2f}x", f"{m.comm_slowdown:.2f}x")
        least = min(map(len, (m.compute_alone_s, m.compute_with_comm_s, m.comm_alone_s, m.comm_with_compute_s)))
        rows.append((format_bytes(m.message_bytes), *backward, slowdowns[0], *reduce, slowdowns[1], str(least)))
    return Table(
        title=f"{run.path.name}: alone and at once",
        note=f"Medians of the slowest rank over interleaved rounds, from {run.path.name}/contention.jsonl. Samples: the fewest "
        "of the four times.",
        head=(
            "Size",
            "Backward alone",
            "with all-reduce",
            "Slowdown",
            "All-reduce alone",
            "with backward",
            "Slowdown",
            "Samples",
        ),
        rows=tuple(rows),
        words=frozenset(),
    )
