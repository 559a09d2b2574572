"""Pages in several frames of one browser: wide and narrow, light, dark and as they are printed. A script asks all of them.

The frames lie in a page of their own, which may look into them: nothing of the page's policy is relaxed, and its own script
runs.
"""

import html
import json
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.browser import CONSOLE, QUIET, Visit, chromium

_ANSWER = re.compile(r'<pre id="answer">(.*?)</pre>', re.DOTALL)
_WRAPPER = """<!doctype html><meta charset="utf-8"><title>frames</title>
%s
<script>
window.addEventListener("load", () => {
  const answer = {};
  try {
    for (const frame of document.querySelectorAll("iframe")) {
      const ask = (page, document) => { %s };
      if (frame.dataset.print) asPrinted(frame.contentDocument);
      (answer[frame.dataset.page] ??= {})[frame.name] = ask(frame.contentWindow, frame.contentDocument);
    }
  } catch (error) { answer.error = String(error.stack); }
  const shown = document.createElement("pre");
  shown.id = "answer";
  shown.textContent = JSON.stringify(answer);
  document.body.append(shown);
});
function asPrinted(page) {
  page.defaultView.dispatchEvent(new Event("beforeprint"));
  for (const sheet of page.styleSheets)
    for (const rule of sheet.cssRules) {
      if (rule.media?.mediaText === "print") rule.media.mediaText = "all";
    }
}
</script>
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """How a page is looked at; `printed` applies what its style sheet says of print."""

    name: str
    width: int
    dark: bool = False
    printed: bool = False

    def tag(self, page: Path) -> str:
        scheme = "dark" if self.dark else "light"
        size = f'width="{self.width}" height="900" style="border: 0; color-scheme: {scheme}"'
        name = f'name="{self.name}" data-page="{html.escape(page.stem)}" src="{page.resolve().as_uri()}"'
        return f"<iframe {name} {size}{' data-print=1' if self.printed else ''}></iframe>"


FRAMES = (
    Frame(name="wide", width=1280),
    Frame(name="dark", width=1280, dark=True),
    Frame(name="phone", width=390),
    Frame(name="print", width=720, printed=True),
)
CROSSED = (Frame(name="wide-dark", width=1280, dark=True), Frame(name="phone", width=390))
"""Both widths and both grounds in half as many frames."""


def look(pages: Mapping[Path, Sequence[Frame]], script: str, *, timeout_s: float = 120.0) -> Visit:
    """Run the body of a function of (page, document) in each page's frames; return its values by the page's stem and by frame.

    Raise RuntimeError where it throws.
    """
    browser = chromium()
    assert browser is not None, "the caller asks first"
    tags = "\n".join(frame.tag(page) for page, frames in pages.items() for frame in frames)
    names = ", ".join(str(page) for page in pages)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        wrapper = Path(folder) / "frames.html"
        wrapper.write_text(_WRAPPER % (tags, script), "utf-8")
        words = [browser, *QUIET, "--allow-file-access-from-files", f"--user-data-dir={folder}/profile"]
        words += ["--window-size=1400,1000", "--dump-dom", wrapper.as_uri()]
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, check=False)
    found = _ANSWER.search(done.stdout)
    if found is None:
        raise RuntimeError(f"{names}: no answer from the frames: {done.stderr[-2000:]}")
    answer = json.loads(html.unescape(found[1]))
    if "error" in answer:
        raise RuntimeError(f"{names}: {answer['error']}")
    return Visit(value=answer, console=tuple(CONSOLE.findall(done.stderr)))
