"""What tells one training of a table from another where no column names their series? What they were, how they were split."""

import re
from collections.abc import Sequence

from commprof.analysis.scaling.columns.header import MOST_COLUMNS, Columns
from commprof.analysis.scaling.columns.measures import plain

_DEGREE = re.compile(r"\b((?:fs|hs|d)?dp|data[ -]?parallel)\s*[=:]?\s*[0-9]+\b", re.IGNORECASE)
_SETUP = (  # what tells trainings apart where no column series does
    r"model(?: size| name)?|architecture|(?:number of |num |n |# ?)?param(?:eter)?s(?: millions)?|task|dataset|framework|"
    r"library|optimizer|sharding|tp|pp|cp|ep|precision|dtype|mode|method|seq(?:uence)?(?: len| length)?|context(?: length)?"
)
_NAME = r"name|experiment|config(?:uration)?|setup|variant|label|group|case"  # of a training, or of a single run


def setups_of(columns: Columns, header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return for each row what its training is called by the columns in which the table's trainings differ."""
    told = []
    for index in _telling(columns, header, rows) if "series" not in columns.where else ():
        cells = [_DEGREE.sub(r"\1", row[index]) if index < len(row) else "" for row in rows]
        if len(set(cells)) > 1:
            told.append([f"{header[index]} {cell}" if cell.isdigit() else cell for cell in cells])
    return [", ".join(filter(None, names)) for names in zip(*told, strict=True)] if told else [""] * len(rows)


def _telling(columns: Columns, header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the columns that tell trainings apart."""
    words = [plain(name)[0] for name in header[:MOST_COLUMNS]]
    named = [columns.named(row) for row in rows]
    batches = {(each.get("ranks"), each.get("nodes"), each.get("batch_per_rank")) for each in named}
    by_batch = len({key[:2] for key in batches}) < len(batches)
    roles = ("machine", "gpu", "split", *(("batch_per_rank",) if by_batch else ()))
    setup = [index for index, name in enumerate(words) if re.fullmatch(_SETUP, name)]
    names = [i for i, name in enumerate(words) if re.fullmatch(_NAME, name) and _comes_again(rows, i, columns)]
    return [*setup, *names, *(columns.where[role] for role in roles if role in columns.where)]


def _comes_again(rows: Sequence[Sequence[str]], index: int, columns: Columns) -> bool:
    """Tell whether each name in a column stands beside several numbers of ranks: a training's, then, and no single run's."""
    places = [columns.where[role] for role in ("ranks", "nodes", "gpus_per_node") if role in columns.where]
    ranks: dict[str, set[tuple[str, ...]]] = {}
    for row in rows:
        if len(row) > max(index, *places):
            ranks.setdefault(row[index], set()).add(tuple(row[place] for place in places))
    return all(len(each) > 1 for each in ranks.values())


def split_of(parallelism: str) -> str:
    """Return how a model is split, without how many share the data: of `DP 8 x TP 2, act ckpt` it is `dp x tp 2`."""
    return re.split("[,;]", _DEGREE.sub(r"\1", parallelism.lower()))[0].strip()
