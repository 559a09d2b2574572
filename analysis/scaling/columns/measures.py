"""What does a column of this name measure? `tokens/s/GPU`, `TokensPerSecond`, `Step time (ms)`: what, of whom, in which unit.

A name is told in small letters, `per` as `/`, seconds as `s`, whatever runs a rank as `gpu`, and its unit in brackets apart.
What may be over all ranks or of one (`tps`, `TFLOPs`) is not guessed.
"""

import re
from dataclasses import dataclass

from commprof.analysis.scaling.series import Measure

_RATE = (
    r"(?:[kmb] ?)?(?:samples?|tokens?|toks?|images?|imgs?|sequences?|seqs?|sentences?|words?|frames?|examples?|items?|records?)"
)
_FLOPS = r"(?:achieved |model |aggregate |total )*(?:[tpg]|tera ?|peta ?|giga ?)?flops?(?:/s)?"
_PEAK = r"(?:percentage|%) of (?:theoretical )?peak(?: flops?(?:/s)?)?"
_OF = r"(?:(?:total|global|overall|aggregate|train|training|avg|average|mean|median) )*"
_STEP = r"(?:(?:train|training|avg|average|mean|median) )*(?:step|iteration|iter|it|batch)"
_TIMES_S = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "min": 60.0}
_LONGEST = 120
_WORDS = (
    (r"(?<=[a-z])(?=[A-Z])", " "),
    (r"[_-]+|[\u2191\u2193*\u2020]", " "),  # arrows tell which way is better
    (r"\.(?![0-9])", ""),
    (r"(?i)\s*\bper\b\s*|\s*/\s*", "/"),
    (r"(?i)\b(?:seconds?|secs?)\b", "s"),
    (r"(?i)\b(?:milliseconds?|msecs?)\b", "ms"),
    (r"(?i)\b(?:minutes?|mins?)\b", "min"),
    (r"(?i)/(?:gpus?|devices?|ranks?|accelerators?|cards?|workers?)\b", "/gpu"),
    (r"\s+", " "),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What is measured, seconds in its unit (None: the cells must tell), one over it where it is a rate of steps.

    Of several such columns the one with the lowest `order` counts.
    """

    measure: Measure
    order: int
    factor: float | None = 1.0
    inverse: bool = False

    def value(self, number: float, factor: float = 1.0) -> float:
        """Return the number in the measure's own unit."""
        scaled = number * (factor if self.factor is None else self.factor)
        return 1 / scaled if self.inverse else scaled


@dataclass(frozen=True, slots=True, kw_only=True)
class Unclear:
    """Why a column that measures something cannot be used, and what to do about it."""

    reason: str


def plain(name: str) -> tuple[str, str]:
    """Return a name in words that can be compared, and the unit in its brackets; none of a name too long to be one."""
    if len(name) > _LONGEST:
        return "", ""
    for pattern, word in _WORDS:
        name = re.sub(pattern, word, name)
    found = re.fullmatch(r"([^(\[]*?) ?[(\[](.*?)[)\]]? *", name.strip().lower())
    return (found[1], found[2].strip()) if found else (name.strip().lower(), "")


def seconds_in(unit: str) -> float | None:
    """Return how many seconds a unit of time has; None for what is none."""
    return _TIMES_S.get(plain(unit)[0])


def is_per_rank(unit: str) -> bool:
    """Tell whether a unit is that of one rank, such as tok/s/GPU."""
    return "/gpu" in plain(unit)[0] or "/gpu" in plain(unit)[1]


def meaning_of(name: str) -> Meaning | Unclear | None:
    """Return what a column of this name measures, None where that is not known to be anything."""
    words, unit = plain(name)
    told = _rate(words, unit) or _time(words, unit)
    if told is not None:
        return told
    if re.fullmatch(rf"mfu ?%?|{_PEAK}|model flops? utili[sz]ation", words):
        return Meaning(measure="mfu", order=5)
    if re.fullmatch(r"(?:weak |strong )?(?:scaling |parallel )?efficiency", words):
        return Meaning(measure="throughput_per_rank", order=7)
    return Meaning(measure="throughput", order=8) if words == "speedup" else None


def _rate(words: str, unit: str) -> Meaning | Unclear | None:
    rank = words.endswith(("/gpu", "/gpu/s")) or words.startswith("/gpu ") or words == "tgs" or is_per_rank(unit)
    bare = re.sub(r"^/gpu |/gpu(?=/s|$)", "", words)
    if (
        not rank
        and re.search(r"/(?:node|host|replica)", f"{words} {unit}")
        and re.match(rf"{_OF}(?:throughput|{_RATE}/)", bare)
    ):
        return Unclear(reason=f"{words!r} is of a part of the ranks; give throughput over all ranks or throughput_per_gpu")
    if re.fullmatch(rf"{_OF}throughput", bare):
        return Meaning(measure="throughput_per_rank" if rank else "throughput", order=2 if rank else 0)
    if re.fullmatch(rf"{_OF}{_RATE}/s|tgs", bare):
        return Meaning(measure="throughput_per_rank" if rank else "throughput", order=2 if rank else 1)
    if rank and re.fullmatch(rf"{_FLOPS}|tps|wps", bare):
        return Meaning(measure="throughput_per_rank", order=6)
    if re.fullmatch(rf"{_FLOPS}|tps|wps", bare):
        return Unclear(reason=f"{words!r} may be over all ranks or of one; name it throughput or throughput_per_gpu")
    return None


def _time(words: str, unit: str) -> Meaning | Unclear | None:
    if re.fullmatch(rf"{_STEP}s?/s", words) or re.fullmatch(r"(?:steps|iterations|iters|batches|its)/s", words):
        return Meaning(measure="step_s", order=4, inverse=True)
    if spelt := re.fullmatch(rf"(.+) (s|ms|us|µs|min)|(s|ms|us|µs|min)/({_STEP})", words):
        words, unit = (spelt[1], spelt[2]) if spelt[1] else ("step time", spelt[3])
    if re.fullmatch(r"epoch(?: time)?|time/epoch|(?:total )?(?:train|training|run) ?time", words):
        return Unclear(
            reason=f"{words!r} is no step's; where an epoch is the same for all, name it time_s, with --scaling strong"
        )
    named = rf"{_STEP} (?:time|duration|latency)(?: mean| avg| median)?|{_OF}time/{_STEP}|time|t(?: n)?"
    if not re.fullmatch(named if unit not in _TIMES_S else rf"{named}|{_STEP}(?: mean| avg| median)?", words):
        return None
    if unit and unit not in _TIMES_S:
        return Unclear(reason=f"the unit {unit!r} of {words!r} is no time; use s or ms")
    return Meaning(measure="step_s", order=3, factor=_TIMES_S.get(unit))
