"""What every result says about where and when it was measured."""

import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from commprof.commbench.machine import hardware


def describe_machine() -> str:
    """Return the lines that head a results file: date, commit, processor, cores, memory, versions."""
    memory = hardware.available_memory_bytes() or 0
    return "\n".join(
        [
            f"- date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {(hardware.git_commit(Path.cwd()) or 'none')[:12]}",
            f"- machine: {hardware.device_name()}, {hardware.usable_cores()} cores, {memory / 2**30:.0f} GiB of memory free, "
            f"{platform.system()} {platform.release()}",
            f"- versions: Python {platform.python_version()}, torch {metadata.version('torch')}, "
            f"commprof {metadata.version('commprof')}",
        ]
    )
