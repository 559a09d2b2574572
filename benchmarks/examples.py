"""Three reports to look at before anything is measured: a training that scales, one that does not, a log of another program.

    make examples           a few seconds; pages in docs/examples

The trainings are made up (made_up_study.py): times worked out from a model and a wire, with a little noise, so that they come
out the same on every machine. The log is a real one's shape: nccl-tests' columns, of published times on eight H100s.
"""

import argparse
import contextlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.made_up_study import Machine, write_study
from commprof.cli import main as commprof

SCALES = Machine(
    experiment="gpt-124m",
    num_parameters=124_000_000,
    layers=12,
    step_s=0.62,
    latency_s=60e-6,
    bandwidth_bytes_per_s=2.4e9,
    device="made-up accelerator",
)
DOES_NOT = Machine(
    experiment="small",
    num_parameters=1_930_000,
    layers=24,
    step_s=0.0195,
    latency_s=400e-6,
    bandwidth_bytes_per_s=0.11e9,
    device="made-up processor",
)
RANKS = (2, 4)
PRESET = "h100x8-nvlink"
MOST_BYTES = 350_000


def write_examples(out: Path) -> list[Path]:
    """Write the three pages into `out`; raise RuntimeError for a verb that fails or a page too large to keep."""
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    pages = [out / f"{name}.html" for name in ("scales", "does-not-scale", "log-import")]
    with tempfile.TemporaryDirectory() as folder, inside(Path(folder)):
        for name, machine, page in zip(("scales", "does-not-scale"), (SCALES, DOES_NOT), pages, strict=False):
            write_study(Path(name), machine, RANKS)
            run("report", name, "--out", page.name)
        run("import", "--preset", PRESET, "--folder", PRESET)
        run("report", PRESET, "--out", pages[-1].name)
        for page in pages:
            shutil.move(page.name, page)
    if large := [f"{page.name}: {page.stat().st_size} bytes" for page in pages if page.stat().st_size > MOST_BYTES]:
        raise RuntimeError(f"too large to keep: {', '.join(large)}")
    return pages


def run(*words: str) -> str:
    """Run a verb in this process and return what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = commprof(list(words))
    if code:
        raise RuntimeError(f"commprof {' '.join(words)} ended with {code}")
    return printed.getvalue()


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder, so that a page names runs as somebody would who stands there."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/examples"), metavar="DIR", help="where the pages go")
    for page in write_examples(parser.parse_args().out):
        sys.stdout.write(f"{page} {page.stat().st_size / 1e3:.0f} kB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
