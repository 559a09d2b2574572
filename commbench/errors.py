"""What can go wrong, in words for users.

Every error a user can cause or must act on is a CommprofError: one line that names the culprit and the mend.
The command line prints that line and leaves with the class's exit code; anything else is a bug and shows its traceback.
"""

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\u061c\u200e\u200f]")


def printable(text: str) -> str:
    """Make text from outside safe for a terminal: control and direction characters become visible escapes."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


class CommprofError(Exception):
    """Something failed that the user can understand from one line, which holds nothing that could steer a terminal."""

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__())


class BadInput(CommprofError):
    """A flag, a file or a configuration value is wrong; nothing was started or written."""

    exit_code = 2


class UnusableData(BadInput):
    """The data are well-formed but cannot answer the question asked of them."""


class RunFailed(CommprofError):
    """A run started and did not finish; what it measured until then stays readable."""


class Interrupted(CommprofError):
    """The user, or the scheduler on the user's behalf, stopped the run; by which signal, where that is known."""

    exit_code = 130

    def __init__(self, text: str, signum: int = 0) -> None:
        super().__init__(text)
        self.signum = signum


class OutOfMemory(RunFailed):
    """A rank had no memory left for a message size; the sizes before are on disk.

    Every rank raises it, or with `alone` only the one whose memory ended in the midst of its work, `detail` being the words for
    that.
    """

    def __init__(self, op: str, message_bytes: int, rank: int, *, detail: str = "", alone: bool = False) -> None:
        where = f" ({detail})" if detail else ""
        super().__init__(
            f"rank {rank} is out of memory for {op} of {message_bytes} bytes{where}; lower -e; smaller sizes are kept"
        )
        self.op, self.message_bytes, self.rank, self.alone = op, message_bytes, rank, alone
