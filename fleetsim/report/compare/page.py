"""A comparison as text for a terminal, and as a page to hand on."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

from fleetsim.base.storage import is_remote
from fleetsim.base.tables import Table, number
from fleetsim.experiment.record import overall_line
from fleetsim.experiment.results import one_line, own_folder
from fleetsim.report.compare.again import Again
from fleetsim.report.compare.compare import Comparison
from fleetsim.report.compare.rows import COSTS, DIFFERS, Row
from fleetsim.report.pages import render_page, write_page
from fleetsim.report.run_report import REPORT_HTML

_OUTCOMES = {DIFFERS: "shown", "same": "none"}
_WIDTH = 100
_AGAIN = "Measured again, in turn, on this machine"
_AGAIN_HEADER = ("median", "A", "B", "B / A", "Record of A", "Record of B")


def page_of(results: Path, comparison: Comparison) -> Path:
    """Return where the page of a comparison stands in a results folder."""
    names = (comparison.a.folder.name, comparison.b.folder.name)
    return own_folder(results / "compare", results) / f"{'-'.join(names)}.html"


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write the page of a comparison, whole or not at all.

    Raises
    ------
    InputError
        Where its folder cannot be made or written to.
    """
    write_page(path, render_comparison(comparison, path.parent))


def headline(comparison: Comparison) -> str:
    """Return the comparison in a sentence or two: what is worse, and what the tests show of it."""
    shown = [row.name for row in comparison.rows if row.outcome == DIFFERS]
    tests = sum(row.p_holm is not None for row in comparison.rows)
    many = "1 test" if tests == 1 else f"{tests} tests"
    worse = [row.name for row in comparison.rows if row.worse]
    worse += [f"the verdict of {row.criterion}" for row in comparison.verdicts if row.worse]
    if worse:
        first = f"B is worse in {', '.join(worse)}."
    elif comparison.findings:
        first = f"B is worse. {comparison.findings[0]}"
    else:
        first = "Nothing is worse in B."
    if not tests:
        return f"{first} No test could be made."
    if shown:
        return f"{first} B differs in {', '.join(shown)} ({many})."
    if comparison.findings:
        return f"{first} No difference is shown by {many}, so chance may explain it."
    return f"{first} No difference is shown by {many}."


def comparison_text(comparison: Comparison) -> str:
    """Return a comparison as a terminal shows it."""
    parts = [
        f"A: {one_line(comparison.a.name)}\nB: {one_line(comparison.b.name)}",
        _filled(headline(comparison)),
    ]
    rows = tuple(
        (d.group, d.name, _value(d.name, d.a), _value(d.name, d.b)) for d in comparison.differences
    )
    if rows:
        parts.append(str(Table(("differs in", "", "A", "B"), rows)))
    parts += [_filled(note) for note in comparison.notes]
    if comparison.again is not None:
        table = tuple(_medians(comparison, comparison.again))
        parts.append("\n".join([f"{_AGAIN}:", *map(_filled, comparison.notes_again)]))
        parts.append(str(Table(_AGAIN_HEADER, table)))
    header = ("compared", "difference", "p (adjusted)", "B / A, or B - A")
    table = tuple(
        (row.name, _OUTCOMES.get(row.outcome, row.outcome), number(row.p_holm, 3), row.effect)
        for row in comparison.rows
    )
    parts.append(str(Table(header, table)))
    parts.append("\n".join(_filled(f"- {row.name}: {row.sentence}") for row in comparison.rows))
    changes = tuple(
        (change.criterion, change.a or "–", change.b or "–", change.observed_a, change.observed_b)
        for change in comparison.verdicts
    )
    if changes:
        parts.append(str(Table(("criterion", "A", "B", "observed in A", "in B"), changes)))
    else:
        parts.append("No criterion that both runs judged changed its verdict.")
    if comparison.findings:
        worse = "\n".join(_filled(f"- {finding}") for finding in comparison.findings)
        parts.append(f"Worse in B:\n{worse}")
    return "\n\n".join(parts)


