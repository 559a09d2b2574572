"""FullyShardedDataParallel's HYBRID_SHARD on four ranks: recorded it trains as ever, and its ranks can be kept from sending."""

from pathlib import Path

from commprof.commbench.records.rundir import read_document, read_info
from commprof.commbench.records.sharding import ShardingTimeline
from tests.forked import Zygote


def test_copies_of_shards_are_seen_and_their_training_is_the_same(zygote: Zygote, tmp_path: Path) -> None:
    done = zygote.run(tmp_path, Path(__file__).with_name("flat_copies.py"), tmp_path, ranks=4)
    assert done.returncode == 0, done.stderr
    for name in ("recorded", "alone"):
        timeline = read_document(tmp_path / name / "units.json", ShardingTimeline)
        assert (timeline.num_shards, timeline.num_replicas, timeline.num_others) == (2, 2, 0)
        assert [(unit.name, unit.resharded) for unit in timeline.units] == [("", False), ("0", True)]
        assert timeline.waits == (name == "alone")
        marks = [(span.until, span.unit) for span in timeline.spans]
        for unit in (0, 1):
            reduced = marks.index(("reduce_landed", unit))
            assert marks[reduced + 1 : reduced + 3] == [("reduced", unit), ("kept", unit)]
        assert marks.count(("gather_landed", 1)) == (2 if name == "alone" else 0)
        info = read_info(tmp_path / name)
        assert not info.unseen
        assert info.workload is not None
        assert (info.workload.kind, info.workload.starts_together) == ("hsdp", name == "alone")
