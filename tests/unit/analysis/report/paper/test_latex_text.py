"""Text for TeX: nothing of it is obeyed, nothing of it is lost."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.analysis.report.numbers.plain_text import file_stem, plain, shortened
from commprof.analysis.report.paper.text import latex

# What may stand in TeX without acting: letters and signs, a sign's command, a break, a guarded bracket.
_HARMLESS = re.compile(
    r"(?:[^\\{}%&#_$^~<>|\"'`\[\]*,\-\x00-\x1f\x7f]|\\[{}%&#_$]|\\text[a-z]+\{\}|\\allowbreak\{\}|\{[\[\]*]\}"
    r"|-(?!-)(?:\{\})?|,(?!,)(?:\{\})?)*"
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("50%$&#_^~", r"50\%\$\&\#\_\textasciicircum{}\textasciitilde{}"),
        ("a\nb\x1b", r"a\textbackslash{}x0ab\textbackslash{}x1b"),
        ("--json ,,", "-{}-json ,{},"),
        ("all-reduce", "all-reduce"),
        ("[5pt] *", "{[}5pt{]} {*}"),
        ("12 \u03bcs \u00b1 1\u00b0", r"12 \textmu{}s \textpm{} 1\textdegree{}"),
        ("\U0001f600 \u6f22 caf\u00e9 na\u0131ve \u0141", "{[}U+1F600{]} {[}U+6F22{]} caf\u00e9 na{[}U+0131{]}ve {[}U+0141{]}"),
        (
            "\u201cx\u201d \u2264 \u0101 \u00bd \udcff",
            r"\textquotedbl{}x\textquotedbl{} \textless{}= a {[}U+00BD{]} {[}U+DCFF{]}",
        ),
        ("runs/20261122-train", r"runs/\allowbreak{}20261122-train"),
    ],
)
def test_each_sign_is_printed_as_it_is(text: str, shown: str) -> None:
    assert latex(text) == shown


@given(st.text(st.characters(), max_size=60))
def test_no_text_reaches_tex_as_a_command(text: str) -> None:
    assert _HARMLESS.fullmatch(latex(text))
    assert all(len(character.encode()) <= 2 for character in plain(text)), "beyond Western letters pdflatex lacks signs"


@given(st.text(st.characters(), max_size=120))
def test_a_file_stem_names_a_file_in_the_folder_it_is_put_in(text: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", file_stem(text))
    assert len(file_stem(text)) <= 80
    assert file_stem(f"{text} {'folder ' * 20}accuracy-over-samples").endswith("accuracy-over-samples"), (
        "a figure's name is at its end"
    )


def test_a_long_name_is_cut_where_a_figure_has_no_room() -> None:
    assert shortened("abcdefghijklmnopqrstuvwxyz", 10) == "abcd...xyz"
    assert shortened("x" * 10, 10) == "x" * 10
