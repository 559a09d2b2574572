"""What would a person call this report? A title, the verdict in a few words, and its colour."""

from commprof.analysis.report.numbers.data import Material
from commprof.analysis.report.numbers.decided import decision_of
from commprof.analysis.runs.load import select
from commprof.analysis.scaling.decision import Answer


def title_of(material: Material) -> str:
    """Return the question that the runs answer."""
    sizes = sorted({run.world_size for run in material.runs if run.world_size > 1})
    experiment = next((run.info.workload.experiment for run in material.runs if run.info.workload is not None), None)
    if any(own is not None for own in (material.predicted, material.unpredicted, material.sharded)):
        known = sorted(decision_of(material).words) or sizes
        return f"How many ranks for {experiment}: {_listed([1, *known], 'or')}?"
    if experiment is not None:
        return f"Where a step of {experiment} goes on {_listed(sorted({r.world_size for r in material.runs}), 'and')}"
    if select(material.runs, kind="bench"):
        return f"What a message costs between {_listed(sizes, 'and')}"
    return f"What was measured on {_listed(sizes, 'and')}" if sizes else "What was measured"


def answer_of(material: Material) -> tuple[str, Answer]:
    """Return the verdict in a few words, and `yes`, `perhaps`, `no` or `unknown`."""
    decision = decision_of(material)
    if decision.best is not None:
        return decision.advice, "yes"
    given = {own.answer for own in decision.answers}
    if not decision.answers:
        sharded = material.sharded is not None and any(choice.fastest is not None for choice in material.sharded.choices)
        return "Strategies predicted" if sharded else "Measured, not predicted", "unknown"
    if given == {"no"}:
        return decision.advice, "no"
    return ("Stay with one rank for now", "perhaps") if "perhaps" in given else ("Cannot be told", "unknown")


def _listed(sizes: list[int], word: str) -> str:
    *most, last = map(str, sizes)
    told = f"{', '.join(most)} {word} {last}" if most else last
    return told if word == "or" else f"{told} {'rank' if sizes == [1] else 'ranks'}"


def ranks(world_size: int) -> str:
    """Return the number with its noun."""
    return "1 rank" if world_size == 1 else f"{world_size} ranks"
