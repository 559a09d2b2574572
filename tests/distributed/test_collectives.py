import subprocess
import sys
from pathlib import Path

from commprof.commbench.records.operations import DATA_TYPES, OPERATIONS
from tests.distributed.conftest import DEADLINE_S


def test_every_collective_is_right_in_every_type_and_a_wrong_one_is_seen() -> None:
    """On three ranks, which is no power of two: gloo and our expectation agree, and garbage from one rank never passes."""
    script = Path(__file__).parent / "verify_all.py"
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", str(script)],
        capture_output=True, text=True, timeout=DEADLINE_S, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.split() for line in done.stdout.splitlines()]
    assert {row[0] for row in rows} == set(OPERATIONS)
    assert {row[1] for row in rows} == set(DATA_TYPES)
    assert len(rows) == 7 + 2 * (2 * 7 + 2 * 7) + 2 * 7 + 3 * (7 * 4 - 3) * 2
    for op, *combination, clean, spoilt in rows:
        assert clean == ("None" if op == "barrier" else "0"), (op, combination)
        assert op == "barrier" or int(spoilt) > 0, (op, combination)
