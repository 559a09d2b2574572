"""The way in: verbs in groups, and a few commands for what somebody has."""

import io
import shlex
import sys
from argparse import SUPPRESS

import pytest

from commprof.cli import VERBS, main, parser_of, verb_named
from commprof.quickstart import WAYS


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_verbs_stand_in_three_groups_each_with_its_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.endswith(":")] == ["measure:", "explain:", "decide:"]
    rows = [line for line in lines if line.startswith("  ")]
    assert [row.split()[0] for row in rows] == list(VERBS)
    assert all(row.endswith("?") for row in rows[:-1])  # completion answers no question


@pytest.mark.parametrize("have", WAYS)
def test_its_commands_are_ones_that_there_are(have: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quickstart", have]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert len(WAYS[have].commands) == (4 if have == "sharded" else 3)
    for command, _ in WAYS[have].commands:
        assert f"   {command}\n" in shown
        for part in command.split(" && "):
            words = shlex.split(part)
            if words[0] == "commprof":
                parser_of(words[1], verb_named(words[1])).parse_intermixed_args(words[2:])


@pytest.mark.parametrize(("typed", "have"), [("2\n", "script"), ("nothing\n\n9\ntra\n", "traces"), ("CLUSTER\n", "cluster")])
def test_it_asks_at_a_terminal_until_it_knows(
    typed: str, have: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    assert main(["quickstart"]) == 0
    asked = capsys.readouterr()
    assert "What do you have?" in asked.err
    assert WAYS[have].commands[0][0] in asked.out


@pytest.mark.parametrize("stdin", [Terminal(""), Terminal("nothing\n"), io.StringIO("script\n")])
def test_it_waits_for_nobody(stdin: io.StringIO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["quickstart"]) == 2
    assert "say what you have, one of throughputs, script, sharded, traces, cluster" in capsys.readouterr().err


@pytest.mark.parametrize("name", VERBS)
def test_the_common_flags_stand_first_and_no_group_is_long(name: str) -> None:
    groups = [group for group in parser_of(name, verb_named(name))._action_groups if group._group_actions]
    shown = {g.title: [own for own in g._group_actions if own.option_strings and own.help != SUPPRESS] for g in groups}
    told = [title for title, flags in shown.items() if flags]
    assert told[0] in ("common flags", "flags")
    assert (told[0] == "common flags") == (len(told) > 1)
    assert len(shown[told[0]]) <= 7  # -h is one of them
