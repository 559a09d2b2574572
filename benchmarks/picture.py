"""The picture in README: the top of docs/examples/scales.html as Chromium shows it.

make picture            needs Chromium; docs/picture.png
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.browser import QUIET, chromium
from commprof.commbench.errors import BadInput

PAGE = Path("docs/examples/scales.html")
_SIZE = "1100,1152"  # down to the step and the speedup


def take(page: Path, picture: Path) -> None:
    """Write what a window of 1100 pixels shows of a page; raise BadInput without a browser or a picture."""
    browser = chromium()
    if browser is None:
        raise BadInput("the picture is taken by Chromium; apt-get install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        words = [browser, *QUIET, "--hide-scrollbars", f"--user-data-dir={folder}/profile", f"--window-size={_SIZE}"]
        done = subprocess.run(
            [*words, f"--screenshot={picture.resolve()}", page.resolve().as_uri()], capture_output=True, check=False
        )
    if done.returncode or not picture.exists():
        raise BadInput(f"{browser} took no picture of {page}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/picture.png"), metavar="FILE", help="where the picture goes")
    take(PAGE, parser.parse_args().out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
