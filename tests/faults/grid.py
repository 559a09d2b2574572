"""The grid: a verb, a phase of its run, a signal, and whom it hits. Every combination is a case; some cover all pairs.

What must follow is worked out from the case, by rules that hold for whole rows of the grid.
"""

import itertools
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass

VERBS = ("bench", "links", "contention", "train")
PHASES = ("loading", "meeting", "set-up", "measuring", "teardown")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGSTOP)
TARGETS = ("rank 0", "rank 1", "keeper", "launcher")
TIMEOUT_S = 6.0
START_S = 18.0  # what ranks get to come up; the keeper's own 30 s would make the grid wait


@dataclass(frozen=True, slots=True)
class Case:
    verb: str
    phase: str
    signum: signal.Signals
    target: str

    def __str__(self) -> str:
        return f"{self.verb}-{self.phase}-{self.signum.name}-{self.target.replace(' ', '')}"

    @property
    def hits_rank(self) -> bool:
        return self.target.startswith("rank")

    @property
    def asks(self) -> bool:
        """Whether the signal asks to stop, rather than kills or freezes."""
        return self.signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    @property
    def answers(self) -> bool:
        """Whether a rank has a run to mark by then, and so hears the signal itself."""
        return self.phase in ("set-up", "measuring")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the command must end with; `words` is a pattern for its last line, `statuses` what run.json may say."""

    code: int
    words: str
    statuses: tuple[str, ...]


def every_case() -> tuple[Case, ...]:
    return tuple(Case(*place) for place in itertools.product(VERBS, PHASES, SIGNALS, TARGETS))


def covering_cases(at_least: int) -> tuple[Case, ...]:
    """Return cases in which every two values of two axes meet, chosen greedily, then more that meet in new threes."""
    rest = list(every_case())
    chosen: list[Case] = []
    met: set[tuple[object, ...]] = set()
    for size in (2, 3):
        while rest:
            best = max(rest, key=lambda case: len(set(_groups(case, size)) - met))
            new = set(_groups(best, size)) - met
            if not new or (size == 3 and len(chosen) >= at_least):
                break
            chosen.append(best)
            rest.remove(best)
            met |= new | set(_groups(best, 3))
    return tuple(sorted(chosen, key=str))


def _groups(case: Case, size: int) -> Iterator[tuple[object, ...]]:
    values = (case.verb, case.phase, case.signum, case.target)
    for places in itertools.combinations(range(len(values)), size):
        yield (*places, *(values[place] for place in places))


def expected(case: Case) -> Outcome:
    """Work out what the command must say, by whom the signal hits and whether a rank can answer it."""
    name, ended = case.signum.name, ("completed",) if case.phase == "teardown" else ("failed", "interrupted")
    if case.asks and not case.hits_rank:
        ended = (*ended, "completed")  # a run of milliseconds may be over before the signal has come down to its ranks
    if case.target == "launcher":
        if case.signum == signal.SIGKILL:
            return Outcome(-signal.SIGKILL, "", (*ended, "running", "interrupted"))
        if case.signum == signal.SIGSTOP:
            return Outcome(0, "", ("completed",))
        words = r"commprof: interrupted" if case.signum == signal.SIGINT else f"commprof: error: stopped by {name}"
        return Outcome(130, words, (*ended,))
    if case.target == "keeper":
        if case.signum == signal.SIGSTOP:  # nobody continues it but its launcher
            return Outcome(0, "was stopped; it is made to go on", ("completed",))
        if case.signum == signal.SIGKILL:
            return Outcome(1, r"the launcher of the ranks was killed \(SIGKILL\)", ended)
        return Outcome(130, f"stopped by {name}", ended)
    return _expected_of_rank(case, name, ended)


def _expected_of_rank(case: Case, name: str, ended: tuple[str, ...]) -> Outcome:
    number = case.target.split()[1]
    if case.signum == signal.SIGSTOP:
        late = {
            "loading": rf"rank {number} did not come",
            "meeting": rf"rank {number} did not come",
            "teardown": rf"rank {number} did not end within {TIMEOUT_S:g} s of the others",
        }
        return Outcome(1, late.get(case.phase, rf"rank {number} (died or stalls|did not come) "), ended)
    if case.asks and case.answers:
        return Outcome(130, f"stopped by {name}", ("interrupted",))
    if case.asks and case.phase == "teardown" and case.verb == "bench":
        return Outcome(0, "", ended)  # it remembers to stop after the size in hand, and there is none
    if case.asks and case.phase == "teardown" and case.signum != signal.SIGINT:
        return Outcome(130, rf"stopped by {name}", ended)
    if case.signum == signal.SIGINT:
        return Outcome(1, rf"rank {number} was stopped \(SIGINT\)", ended)
    return Outcome(1, rf"rank {number} was killed \({name}\)", ended)


def is_progress(line: str) -> bool:
    return re.match(r"(# )?\w+ \d+/\d+ ", line) is not None or "telemetry" in line
