"""The glossary: each page ends with the words that it uses."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

_UNSEEN = re.compile(r"<(style|script)>.*?</\1>|<[^>]*>", re.DOTALL)
_ROW = re.compile(r"^\| (?!Term |---)(.+?) \| (.+) \|$", re.MULTILINE)
_BANNED = "\n## Words that are not used"


def glossary_text() -> str:
    """Return the glossary, in Markdown."""
    return (files("fleetsim.report") / "glossary.md").read_text()


class _Term(NamedTuple):
    """A term of the glossary: how its forms begin, in small letters, and what finds them."""

    term: str
    meaning: str
    beginnings: tuple[str, ...]
    pattern: re.Pattern[str]

    def stands_in(self, text: str, small: str) -> bool:
        """Return whether a text, which is also given in small letters, has the term."""
        # A pattern takes a hundred times as long as `in`, and most pages lack most terms.
        return any(part in small for part in self.beginnings) and bool(self.pattern.search(text))


@cache
def _terms() -> tuple[_Term, ...]:
    """Return each term with its meaning and what finds it."""
    rows = _ROW.findall(glossary_text().partition(_BANNED)[0])
    return tuple(_found_by(term, meaning.replace("`", "")) for term, meaning in rows)


def _found_by(term: str, meaning: str) -> _Term:
    """Return a term with what finds it in its singular and plural."""
    forms = [_form(name) for name in re.sub(r" \(.*?\)", "", term).split(", ")]
    words = "|".join(re.escape(beginning) + ending for beginning, ending in forms)
    pattern = re.compile(rf"\b({words})\b", re.IGNORECASE)
    return _Term(term, meaning, tuple(beginning.lower() for beginning, _ in forms), pattern)


def _form(name: str) -> tuple[str, str]:
    """Return what all forms of a name begin with, and the pattern of their ends."""
    if name.endswith("y"):
        return name[:-1], "(y|ies)"
    if name.endswith("criterion"):
        return name[:-2], "(on|a)"
    return name, "(s|es)?"


def words_of(page: str) -> list[tuple[str, str]]:
    """Return the terms that an HTML page shows, with their meanings."""
    text = _UNSEEN.sub(" ", page)
    small = text.lower()
    return [(each.term, each.meaning) for each in _terms() if each.stands_in(text, small)]
