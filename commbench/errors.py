"""What can go wrong, in words for users.

Every error a user can cause or must act on is a CommprofError: one line that names the culprit and the mend.
The command line prints that line and leaves with the class's exit code; anything else is a bug and shows its traceback.
"""


class CommprofError(Exception):
    """Something failed that the user can understand from one line."""

    exit_code = 1


class BadInput(CommprofError):
    """A flag, a file or a configuration value is wrong; nothing was started or written."""

    exit_code = 2


class UnusableData(BadInput):
    """The data are well-formed but cannot answer the question asked of them."""


class RunFailed(CommprofError):
    """A run started and did not finish; what it measured until then stays readable."""


class Interrupted(CommprofError):
    """The user, or the scheduler on the user's behalf, stopped the run (SIGINT, SIGTERM)."""

    exit_code = 130


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
