"""How many ranks to use? For each number of ranks yes, perhaps, no, or why that cannot be told.

Taken from small N to large: N ranks are worth having where all of their speedup's interval lies above the speedup of the fewer
ranks that were found worth having last, one rank's 1 to begin with; not, where none of it does; perhaps, between. Speedups are
in samples per second over one rank's, or over those of the fewest ranks known.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from commprof.analysis.runs.interval import Interval

Answer = Literal["yes", "perhaps", "no", "unknown"]
_UNDECIDED: Final = "How many ranks to use cannot be told"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What is known of N ranks. `speedup` is measured where a run has checked it, and lies in `within` as far as is known.

    `predicted` and its 90 % `interval` are the prediction's. `because` is what would explain no gain; `unknown` why nothing can
    be said, of runs that others disturbed or that contradict each other; `no_gain` why a gain seen here would tell nothing.
    """

    world_size: int
    speedup: float | None
    within: Interval | None
    measured: bool = False
    predicted: float | None = None
    interval: Interval | None = None
    because: str = ""
    unknown: str = ""
    no_gain: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankAnswer:
    """The answer for N ranks; `over` is the number of ranks that they are compared with."""

    candidate: Candidate
    answer: Answer
    over: int

    @property
    def unknown(self) -> str:
        """Return why nothing can be said; empty where something is."""
        return (self.candidate.unknown or self.candidate.no_gain) if self.answer == "unknown" else ""

    @property
    def word(self) -> str:
        """Return the answer in a word or two."""
        return "cannot be told" if self.answer == "unknown" else self.answer

    def __str__(self) -> str:
        """Write it: `2: yes, 1.84x (predicted 1.92, 1.79 to 2.06)`."""
        if self.answer == "unknown":
            return _cannot_tell([self])
        own, told = self.candidate, _told(self.candidate)
        if self.answer == "yes":
            return f"{own.world_size}: yes, {told}"
        fewer = _ranks(self.over)
        if self.answer == "perhaps":
            return f"{own.world_size}: perhaps, {told}: too close to {fewer} to tell"
        why = f", because {own.because}" if own.because else ""
        return f"{own.world_size}: no, {told}: it adds nothing to {fewer} here{why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answers, by number of ranks; `base` is that of which speedups are counted."""

    answers: tuple[RankAnswer, ...]
    base: int = 1

    @property
    def best(self) -> RankAnswer | None:
        """Return the answer for the number of ranks to use; None where none is surely better than one rank."""
        return next((own for own in reversed(self.answers) if own.answer == "yes"), None)

    @property
    def words(self) -> dict[int, str]:
        """Return each answer in a word or two, for tables."""
        return {own.candidate.world_size: own.word for own in self.answers}

    def __str__(self) -> str:
        """Write what to do, then the answers."""
        return self.said_of([own.candidate.world_size for own in self.answers])

    def said_of(self, world_sizes: Collection[int]) -> str:
        """Write what to do, then the answers for these numbers of ranks; a reason that several have is given once."""
        asked = [own for own in self.answers if own.candidate.world_size in world_sizes]
        told = [str(own) for own in asked if own.answer != "unknown"]
        reasons = dict.fromkeys(own.unknown for own in asked if own.unknown)
        told += [_cannot_tell([own for own in asked if own.unknown == reason]) for reason in reasons]
        return "".join(f"{sentence}. " for sentence in (self.advice, *told)).rstrip()

    @property
    def in_short(self) -> str:
        """Say what to do, or in the same sentence why that cannot be told."""
        reason = next((own.unknown for own in self.answers if own.unknown), "")
        return f"{self.advice}: {reason}" if reason and self.advice == _UNDECIDED else self.advice

    @property
    def advice(self) -> str:
        """Say how many ranks to use."""
        given = {own.answer for own in self.answers}
        if self.best is not None:
            return f"Use {self.best.candidate.world_size} ranks"
        if given == {"no"}:
            return f"Stay with {_ranks(self.base)}"
        if "perhaps" in given:
            return f"Stay with {_ranks(self.base)} until a gain is sure"
        return _UNDECIDED


def decide(candidates: Iterable[Candidate], base: int = 1) -> Decision:
    """Return the answer for each number of ranks; speedups are over `base` ranks."""
    answers: list[RankAnswer] = []
    best, over = 1.0, base
    for own in sorted(candidates, key=lambda own: own.world_size):
        answer = _answer(own, best)
        answers.append(RankAnswer(candidate=own, answer=answer, over=over))
        if answer == "yes" and own.speedup is not None:
            best, over = own.speedup, own.world_size
    return Decision(answers=tuple(answers), base=base)


def _answer(own: Candidate, best: float) -> Answer:
    if own.unknown or own.speedup is None:
        return "unknown"
    low, high = (own.within.low, own.within.high) if own.within is not None else (own.speedup, own.speedup)
    if high <= best:
        return "no"
    if own.no_gain:
        return "unknown"
    return "yes" if low > best else "perhaps"


def _cannot_tell(answers: Sequence[RankAnswer]) -> str:
    """Write the numbers of ranks of which one reason forbids to say anything, and what was seen of them nevertheless."""
    numbers = " and ".join(str(own.candidate.world_size) for own in answers)
    seen = "; ".join(f"{own.candidate.world_size}: {told}" for own in answers if (told := _seen(own.candidate)))
    return f"{numbers}: cannot be told: {answers[0].unknown}{f' ({seen})' if seen else ''}"


def _seen(own: Candidate) -> str:
    if own.speedup is None:
        return ""
    if not own.measured:
        return f"{own.speedup:.2f}x predicted"
    return f"{own.speedup:.2f}x" + ("" if own.predicted is None else f", predicted {own.predicted:.2f}")


def _told(own: Candidate) -> str:
    """Write the speedup and in brackets what was predicted."""
    if own.speedup is None:
        return ""
    span = "" if own.interval is None else f"{own.interval.low:.2f} to {own.interval.high:.2f}"
    if not own.measured:
        return f"{own.speedup:.2f}x predicted{f' ({span})' if span else ''}"
    if own.predicted is None:
        return f"{own.speedup:.2f}x"
    return f"{own.speedup:.2f}x (predicted {own.predicted:.2f}{f', {span}' if span else ''})"


def _ranks(count: int) -> str:
    return "one rank" if count == 1 else f"{count} ranks"
