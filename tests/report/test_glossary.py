"""Each page ends with what its words mean."""

from __future__ import annotations

import re

import pytest
from support import ROOT

from fleetsim.report import glossary_text
from fleetsim.report.glossary import words_of
from fleetsim.report.pages import with_words

PLACE = "<!--words-->"


@pytest.mark.parametrize(
    ("shown", "term"),
    [
        ("two criteria", "criterion"),
        ("Companies", "company"),
        ("p-values", "p-value"),
        ("an adjusted p-value", "adjusted p-value (Holm)"),
        ("as observed", "stated, observed"),
        ("deliveries", "delivery"),
    ],
)
def test_a_term_is_found_in_each_of_its_forms(shown: str, term: str) -> None:
    assert term in dict(words_of(f"<p>{shown}</p>"))


@pytest.mark.parametrize(
    "page",
    ["<p>overpowering</p>", '<p title="power">x</p>', "<style>.power {}</style>", "<!--power-->"],
)
def test_what_a_reader_does_not_see_is_no_word(page: str) -> None:
    """Attributes, rules of style, comments, and parts of longer words."""
    assert words_of(page) == []


def test_every_term_of_the_glossary_finds_itself() -> None:
    """So that none can stand in the glossary for nothing."""
    rows = re.findall(
        r"^\| (.+?) \| .+ \|$", glossary_text().partition("## Words")[0], re.MULTILINE
    )
    for term in rows:
        if term not in ("Term", "---"):
            assert term in dict(words_of(f"<td>{term}</td>"))


def test_the_words_stand_in_their_place_and_nowhere_else() -> None:
    """A text of others is escaped, so that it cannot hold the place."""
    page = with_words(f"<main><p>power &lt;!--words--&gt;</p>{PLACE}</main>")
    assert page.count("<dt>power</dt>") == 1
    assert "&lt;!--words--&gt;" in page
    assert PLACE not in page


def test_the_reference_report_has_its_words() -> None:
    """Folded, and in its table of contents."""
    (path,) = (ROOT / "results" / "001-baseline" / "reference").glob("report.html")
    page = path.read_text(encoding="utf-8")
    assert '<a href="#words">Words</a>' in page
    assert "<dt>criterion</dt>" in page
    assert "<dt>landing folder</dt>" not in page
