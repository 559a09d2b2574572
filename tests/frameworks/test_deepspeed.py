"""DeepSpeed's own engine, recorded without a changed line: one rank goes through the marks of two, with the same messages,
and what is learnt is what is learnt without a recorder.

It needs deepspeed 0.19 beside torch (DS_BUILD_OPS=0 pip install --no-build-isolation deepspeed); FRAMEWORKS_PYTHON names an
interpreter that has it.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from commprof.commbench.records.rundir import read_document, read_info
from commprof.commbench.records.sharding import UNITS_FILE, ShardingTimeline
from tests.frameworks.test_frameworks import DEADLINE_S, PYTHON, ROOT, missing

SCRIPT = str(Path(sys.executable).parent / "commprof")
LOOP = ROOT / "benchmarks" / "zero_loop.py"
ALONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29531"}


def trained(folder: Path, stage: int, ranks: int, *, before: Sequence[str] = ()) -> str:
    """Train, as what `before` starts, and return the losses."""
    losses = folder.with_suffix(".losses")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    own |= ALONE if ranks == 1 else {}
    done = subprocess.run(
        [*before, PYTHON, *launcher, str(LOOP), "--stage", str(stage), "--steps", "12", "--losses", str(losses)],
        env={**os.environ, **own, "PATH": f"{Path(PYTHON).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return losses.read_text()


def recorded(folder: Path, stage: int, ranks: int) -> tuple[ShardingTimeline, str]:
    losses = trained(folder, stage, ranks, before=[SCRIPT, "record", "--folder", str(folder), "--"])
    info = read_info(folder)
    assert info.workload is not None
    assert (info.workload.kind, info.unseen) == (f"zero{stage}", ())
    return read_document(folder / UNITS_FILE, ShardingTimeline), losses


@pytest.mark.processes
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_one_rank_shows_what_two_send_and_when(tmp_path: Path, stage: int) -> None:
    if missing("deepspeed"):
        pytest.skip(f"deepspeed is missing in {PYTHON}, whose engine this records")
    (one, _), (two, losses) = (recorded(tmp_path / f"on-{ranks}", stage, ranks) for ranks in (1, 2))
    assert losses == trained(tmp_path / "unrecorded", stage, 2)
    assert one.zero is not None and two.zero is not None
    assert (one.num_shards, two.num_shards) == (1, 2)
    assert [(span.until, span.unit) for span in one.spans] == [(span.until, span.unit) for span in two.spans]
    for alone, among in zip(one.units, two.units, strict=True):
        assert (alone.name, alone.reduce_op, alone.num_messages) == (among.name, among.reduce_op, among.num_messages)
        assert among.gather_bytes == pytest.approx(alone.gather_bytes, abs=16)  # padded to whole shards
        assert among.reduce_bytes == pytest.approx(alone.reduce_bytes, abs=16 * alone.num_tensors)
    assert two.optimizer_bytes == pytest.approx((one.optimizer_bytes or 0) / 2, rel=0.01)
    assert two.zero.master_bytes == pytest.approx(one.zero.master_bytes, rel=0.01)
