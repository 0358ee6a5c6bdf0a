"""A comparison as text for a terminal, and as a page to hand on."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from fleetsim.base.tables import Table, number
from fleetsim.experiment.record import overall_line
from fleetsim.experiment.results import one_line, own_folder
from fleetsim.report.compare.compare import Comparison
from fleetsim.report.compare.rows import DIFFERS
from fleetsim.report.pages import render_page, write_page

_OUTCOMES = {DIFFERS: "shown", "same": "none"}
_WIDTH = 100


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
    write_page(path, render_comparison(comparison))


def headline(comparison: Comparison) -> str:
    """Return the comparison in one sentence."""
    shown = [row.name for row in comparison.rows if row.outcome == DIFFERS]
    tests = sum(row.p_holm is not None for row in comparison.rows)
    if not tests:
        text = "No test could be made"
    elif shown:
        text = f"Shown to differ: {', '.join(shown)} (of {tests} tests)"
    else:
        text = f"None of {tests} tests shows a difference"
    n = len(comparison.findings)
    worse = (
        "nothing is worse in B"
        if not n
        else f"{n} {'thing is' if n == 1 else 'things are'} worse in B"
    )
    return f"{text}; {worse}."


def comparison_text(comparison: Comparison) -> str:
    """Return a comparison as a terminal shows it."""
    parts = [
        f"A: {one_line(comparison.a.name)}\nB: {one_line(comparison.b.name)}",
        headline(comparison),
    ]
    rows = tuple(
        (d.group, d.name, _value(d.name, d.a), _value(d.name, d.b)) for d in comparison.differences
    )
    if rows:
        parts.append(str(Table(("differs in", "", "A", "B"), rows)))
    parts += [_filled(note) for note in comparison.notes]
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


def render_comparison(comparison: Comparison) -> str:
    """Return the page of a comparison."""
    return render_page(
        "compare.html.j2",
        c=comparison,
        headline=headline(comparison),
        sides=[
            ("A, the baseline", comparison.a, overall_line(comparison.a.record.criteria)),
            ("B", comparison.b, overall_line(comparison.b.record.criteria)),
        ],
        differences=[
            (d.group, d.name, _value(d.name, d.a), _value(d.name, d.b))
            for d in comparison.differences
        ],
        outcomes=_OUTCOMES,
    )


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
