"""A function that an object or a module has, stood in for, and put back."""

from collections.abc import Callable
from typing import Any, Final

Function = Callable[..., Any]

_NOTHING: Final = object()


class Tap:
    """Puts what `around` makes of a function in that function's place. What the object had of its own is given back."""

    def __init__(self, place: Any, name: str, around: Callable[[Function], Function]) -> None:  # noqa: ANN401
        self._place, self._name = place, name
        self._earlier = vars(place).get(name, _NOTHING)
        self._stands = around(getattr(place, name))
        setattr(place, name, self._stands)

    def remove(self) -> None:
        """Take the stand-in off, unless somebody has put another in its place since."""
        if vars(self._place).get(self._name) is not self._stands:
            return
        if self._earlier is _NOTHING:
            delattr(self._place, self._name)
        else:
            setattr(self._place, self._name, self._earlier)
