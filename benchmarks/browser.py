"""Pages of a report in headless Chromium: a script runs in the page, beside the page's own, and what it returns comes back.

The page is a copy whose policy names that script's hash too; everything else stays in force.
"""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
)
CONSOLE = re.compile(r":CONSOLE[:(].*")
_ANSWER = re.compile(r'<pre id="answer">(.*?)</pre>', re.DOTALL)
_ASK = """
answer(() => { %s });
function answer(ask) {
  const shown = document.createElement("pre");
  shown.id = "answer";
  try { shown.textContent = JSON.stringify({ value: ask() }); }
  catch (error) { shown.textContent = JSON.stringify({ error: String(error) }); }
  document.body.append(shown);
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What the script returned, and what the browser's console said meanwhile."""

    value: object
    console: tuple[str, ...]


def chromium() -> str | None:
    """Return the browser's path, None where there is none."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


def visit(page: Path, script: str, *, timeout_s: float = 60.0, window: str = "1100,900") -> Visit:
    """Load a copy of the page and run `script` in it, the body of a function; raise RuntimeError where that throws."""
    browser = chromium()
    assert browser is not None, "the caller asks first"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "page.html"
        copy.write_text(_with_script(page.read_text("utf-8"), _ASK % script), "utf-8")
        words = [browser, *QUIET, f"--user-data-dir={folder}/profile", f"--window-size={window}", "--dump-dom", copy.as_uri()]
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, check=False)
    found = _ANSWER.search(done.stdout)
    if found is None:
        raise RuntimeError(f"{page}: no answer from the page: {done.stderr[-2000:]}")
    answer = json.loads(html.unescape(found[1]))
    if "error" in answer:
        raise RuntimeError(f"{page}: {answer['error']}")
    return Visit(value=answer.get("value"), console=tuple(CONSOLE.findall(done.stderr)))


def _with_script(page: str, script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = page.replace("script-src '", f"script-src 'sha256-{digest}' '", 1)
    assert allowed != page, "the page allows its own script by hash"
    return allowed.replace("</body>", f"<script>{script}</script></body>")
