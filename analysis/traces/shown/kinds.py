"""How are kinds of kernels, launch idle by cause, queue depth and modules shown to people?"""

from collections.abc import Mapping, Sequence

from commprof.analysis.traces.all_ranks.kernel_kinds import (
    KindSummary,
    Launched,
    ModuleSummary,
    summarise_kinds,
    summarise_launching,
    summarise_modules,
)
from commprof.analysis.traces.one_rank.rank_trace import RankTrace
from commprof.commbench.display.sheet import Block, Column, Row, Table, Words, line
from commprof.commbench.units import format_seconds

_MAX_MODULES = 16
_MODULE_COLUMNS = (
    Column(name="module", width=32, left=True, before="", folds=True, key=True),
    Column(name="a step", width=7, before=" "),
    Column(name="forward", width=9, before=" "),
    Column(name="backward", width=9, before=" "),
    Column(name="share", width=7, before=" "),
)
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


def module_blocks(by_rank: Mapping[int, RankTrace]) -> list[Block]:
    """Return the table of what the GPU did for each module; nothing where no trace names any."""
    found = summarise_modules(by_rank)
    if not found:
        return []
    more = len(found) - _MAX_MODULES
    return [
        line("computation and copies by module (means over steps and ranks)", "strong"),
        Table(columns=_MODULE_COLUMNS, rows=[_module_row(own) for own in found[:_MAX_MODULES]]),
        *([line(f"and {more} others; --json has all")] if more > 0 else []),
        Words(
            "The innermost module or annotation in which the host launched it, those within it apart; in backward that of the "
            "operator which made it in forward, where the trace numbers operators."
        ),
    ]


def _module_row(own: ModuleSummary) -> Row:
    times = (format_seconds(part_s) if part_s else "-" for part_s in (own.forward_s, own.backward_s))
    return Row((own.module or "(outside of all)", f"{own.count:.5g}", *times, f"{own.share:.1%}"))


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