def render_comparison(comparison: Comparison, folder: Path | None = None) -> str:
    """Return the page of a comparison; `folder` is where it will stand, for its links."""
    sides = {"A, the baseline": comparison.a.folder, "B": comparison.b.folder}
    return render_page(
        "compare.html.j2",
        c=comparison,
        headline=headline(comparison),
        bars={row.name: bar for row in comparison.rows if (bar := _bar(row)) is not None},
        links={label: _link(run, folder) for label, run in sides.items()},
        sides=[
            ("A, the baseline", comparison.a, overall_line(comparison.a.record.criteria)),
            ("B", comparison.b, overall_line(comparison.b.record.criteria)),
        ],
        differences=[
            (d.group, d.name, _value(d.name, d.a), _value(d.name, d.b))
            for d in comparison.differences
        ],
        outcomes=_OUTCOMES,
        again=comparison.again and _again(comparison, comparison.again),
    )


def _again(comparison: Comparison, again: Again) -> dict[str, Any]:
    """Return what the page shows of figures that were measured again."""
    return {
        "title": _AGAIN,
        "notes": comparison.notes_again,
        "header": _AGAIN_HEADER,
        "medians": list(_medians(comparison, again)),
        "columns": ["Pair", "First", *(f"{q} of {x} [{u}]" for q, *_, u in COSTS for x in "AB")],
        "pairs": _pairs(again),
    }


def _medians(comparison: Comparison, again: Again) -> Iterator[tuple[str, ...]]:
    """Yield what was measured again: medians, the ratio, and the medians of the records."""
    effects = {row.name: row.effect for row in comparison.rows}
    records = [run.record.measurements for run in (comparison.a, comparison.b)]
    for name, key, _, factor, unit in COSTS:
        sides = [*again.values(key), *(getattr(record, key) for record in records)]
        figures = [f"{factor * median(side):.4g} {unit}" for side in sides]
        yield (name, *figures[:2], effects[name], *figures[2:])


def _pairs(again: Again) -> list[tuple[str, ...]]:
    """Return the figures of each pair: its number, who came first, and A and B of each quantity."""
    columns = [
        [f"{factor * value:.4g}" for value in side]
        for _, key, _, factor, _ in COSTS
        for side in again.values(key)
    ]
    firsts = again.order[::2]
    return [
        (str(place + 1), first, *(column[place] for column in columns))
        for place, first in enumerate(firsts)
    ]


def _link(run: Path, folder: Path | None) -> str:
    """Return the address of a run's page from a folder; "" where it has none there."""
    page = run / REPORT_HTML
    if folder is None or is_remote(run) or is_remote(folder) or not page.is_file():
        return ""
    return quote(os.path.relpath(page.resolve(), folder.resolve()))


@dataclass(frozen=True)
class _Bar:
    """A ratio with its interval on an axis from a half to twice, in % of its length."""

    left: float
    width: float
    at: float


def _bar(row: Row) -> _Bar | None:
    """Return the bar of a row that compares by a ratio; None for others."""
    result = row.result
    if result is None or not row.effect or " times " not in row.effect:
        return None
    if result.estimate is None or result.interval is None:
        return None

    def place(ratio: float) -> float:
        if ratio <= 0:
            return 0.0
        return round(min(max(50 + 50 * math.log2(ratio), 0), 100), 1)

    low, high = (place(end) for end in result.interval)
    return _Bar(left=low, width=round(high - low, 1), at=place(result.estimate))


def _value(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, dict):
        return one_line(", ".join(f"{name} {share}" for name, share in value.items()))
    if isinstance(value, float):
        return f"{value:.12g}"
    return one_line(str(value), 13 if name.endswith("sha256") else 80)


def _filled(text: str) -> str:
    """Return lines of 100 characters; a number keeps its per cent sign."""
    space = "\N{NO-BREAK SPACE}"
    kept = text.replace(" %", f"{space}%").replace("p = ", f"p{space}={space}")
    return textwrap.fill(kept, _WIDTH, subsequent_indent="  ").replace("\N{NO-BREAK SPACE}", " ")
