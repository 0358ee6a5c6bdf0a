"""Small tables that read well in a notebook and on a terminal."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from html import escape
from typing import Any

from fleetsim.base.terminal import on_one_line
from fleetsim.base.verdict import VERDICTS

_LEFT = 'style="text-align: left"'  # JupyterLab would align text to the right


#: The form of an output that says which part of a report it is; nothing shows it.
PART = "application/vnd.fleetsim.part+json"
#: The form of an output that a report shows in place of the PNG: it follows the colour scheme.
SVG = "application/vnd.fleetsim.svg"


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; a notebook shows HTML, ``str`` gives aligned columns.

    With `fold`, HTML shows these words, and the table when they are clicked. `part` says which part
    of a report it is, where that has a place of its own: ``verdicts``.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    fold: str = ""
    part: str = ""

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return _bundle(self, self.part)

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col" {_LEFT}>{escape(name)}</th>' for name in self.header)
        body = "".join(f"<tr>{''.join(map(_cell, row, self.header))}</tr>" for row in self.rows)
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        table = f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        if not self.fold:
            return table
        return f"<details><summary>{escape(self.fold)}</summary>{table}</details>"

    def __html__(self) -> str:  # what a template puts in; every text is escaped already
        return self._repr_html_()

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return self.text()

    def text(self, width: int = 100) -> str:
        """Return aligned columns; the last one is wrapped at `width`, but keeps 30 characters."""
        table = [tuple(map(on_one_line, row)) for row in (self.header, *self.rows)]
        widths = [max(len(row[i]) for row in table) for i in range(len(self.header) - 1)]
        indent = sum(widths) + 2 * len(widths)
        room = max(width - indent, 30)
        lines = []
        for row in table:
            first = "  ".join(text.ljust(w) for text, w in zip(row[:-1], widths, strict=True))
            parts = textwrap.wrap(row[-1], room) or [""]
            lines.append(f"{first}  {parts[0]}".rstrip() if widths else parts[0])
            lines += [" " * indent + part for part in parts[1:]]
        return "\n".join(lines)


@dataclass(frozen=True)
class Note:
    """A sentence in place of what cannot be shown here, with what to do about it."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.text)}</p>"


@dataclass(frozen=True)
class Stack:
    """Tables that are shown one below the other."""

    tables: tuple[Table, ...]

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self.tables)

    def __repr__(self) -> str:
        return "\n\n".join(map(str, self.tables))


@dataclass(frozen=True)
class Lines:
    """Lines of text as they are, none of them wrapped."""

    lines: tuple[str, ...]
    caption: str = ""
    part: str = "sample"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return _bundle(self, self.part)

    def __repr__(self) -> str:
        return "\n".join(map(on_one_line, self.lines))

    def _repr_html_(self) -> str:
        caption = f"<p>{escape(self.caption)}</p>" if self.caption else ""
        text = escape("\n".join(map(on_one_line, self.lines)))
        return f'{caption}<pre class="lines">{text}</pre>'


def _bundle(shown: Any, part: str) -> dict[str, Any]:
    """Return all forms of what a notebook shows, with the part of a report that it is."""
    bundle = {"text/html": shown._repr_html_(), "text/plain": repr(shown)}
    return bundle | ({PART: {"part": part}} if part else {})


def _cell(text: str, name: str) -> str:
    kind = f' class="{text}"' if text in VERDICTS else ""
    return f'<td{kind} {_LEFT} data-label="{escape(name)}">{escape(text)}</td>'


def number(value: float | bool | None, digits: int = 4) -> str:
    """Return a value as a table shows it: yes or no, significant digits, a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        return str(int(value))
    return f"{value:.{digits}g}"


def with_unit(value: float | bool | None, unit: str, digits: int = 4) -> str:
    """Return a `number` with its unit, if it has one."""
    return f"{number(value, digits)} {unit}".rstrip()


def counted(batches: int) -> str:
    """Return a number of batches in words."""
    return "1 batch" if batches == 1 else f"{batches} batches"
