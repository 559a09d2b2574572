"""The phases of the step under way, each from one mark to another; a trace shows them as ranges of the same names."""

from typing import Any, Final, Literal, get_args

from torch._C._autograd import _profiler_enabled
from torch.profiler import record_function

from commprof.commbench.recorder.gradients import GradientRecorder
from commprof.commbench.recorder.sharded.held_bytes import HeldBytes
from commprof.commbench.recorder.sharded.marks import UnitRecorder
from commprof.commbench.records.sharding import Mark
from commprof.commbench.timing import Clock

Phase = Literal["data", "forward", "backward", "optimizer"]
PHASES: tuple[Phase, ...] = get_args(Phase)
_BEGINNINGS: Final[dict[Phase, Mark]] = {"forward": "fetched", "backward": "passes", "optimizer": "passed"}


class PhaseMarks:
    """Marks of one step at a time. A phase ends with the mark that the next one begins with: no time is lost between them."""

    def __init__(self, clock: Clock, gradients: GradientRecorder, units: UnitRecorder) -> None:
        self._clock, self._gradients, self._units = clock, gradients, units
        self.spans: list[tuple[Phase, Any, Any]] = []
        self._under_way: tuple[Phase, Any, Any] | None = None
        self.held: HeldBytes | None = None  # while somebody looks at the step's memory

    def open(self, first: Phase | None) -> Any:  # noqa: ANN401  a clock's own token
        """Begin a step, and with it its first phase if there is one; return its mark."""
        self._under_way = None
        self.spans.clear()
        self._range = _opened("step")
        start = self._clock.mark()
        self._units.begin_step()
        if first is not None:
            self._begin(first, start)
        return start

    def close(self) -> Any:  # noqa: ANN401
        """End the step and the phase under way; return its mark."""
        end = self._clock.mark()
        self.end(end)
        self._units.end_step()
        _close(self._range)
        return end

    def turn_to(self, name: Phase) -> None:
        """End the phase under way, if there is one, and begin another."""
        mark = self._clock.mark()
        self.end(mark)
        self._begin(name, mark)

    def end(self, mark: Any = None) -> None:  # noqa: ANN401
        """End the phase under way, if there is one: now, or at a mark."""
        if self._under_way is None:
            return
        name, start, named = self._under_way
        self._under_way = None
        end = self._clock.mark() if mark is None else mark
        if name == "backward":
            self._gradients.end(end)
        elif name == "optimizer":
            self._units.mark("updated")
        self.spans.append((name, start, end))
        _close(named)

    def _begin(self, name: Phase, mark: Any) -> None:  # noqa: ANN401
        named = _opened(name)
        if name == "backward":
            if self.held is not None:
                self.held.backward_begins()
            self._gradients.begin(mark)
        if name != "data":
            self._units.mark(_BEGINNINGS[name])
        self._under_way = name, mark, named


def _opened(name: str) -> Any:  # noqa: ANN401  a range of torch's, which has no types
    """Open a range of the trace; None where nobody traces, for whom it would take 10 us."""
    if not _profiler_enabled():
        return None
    named: Any = record_function(name)
    named.__enter__()
    return named


def _close(named: Any) -> None:  # noqa: ANN401
    if named is not None:
        named.__exit__(None, None, None)
