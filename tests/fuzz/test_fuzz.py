"""A little of `make fuzz`, which shrinks what it finds; and the inputs that went wrong once."""

import pytest
from hypothesis import HealthCheck, given, settings

from commprof.analysis.readers.dialect import read_log
from commprof.commbench.errors import CommprofError
from commprof.commbench.ranks.launched import expand_hosts
from tests.fuzz.campaign import Tally, figures, run
from tests.fuzz.mutations import CHANGES, Change, mutated
from tests.fuzz.targets import CORPUS, Target, targets

_MAX_CORPUS_BYTES = 50_000


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> list[Target]:
    return targets(tmp_path_factory.mktemp("fuzz"))


def test_every_target_understands_its_own_inputs(known: list[Target]) -> None:
    """Else all that is drawn from them would be refused at once, and nothing tried."""
    for target in known:
        for content in target.seeds:
            target.read(content)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(changes=CHANGES)
def test_what_nobody_meant_is_answered_or_refused_in_one_line(known: list[Target], changes: list[Change]) -> None:
    for target in known:
        content = mutated(target.seeds[0], changes)
        try:
            target.read(content)
        except CommprofError as error:
            assert len(str(error).splitlines()) == 1  # noqa: PT017  any other error is one too


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.iterdir()) < _MAX_CORPUS_BYTES


def test_a_target_that_breaks_is_found_once_with_its_input() -> None:
    def breaks(content: bytes) -> None:
        if content != b"fine":
            raise KeyError(content)

    tally = Tally()
    run([Target(name="broken", seeds=(b"fine",), read=breaks)], tally, executions=50, cpu_s=10)
    assert list(tally.findings) == [f"broken: KeyError in test_fuzz.py:{breaks.__code__.co_firstlineno + 2}"]
    assert tally.executions.total() >= 50
    assert "- broken: KeyError" in figures(tally, 1.0)


@pytest.mark.parametrize("text", ["a" + "[1-9]" * 40 + "[2-1]", "a[9-1]"])
def test_found_a_range_of_no_host_is_refused_at_once(text: str) -> None:
    with pytest.raises(ValueError, match="list of nodes"):
        expand_hosts(text)


def test_found_a_column_that_only_looks_like_the_median() -> None:
    text = (CORPUS / "gloo.log").read_text()
    with pytest.raises(CommprofError):
        read_log(text.replace(" p50 ", " ppp50 "))
