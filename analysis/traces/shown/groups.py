"""How are groups of ranks and the stages of a pipeline shown to people?"""

from collections.abc import Sequence

from commprof.analysis.traces.all_ranks.job import CollectiveSummary
from commprof.analysis.traces.all_ranks.matched.groups import SEVERAL, GroupStep, GroupSummary, summarise_groups
from commprof.analysis.traces.all_ranks.pipeline import StageTime
from commprof.commbench.display.sheet import Block, Column, Row, Table, Words, line
from commprof.commbench.units import format_seconds

_MAX_ROWS = 16
_MAX_UNKNOWN = 4
_MAX_RANKS = 6
_GROUP_COLUMNS = (
    Column(name="group", width=22, left=True, before="", folds=True, key=True),
    Column(name="ranks", width=5, before=" "),
    Column(name="a step", width=6, before=" "),
    Column(name="time", width=9, before=" "),
    Column(name="hidden", width=7, before=" "),
    Column(name="alone exposed", width=14, before=" "),
    Column(name="of step", width=8, before=" "),
)
_STAGE_COLUMNS = (
    Column(name="stage", width=5, before="", key=True),
    Column(name="ranks", width=18, left=True, before=" ", folds=True),
    Column(name="step", width=9, before=" "),
    Column(name="bubble", width=9, before=" "),
    Column(name="share", width=7, before=" "),
    Column(name="warm-up", width=8, before=" "),
    Column(name="steady", width=8, before=" "),
    Column(name="drain", width=8, before=" "),
)


def with_group(op: str, group: str) -> str:
    """Name a collective with the group that it ran in."""
    return f"{op} {group}" if group else op


def group_blocks(steps: Sequence[GroupStep], step_s: float | None) -> list[Block]:
    """Return the table of what each kind of group takes of a step; nothing where there is only one."""
    found = summarise_groups(steps)
    if len([own for own in found if own.group != SEVERAL]) < 2:
        return []
    more = len(found) - _MAX_ROWS
    return [
        line("communication by group (medians over steps of the mean over ranks)", "strong"),
        Table(columns=_GROUP_COLUMNS, rows=[_group_row(own, step_s) for own in found[:_MAX_ROWS]]),
        *([line(f"and {more} other groups; --json has all")] if more > 0 else []),
        Words(
            "Hidden: of a group's time, while the rank computes. Alone exposed: neither computation nor another group's "
            "collective ran; these and what several groups share add up to the step's exposed communication."
        ),
    ]


def _group_row(own: GroupSummary, step_s: float | None) -> Row:
    return Row(
        (
            own.group or "not named",
            "-" if own.num_ranks is None else str(own.num_ranks),
            "-" if own.group == SEVERAL else f"{own.count:.4g}",
            format_seconds(own.total_s),
            "-" if own.hidden_share is None else f"{own.hidden_share:.1%}",
            format_seconds(own.exposed_s),
            f"{own.exposed_s / step_s:.1%}" if step_s else "-",
        )
    )


def stage_blocks(stages: Sequence[StageTime]) -> list[Block]:
    """Return the table of a pipeline's stages; nothing where the ranks are none."""
    if not stages:
        return []
    steps = max(own.num_steps for own in stages)
    return [
        line(f"the pipeline's stages (medians over {steps} step{'s' * (steps > 1)} of the mean over replicas)", "strong"),
        Table(columns=_STAGE_COLUMNS, rows=[_stage_row(own) for own in stages[:_MAX_ROWS]]),
        *([line(f"and {len(stages) - _MAX_ROWS} more stages; --json has all")] if len(stages) > _MAX_ROWS else []),
        Words(
            "Bubble: a stage sends, receives or waits for another and does not compute; until every stage has sent or "
            "received once (warm-up), from the last send or receive of the stage that ends first on (drain), and between "
            "(steady). Stages wait for each other by construction: only replicas of one stage are compared."
        ),
    ]


def _stage_row(own: StageTime) -> Row:
    ranks = ", ".join(map(str, own.ranks[:_MAX_RANKS])) + (", ..." if len(own.ranks) > _MAX_RANKS else "")
    times = (format_seconds(time_s) for time_s in (own.warm_up_s, own.steady_s, own.drain_s))
    return Row(
        (
            str(own.stage),
            ranks,
            format_seconds(own.step_s),
            format_seconds(own.bubble_s),
            f"{own.bubble_share:.1%}",
            *times,
        )
    )


def unknown_words(collectives: Sequence[CollectiveSummary]) -> str:
    """Say what the trace calls collectives whose operation it does not tell; nothing where all are known."""
    unknown = [own for own in collectives if own.words]
    if not unknown:
        return ""
    named = ", ".join(dict.fromkeys(own.words for own in unknown[:_MAX_UNKNOWN]))
    sizes = "" if any(own.message_bytes is not None for own in unknown) else ", and gives no sizes that would"
    return f"Unknown: the trace names no operation{sizes}. It calls them {named}."
