"""Texts on a terminal: what others wrote is shown, and steers nothing."""

from __future__ import annotations

import re

#: Joiners, which many scripts and emoji need; of the invisible characters they alone stay.
_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
_PLAIN = re.compile(r"[\t\n\x20-\x7e]*")
_STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def printable(text: object) -> str:
    r"""Return a text without what steers a terminal, each such character in its escaped form.

    Control characters (but for line feeds and tabs), the escape that begins a sequence of ANSI,
    overrides of the direction of writing, other invisible characters, and halves of pairs: a file's
    name, a record or an error may hold any of them. ``\x1b[2J`` is then shown, and clears nothing.
    """
    plain = str(text)
    if plain.isascii() and _PLAIN.fullmatch(plain):
        return plain
    from unicodedata import category  # seldom needed

    return "".join(
        char
        if char in "\n\t" or char in _JOINERS or category(char) not in _STEERING
        else char.encode("unicode_escape").decode()
        for char in plain
    )


def on_one_line(text: object) -> str:
    """Return a text as `printable` does, its line feeds and tabs as spaces."""
    return printable(text).replace("\n", " ").replace("\t", " ")


def warn(name: str, text: str) -> None:
    """Log a warning, where nothing is asked for on the terminal, in the name of a module."""
    import logging  # loaded where there is something to say

    logging.getLogger(name).warning("%s", printable(text))
