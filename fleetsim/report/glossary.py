"""The glossary: each page ends with the words that it uses."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_UNSEEN = re.compile(r"<(style|script)>.*?</\1>|<[^>]*>", re.DOTALL)
_ROW = re.compile(r"^\| (?!Term |---)(.+?) \| (.+) \|$", re.MULTILINE)
_BANNED = "\n## Words that are not used"


def glossary_text() -> str:
    """Return the glossary, in Markdown."""
    return (files("fleetsim.report") / "glossary.md").read_text()


@cache
def _terms() -> tuple[tuple[re.Pattern[str], str, str], ...]:
    """Return each term with a pattern that finds it, and its meaning."""
    rows = _ROW.findall(glossary_text().partition(_BANNED)[0])
    return tuple((_pattern(term), term, meaning.replace("`", "")) for term, meaning in rows)


def _pattern(term: str) -> re.Pattern[str]:
    """Return what finds a term in its singular and plural."""
    names = re.sub(r" \(.*?\)", "", term).split(", ")
    forms = [
        re.escape(name[:-1]) + "(y|ies)"
        if name.endswith("y")
        else re.sub("criterion$", "criteri(on|a)", re.escape(name)) + "(s|es)?"
        for name in names
    ]
    return re.compile(rf"\b({'|'.join(forms)})\b", re.IGNORECASE)


def words_of(page: str) -> list[tuple[str, str]]:
    """Return the terms that an HTML page shows, with their meanings."""
    text = _UNSEEN.sub(" ", page)
    return [(term, meaning) for pattern, term, meaning in _terms() if pattern.search(text)]
