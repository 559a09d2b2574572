"""Emulated hosts for real: network namespaces, taken down whatever a test did."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from commprof.commbench.errors import BadInput
from commprof.testbed import network as testbed
from tests.forked import DEADLINE_S


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    try:
        testbed.check_usable()
    except BadInput as error:
        pytest.skip(str(error))
    testbed.remove()
    yield
    testbed.remove()


def namespaces() -> set[str]:
    listed = subprocess.run(
        ["ip", "-j", "netns", "list"], capture_output=True, text=True, check=True, timeout=DEADLINE_S
    ).stdout
    return {entry["name"] for entry in json.loads(listed or "[]")}
