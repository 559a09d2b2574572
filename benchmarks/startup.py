"""How long does a person wait for the command line? Medians of interleaved repeats, and whether torch was loaded.

    make benchmark-startup             under a minute; results in docs/results/startup.md

`commprof report` is timed on a finished study: the one named by --study, else a small one that is run first.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.machine import describe_machine
from commprof.commbench.records.rundir import write_text

SCRIPT = Path(sys.executable).parent / "commprof"
TINY = """
model: {vocabulary: 3000, d_model: 32, feed_forward: 64}
data: {synthetic_articles: 2000}
training: {batch_size: 8, max_steps: 60, evaluate: false}
"""


def wall_s(command: list[str]) -> float:
    start_s = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start_s


def loads_torch(words: list[str]) -> bool:
    """Run the command in a fresh interpreter and look at what it imported."""
    code = f"import sys, commprof.cli; commprof.cli.main({words!r}); sys.stderr.write(str('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stderr.endswith("True")


def finished_study(root: Path) -> Path:
    (root / "tiny.yaml").write_text(TINY)
    (root / "study.yaml").write_text("name: startup\nmodels: [{config: tiny.yaml}]\nworld_sizes: [1, 2]\n")
    subprocess.run([str(SCRIPT), "study", str(root / "study.yaml"), "--out", str(root)], check=True, stdout=subprocess.DEVNULL)
    return root / "startup"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="where the result goes")
    parser.add_argument("--repeats", type=int, default=15, metavar="N", help="interleaved repeats (15)")
    parser.add_argument("--study", type=Path, metavar="DIR", help="a finished study to report on")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = args.study or finished_study(Path(folder))
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "python -c 'import commprof'": [sys.executable, "-c", "import commprof"],
            "commprof --help": [str(SCRIPT), "--help"],
            "commprof bench --help": [str(SCRIPT), "bench", "--help"],
            "commprof predict --help": [str(SCRIPT), "predict", "--help"],
            "commprof report": [str(SCRIPT), "report", str(study)],
        }
        samples: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(args.repeats):
            for name, command in commands.items():
                samples[name].append(wall_s(command))
        torch = {"commprof --help": loads_torch(["--help"]), "commprof report": loads_torch(["report", str(study)])}
        pairs = zip(samples["python -c 'import commprof'"], samples["python -c pass"], strict=True)
        own_s = [wall - bare for wall, bare in pairs]
    rows = [
        f"| `{name}` | {median(values):.3f} s | {min(values):.3f} to {max(values):.3f} s | "
        f"{'-' if name not in torch else 'yes' if torch[name] else 'no'} |"
        for name, values in samples.items()
    ]
    head = ["| command | median | range | loads torch |", "|---|---|---|---|"]
    own = f"`import commprof` takes {1e3 * median(own_s):.1f} ms of that (median of the pairs)."
    lines = ["# Start-up time", "", describe_machine(), f"- {args.repeats} interleaved repeats", "", *head, *rows, "", own]
    write_text(args.out / "startup.md", "\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
