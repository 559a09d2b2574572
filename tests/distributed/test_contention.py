from pathlib import Path

from commprof.commbench.records.contention import ContentionMeasurement
from commprof.commbench.records.rundir import read_info, read_records
from tests.distributed.conftest import Commprof


def test_both_are_timed_alone_and_together_and_a_report_takes_it(forked: Commprof, commprof: Commprof, tmp_path: Path) -> None:
    words = ("-b", "1M", "-e", "4M", "-n", "5", "-w", "1", "--backend", "gloo", "--folder", "r")
    done = forked(2, "contention", *words)
    assert done.returncode == 0, done.stderr
    measured = list(read_records(tmp_path / "r" / "contention.jsonl", ContentionMeasurement))
    assert [m.message_bytes for m in measured] == [2**20, 2**22]
    for m in measured:
        assert len(m.compute_alone_s) == len(m.comm_alone_s) == len(m.comm_with_compute_s) == 5
        assert 1 <= len(m.compute_with_comm_s) <= 5
        assert min(m.compute_alone_s + m.compute_with_comm_s + m.comm_alone_s + m.comm_with_compute_s) > 0
        assert m.world_size == 2
        # Only products that fit whole inside an all-reduce count.
        assert min(m.compute_with_comm_s) <= max(m.comm_with_compute_s)
    assert len([line for line in done.stdout.splitlines() if "MiB" in line]) == 2
    info = read_info(tmp_path / "r")
    assert (info.kind, info.status) == ("contention", "completed")
    report = commprof("report", "r")
    assert report.returncode == 0, report.stderr
    assert "2 measurements" in (tmp_path / "report.html").read_text()


def test_one_rank_has_nothing_to_contend_with(commprof: Commprof, tmp_path: Path) -> None:
    for words in (("--nproc", "1"), ()):
        done = commprof("contention", *words)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "one rank sends nothing" in done.stderr
    assert not (tmp_path / "runs").exists()
