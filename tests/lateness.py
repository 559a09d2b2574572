"""How much later than asked a process gets a core: what a bound in seconds is worth where others have the cores."""

import threading
import time
from types import TracebackType

_EVERY_S = 0.02


class Lateness:
    """Adds up in `late_s`, while the block runs, by how much a thread that asks for a core every 20 ms is kept waiting."""

    def __init__(self) -> None:
        self.late_s = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Lateness":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        looked_s = time.monotonic()
        while not self._over.wait(_EVERY_S):
            before_s, looked_s = looked_s, time.monotonic()
            self.late_s += max(0.0, looked_s - before_s - 1.5 * _EVERY_S)
