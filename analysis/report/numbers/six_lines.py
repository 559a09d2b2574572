"""A report in six lines, in the order in which people ask: for the top of a page, a terminal, a chat."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SixLines:
    """What to do; why; how sure that is; what it costs; what to change; which command comes next. Each says what or why not."""

    verdict: str
    why: str
    how_sure: str
    cost: str
    change: str
    next_command: str

    @property
    def lines(self) -> tuple[str, ...]:
        """Return the six, each with its name in front and on one line whatever a file's name holds."""
        named = {
            "Verdict": self.verdict,
            "Why": self.why,
            "How sure": self.how_sure,
            "Cost": self.cost,
            "Change": self.change,
            "Next": self.next_command,
        }
        return tuple(f"{name}: {text}" for name, text in named.items())
