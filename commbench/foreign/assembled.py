"""The cards of the ranks -> the run's own, its hosts and how it ended. No torch here."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from commprof.commbench.machine.facts import ENVIRONMENT_FILE, HostInfo
from commprof.commbench.records.masking import masked_command
from commprof.commbench.records.rundir import RUN_FILE, now_utc, read_document, write_document
from commprof.commbench.records.types import RunInfo

CARDS_FOLDER = "cards"


@dataclass(frozen=True, slots=True, kw_only=True)
class RankCard:
    """What one rank knows of the run; `host` on the first rank of each host, `kernel` the boot id, empty where none is told."""

    info: RunInfo
    host: HostInfo | None
    kernel: str


def assemble(folder: Path, failure: str | None, command: Sequence[str] = ()) -> RunInfo | None:
    """Put the run together from its ranks' cards, and throw those away; return None where no rank has left one.

    `command` is what would record it again; without one it stays the program's own.
    """
    cards = [read_document(path, RankCard) for path in sorted((folder / CARDS_FOLDER).glob("rank*.json"))]
    if not cards:
        return None
    first, kernels = cards[0].info, {card.kernel for card in cards}
    missing = first.world_size - len(cards)
    silent = (f"{missing} of {first.world_size} ranks took no step that was seen",) if missing else ()
    info = replace(
        first,
        command=masked_command(command) if command else first.command,
        status="completed" if failure is None else "failed",
        failure=failure,
        ended_at=now_utc(),
        ranks=tuple(card.info.ranks[0] for card in cards),
        num_nodes=max(first.num_nodes, len({card.info.ranks[0].hostname for card in cards})),
        num_machines=len(kernels) if all(kernels) else None,
        unseen=(*first.unseen, *silent),
    )
    write_document(folder / ENVIRONMENT_FILE, [card.host for card in cards if card.host is not None])
    write_document(folder / RUN_FILE, info)
    shutil.rmtree(folder / CARDS_FOLDER)
    return info
