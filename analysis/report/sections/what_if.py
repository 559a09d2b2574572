"""The report's section in which a reader changes the setting and sees the step: what it says, and what it rests on."""

from commprof.analysis.report.numbers.data import Material, count_steps, raw_files
from commprof.analysis.report.numbers.decided import spoken_of
from commprof.analysis.report.page.explorer import Explorer, page_data
from commprof.analysis.report.page.html import Section
from commprof.analysis.step.results import PredictionSet
from commprof.commbench.errors import CommprofError

_SENTENCES = (
    "Move a control: the step is simulated again, by the model that made the prediction, over one rank with the same changes.",
)
_REMARKS = (
    "Fewer bytes a gradient cost two more passes over it, which count as computation. A change far from what was measured is "
    "less certain than its interval says. Memory is not looked at: a larger batch may not fit.",
)


def what_if_section(material: Material, predicted: PredictionSet) -> Section:
    """Return the section; a page whose predictions were kept may lie beside runs that can no longer tell."""
    title = "What if"
    try:
        data = page_data(material.runs, {p.world_size for p in predicted.predictions})
    except CommprofError as error:
        return Section(name="what-if", title=title, sentences=(f"Nothing can be tried out here: {error}.",))
    training = [run for run in material.known if run.info.kind == "train"]
    return Section(
        name="what-if",
        title=title,
        sentences=_SENTENCES,
        explorer=Explorer(
            data=data,
            steps=count_steps(training),
            sources=raw_files(material.known),
            first=spoken_of(material, predicted),
        ),
        remarks=_REMARKS,
    )
