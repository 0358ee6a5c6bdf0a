"""HTML pages of the kit's own, filled from templates: no script, nothing from a network."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from fleetsim.base.files import exclusive, make_folder, write_file
from fleetsim.base.tables import number
from fleetsim.report.glossary import words_of

#: Where a page's words go; no text of others can be it, since theirs is escaped.
_WORDS = "<!--words-->"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fleetsim.report"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    return environment


def render_page(template: str, **values: Any) -> str:
    """Return a page; every value is escaped."""
    return with_words(_environment().get_template(template).render(values))


def with_words(page: str) -> str:
    """Return a page that ends with what its words mean."""
    words = _environment().get_template("words.html.j2").render(words=words_of(page))
    return page.replace(_WORDS, words)


def write_page(path: Path, text: str) -> None:
    """Replace a page in one step; who writes the same one at this moment waits.

    Raises
    ------
    InputError
        Where the folder cannot be made or written to.
    """
    make_folder(path.parent)
    with exclusive(path.parent, path.name):
        write_file(path, encoded(text))


def encoded(text: str) -> bytes:
    """Return a page's bytes; names of files that are no text show a question mark."""
    return text.encode(errors="replace")
