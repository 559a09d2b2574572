"""The report's section in which a reader changes the setting and sees the step: what it says, and what it rests on."""

from commprof.analysis.report.explorer.page_data import Explorer, PageData, page_data, sharded_page_data
from commprof.analysis.report.numbers.data import Material, count_steps, raw_files
from commprof.analysis.report.numbers.decided import spoken_of
from commprof.analysis.report.page.html import Section
from commprof.analysis.step.results import PredictionSet
from commprof.analysis.strategies.results import COPIES
from commprof.commbench.errors import CommprofError

_SENTENCES = (
    "Move a control: the step is simulated again, by the model that made the prediction, over one rank with the same changes.",
)
_REMARKS = (
    "Fewer bytes a gradient cost two more passes over it, which count as computation. A change far from what was measured is "
    "less certain than its interval says. What a larger batch takes of memory is not looked at: it may not fit.",
)
_OF_STRATEGIES = (
    "The wire of strategies that shard is what the all-gather reaches, and another one quickens all their collectives alike. "
    "A strategy's memory is of a rank's tensors at their peak, with the batch that was recorded; > where a part of it was not "
    "measured. What CUDA, NCCL and an allocator's gaps take is in none of it. "
    "Within noise: two runs tell it from the fastest in under 90 % of the draws."
)


def what_if_section(material: Material, predicted: PredictionSet | None) -> Section | None:
    """Return the section; None where neither a step nor a sharded one is predicted.

    A page whose predictions were kept may lie beside runs that can no longer tell.
    """
    title, sharded = "What if", material.sharded
    if predicted is None and sharded is None:
        return None
    copies = COPIES if sharded is None else sharded.copies
    try:
        if predicted is not None:
            data = page_data(material.runs, {p.world_size for p in predicted.predictions}, copies)
        else:
            assert sharded is not None
            data = sharded_page_data(material.runs, {choice.world_size for choice in sharded.choices}, copies)
    except CommprofError as error:
        return Section(name="what-if", title=title, sentences=(f"Nothing can be tried out here: {error}.",))
    explorer = _explorer(material, predicted, data)
    return Section(
        name="what-if",
        title=title,
        sentences=_SENTENCES,
        explorer=explorer,
        remarks=_REMARKS if explorer.strategies == ("ddp",) else (*_REMARKS, _OF_STRATEGIES),
    )


def _explorer(material: Material, predicted: PredictionSet | None, data: PageData) -> Explorer:
    ids = material.sharded.run_ids if predicted is None and material.sharded is not None else ()
    known = material.known if predicted is not None else [run for run in material.runs if run.info.run_id in ids]
    training = [run for run in known if run.info.kind == "train"]
    sizes = [place.world_size for place in data.places if place.spoken] or [place.world_size for place in data.places]
    return Explorer(
        data=data,
        steps=count_steps(training),
        sources=raw_files(known),
        first=max(sizes) if predicted is None else spoken_of(material, predicted),
    )
