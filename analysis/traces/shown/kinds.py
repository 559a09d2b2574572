"""How are kinds of kernels, launch idle by cause and queue depth shown to people?"""

from collections.abc import Mapping, Sequence

from commprof.analysis.traces.all_ranks.kernel_kinds import KindSummary, Launched, summarise_kinds, summarise_launching
from commprof.analysis.traces.one_rank.rank_trace import RankTrace
from commprof.commbench.display.sheet import Block, Column, Row, Table, Words, line
from commprof.commbench.units import format_seconds

_COLUMNS = (
    Column(name="kernels", width=14, left=True, before="", key=True),
    Column(name="a step", width=9, before=" "),
    Column(name="time", width=9, before=" "),
    Column(name="share", width=7, before=" "),
)


def kind_blocks(by_rank: Mapping[int, RankTrace], launch_idle_s: float | None) -> list[Block]:
    """Return the table of kernels by kind and the sentence on the host; nothing where no GPU works."""
    kinds = summarise_kinds(by_rank)
    if not kinds:
        return []
    return [
        line("kernels by kind (durations added up; medians over steps of the mean over ranks)", "strong"),
        Table(columns=_COLUMNS, rows=[_row(own) for own in kinds]),
        *_launching(summarise_launching(by_rank), launch_idle_s),
    ]


def _row(own: KindSummary) -> Row:
    return Row((own.kind, f"{own.count:.5g}", format_seconds(own.total_s), f"{own.share:.1%}"))


def _launching(own: Launched | None, launch_idle_s: float | None) -> Sequence[Block]:
    if own is None:
        return []
    said = []
    if launch_idle_s:
        causes = ", ".join(
            f"{format_seconds(cause_s)} {name.replace('_', ' ')}" for name, cause_s in own.idle_s.items() if cause_s
        )
        said.append(f"Launch idle, by what the host did: {causes}." if causes else "")
    if own.queue_depth is not None:
        said.append(f"Queue depth: {own.queue_depth:.3g} launched GPU events wait in the mean.")
    if own.graphed_share:
        said.append(f"{own.graphed_share:.1%} of GPU events are graphs'.")
    words = " ".join(filter(None, said))
    return [Words(words)] if words else []
