"""A notebook's outputs in the order of a report: figures, sample, topics to unfold, code.

A heading of the second level begins a topic; one of the third level that stands before a plot
becomes the plot's title, and the text below it what to expect of it. What the page's head says
already, by the record, is left out: outputs say which part they are (`PART`).
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fleetsim.base.tables import PART, SVG
from fleetsim.experiment.kept import PLOT_MARK
from fleetsim.experiment.steps import RUN_MARK

_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Picture:
    """One plot: its title, what to expect of it (Markdown), its alt text, and its image."""

    title: str
    text: str
    alt: str
    form: str  # of the image: svg+xml or png
    image: str  # in base 64


@dataclass(frozen=True)
class Piece:
    """One output or text of a topic: its form (html, markdown, text, error) and content."""

    form: str
    content: str


@dataclass
class Topic:
    """What stands below one heading of the second level."""

    title: str
    pieces: list[Piece] = field(default_factory=list)
    is_text_alone: bool = True  # of no cell with code; what is left out takes its text along

    @property
    def shown(self) -> bool:
        """Whether there is anything to unfold."""
        found = any(piece.form != "markdown" for piece in self.pieces)
        return found or (self.is_text_alone and bool(self.pieces))


@dataclass
class Layout:
    """The parts of a report that come from the notebook."""

    pictures: list[Picture] = field(default_factory=list)
    undrawn: list[str] = field(default_factory=list)  # titles
    sample: list[Piece] = field(default_factory=list)
    topics: list[Topic] = field(default_factory=list)
    code: list[tuple[str, str]] = field(default_factory=list)  # heading above, source

    @property
    def shown(self) -> list[Topic]:
        """The topics that have anything to unfold."""
        return [topic for topic in self.topics if topic.shown]


def layout_of(notebook: Any, *, without_first: bool) -> Layout:
    """Return the parts of a report.

    Parameters
    ----------
    notebook : NotebookNode
        Executed.
    without_first : bool
        Whether to leave out the first cell's text, which the page's head replaces.
    """
    layout, heading = Layout(), ""
    topic = Topic("How it was run")
    layout.topics.append(topic)
    above: list[Piece] = []  # text that may belong to the next plot
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            if number == 0 and without_first:
                continue
            for level, title, text in _sections(cell.source):
                if level <= 2 and title:
                    topic = Topic(title)
                    layout.topics.append(topic)
                    above, heading = [], title
                    topic.pieces += [Piece("markdown", text)] if text else []
                else:
                    heading = title or heading
                    body = f"### {title}\n\n{text}" if title else text
                    above = [Piece("markdown", body)]
                    topic.pieces += above
        elif cell.cell_type == "code" and cell.source.strip():
            topic.is_text_alone = topic.is_text_alone and not cell.outputs
            layout.code.append((heading, cell.source))
            for output in cell.outputs:
                _place(output, layout, topic, above, heading)
            above = []
    return layout


def _sections(source: str) -> Iterator[tuple[int, str, str]]:
    """Yield level, title and text below each heading of a Markdown cell; level 9 without one."""
    heads = [] if "```" in source else list(_HEADING.finditer(source))
    first = heads[0].start() if heads else len(source)
    if source[:first].strip():
        yield 9, "", source[:first].strip()
    ends = [head.start() for head in heads[1:]] + [len(source)]
    for head, end in zip(heads, ends, strict=False):
        yield len(head.group(1)), head.group(2), source[head.end() : end].strip()


def _place(output: Any, layout: Layout, topic: Topic, above: list[Piece], heading: str) -> None:
    """Put one output of a cell where it belongs."""
    data = output.get("data", {})
    part = data.get(PART, {}).get("part")
    if RUN_MARK in data or part == "verdicts":
        return  # the head of the page says it
    picture = _picture(output, above, heading)
    if picture or PLOT_MARK in data:
        if picture:
            layout.pictures.append(picture)
        else:
            layout.undrawn.append(_title_above(above, heading)[0])
        for piece in above:  # its text goes along
            if piece in topic.pieces:
                topic.pieces.remove(piece)
        above.clear()
        return
    target = layout.sample if part == "sample" else topic.pieces
    target += _pieces(output)


def _picture(output: Any, above: list[Piece], heading: str) -> Picture | None:
    data, metadata = output.get("data", {}), output.get("metadata", {})
    if "image/png" not in data:
        return None
    own = metadata.get("image/png", {})
    title, expected = _title_above(above, heading)
    svg = data.get(SVG)
    is_svg = isinstance(svg, str)
    return Picture(
        title=title,
        text=expected,
        alt=str(own.get("alt", "a plot without description")),
        form="svg+xml" if is_svg else "png",
        image=b64encode(svg.encode()).decode()
        if is_svg
        else str(data["image/png"]).replace("\n", ""),
    )


def _title_above(above: list[Piece], heading: str) -> tuple[str, str]:
    """Return the title of a plot, and what to expect of it, from the text that stands above."""
    title, _, expected = (above[-1].content if above else "").partition("\n")
    return title.lstrip("# ") or heading, expected.strip()


def _pieces(output: Any) -> list[Piece]:
    """Return what an output shows, in its richest form."""
    kind = output.output_type
    if kind == "stream":
        return [Piece("text", str(output.text))]
    if kind == "error":
        return [Piece("error", "\n".join(output.traceback))]
    data = output.get("data", {})
    for form, name in (
        ("text/html", "html"),
        ("text/markdown", "markdown"),
        ("text/plain", "text"),
    ):
        if form in data:
            return [Piece(name, str(data[form]))]
    return []
