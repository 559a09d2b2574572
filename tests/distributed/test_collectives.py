from pathlib import Path

from commprof.commbench.records.operations import DATA_TYPES, OPERATIONS
from tests.forked import Zygote


def test_every_collective_is_right_in_every_type_and_a_wrong_one_is_seen(zygote: Zygote, tmp_path: Path) -> None:
    """On three ranks, which is no power of two: gloo and our expectation agree, and garbage from one rank never passes."""
    script = Path(__file__).parent / "verify_all.py"
    done = zygote.run(tmp_path, script, ranks=3)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.split() for line in done.stdout.splitlines()]
    assert {row[0] for row in rows} == set(OPERATIONS)
    assert {row[1] for row in rows} == set(DATA_TYPES)
    assert len(rows) == 7 + 2 * (2 * 7 + 2 * 7) + 2 * 7 + 3 * (7 * 4 - 3) * 2
    for op, *combination, clean, spoilt in rows:
        assert clean == ("None" if op == "barrier" else "0"), (op, combination)
        assert op == "barrier" or int(spoilt) > 0, (op, combination)
