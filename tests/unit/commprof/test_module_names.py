"""Everything is below one name: no file is loaded twice, as commprof.train and as train."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forked import DEADLINE_S

ROOT = Path(__file__).resolve().parents[3]
ROOMS = ("commprof", "commbench", "train", "analysis")
IMPORT_ALL = """
import importlib, json, os, pkgutil, sys
import commprof
for found in pkgutil.walk_packages(commprof.__path__, "commprof."):
    try:
        importlib.import_module(found.name)
    except ModuleNotFoundError:  # a framework's callback, without the framework
        if not found.name.startswith("commprof.integrations."):
            raise
files = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
print(json.dumps({name: os.path.realpath(file) for name, file in files.items() if os.path.isabs(file)}))
"""


@pytest.mark.processes
def test_no_module_has_two_names() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    on_disk = {str(file) for room in ROOMS for file in (ROOT / room).rglob("*.py") if file.parent.name != "integrations"}
    on_disk |= {file for file in loaded.values() if Path(file).parent.name == "integrations"}
    ours = {name: file for name, file in loaded.items() if file in on_disk}
    assert {name.partition(".")[0] for name in ours} == {"commprof"}
    assert sorted(ours.values()) == sorted(on_disk)
