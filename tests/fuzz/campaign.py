"""Give drawn changes to every target, and keep what is wrong: an exception that is no CommprofError, or a long wait.

    python -m tests.fuzz.campaign --executions 1000000 --out docs/results

One drawn list of changes is given to every input of every target, which is so many executions. Findings are told apart by
target, exception and the line that raised it; of each the first input is written beside, and the command ends with 1.
"""

import argparse
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from benchmarks.machine import describe_machine
from commprof.commbench.errors import CommprofError
from tests.fuzz.mutations import CHANGES, Change, mutated
from tests.fuzz.targets import Target, targets

SLOW_S = 5.0  # of CPU time, for inputs of a few kilobytes
_ROUND = 500  # examples between two looks at the clock
_MEMORY = Path("/dev/shm")


@dataclass(slots=True)
class Tally:
    """What was executed, how it ended, and what went wrong: the first input by finding."""

    executions: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    findings: dict[str, bytes] = field(default_factory=dict)
    slowest_s: float = 0.0

    def execute(self, target: Target, content: bytes) -> None:
        """Give an input to a target and note how it ended."""
        start = time.process_time()
        self.executions[target.name] += 1
        signal.setitimer(signal.ITIMER_VIRTUAL, SLOW_S)
        try:
            target.read(content)
            self.answered[target.name] += 1
        except CommprofError:
            pass
        except Exception as error:  # noqa: BLE001  whatever it is, it is a finding
            where = traceback.extract_tb(error.__traceback__)[-1]
            found = f"{target.name}: {type(error).__name__} in {Path(where.filename).name}:{where.lineno}"
            self.findings.setdefault(found, content)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        taken_s = time.process_time() - start
        self.slowest_s = max(self.slowest_s, taken_s)


def _too_slow(signum: int, frame: object) -> None:
    raise TimeoutError(f"more than {SLOW_S:g} s")


def run(known: Sequence[Target], tally: Tally, *, executions: int, cpu_s: float, first: int = 1) -> None:
    """Draw changes until so many executions are done, so much CPU time is used, or Ctrl-C."""
    end_s, number = time.process_time() + cpu_s, first - 1
    with suppress(KeyboardInterrupt):
        while tally.executions.total() < executions and time.process_time() < end_s:
            number += 1
            _round(known, tally, number)
            sys.stderr.write(f"{tally.executions.total():,} executions, {len(tally.findings)} findings\n")


def _round(known: Sequence[Target], tally: Tally, number: int) -> None:
    drawn = 0

    @seed(number)
    @settings(
        max_examples=_ROUND, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(CHANGES)
    def each(changes: list[Change]) -> None:
        nonlocal drawn
        drawn += 1
        for target in known:
            if drawn % target.every == 0:
                for content in target.seeds:
                    tally.execute(target, mutated(content, changes))

    each()


def figures(tally: Tally, cpu_s: float) -> str:
    """Return the results as Markdown."""
    rows = [f"| {name} | {count:,} | {tally.answered[name] / count:.0%} |" for name, count in sorted(tally.executions.items())]
    found = [f"- {name}" for name in sorted(tally.findings)] or ["None."]
    return "\n".join(
        [
            "# Inputs that nobody meant",
            "",
            describe_machine(),
            "- by: `make fuzz`",
            f"- executions: {tally.executions.total():,} over {len(tally.executions)} targets, in {cpu_s:.0f} s of one core",
            f"- the slowest took {tally.slowest_s:.2f} s of CPU time (limit: {SLOW_S:g} s)",
            "",
            "An execution gives one changed input to one reader or one record's type. It ends well where that refuses with one",
            "line, or answers and the answer keeps the laws. Changes are drawn by hypothesis: values at the edges in place of",
            "a number, a word or a quoted text; bytes, deletions, repetitions, cuts (`tests/fuzz/mutations.py`).",
            "",
            "## Findings of this run",
            "",
            *found,
            "",
            "## By target",
            "",
            "| target | executions | answered |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--executions", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--first-round", type=int, default=1, metavar="N", help="another number draws other changes (1)")
    parser.add_argument("--cpu-seconds", type=float, default=1500.0, metavar="S", help="stop there, whatever was done")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write faults.md there")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), metavar="DIR", help="inputs that went wrong")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGVTALRM, _too_slow)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a script
    tally, start = Tally(), time.process_time()
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        run(targets(Path(folder)), tally, executions=args.executions, cpu_s=args.cpu_seconds, first=args.first_round)
    told = figures(tally, time.process_time() - start)
    sys.stdout.write(told)
    if args.out is not None:
        (args.out / "faults.md").write_text(told)
    for number, (name, content) in enumerate(sorted(tally.findings.items())):
        args.findings.mkdir(exist_ok=True)
        (args.findings / f"{number:03d}").write_bytes(name.encode() + b"\n" + content)
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
