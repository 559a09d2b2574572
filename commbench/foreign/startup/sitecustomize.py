"""Python runs this as it starts, where this folder is on PYTHONPATH: it waits for torch and lets the user's own follow.

Only the standard library, for the interpreter may be another one than ours, and nothing that goes wrong here may reach it.
Next to nothing of that either: every Python of the command pays for it.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _note(text: str) -> None:
    """Leave a word for `commprof record`; on another host its folder is not there, and nobody asks for it."""
    folder = os.environ.get("COMMPROF_RECORD_NOTES")
    if folder:
        try:
            with open(os.path.join(folder, str(os.getpid())), "a") as file:
                file.write(text + "\n")
        except OSError:
            pass


def _arm() -> None:
    _note("torch")
    try:
        from commprof.commbench.foreign.arming import arm

        arm()
    except Exception as error:  # noqa: BLE001  the program that imports torch must not hear of us
        _note(f"error {type(error).__name__}: {error}")


class _UntilTorch:
    """Stands before the other finders until torch is asked for, and has `_arm` called when it has been imported."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:  # noqa: ANN401
        if name != "torch":
            return None
        import importlib.util

        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        loader: Any = spec.loader if spec is not None else None
        if loader is not None:
            load = loader.exec_module

            def exec_module(module: object) -> None:
                del loader.exec_module
                load(module)
                _arm()

            loader.exec_module = exec_module
        return spec


def _let_follow() -> None:
    """Import the sitecustomize that there would be without this one."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]
    own = sys.modules.pop("sitecustomize", None)
    try:
        __import__("sitecustomize")
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        if own is not None:
            sys.modules.setdefault("sitecustomize", own)


if "COMMPROF_RECORD" in os.environ:
    _note("python")
    sys.meta_path.insert(0, _UntilTorch())
_let_follow()
