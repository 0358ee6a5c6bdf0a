"""An audit as a page to hand on: the answer, each "no" with where, pictures, then the figures."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetsim.base.tables import counted
from fleetsim.base.verdict import Verdict
from fleetsim.experiment.figures import (
    draw_counts,
    draw_gaps,
    draw_over_interval,
    draw_types,
    render,
    titled_figure,
)
from fleetsim.generate.config import Config
from fleetsim.report.pages import render_page, write_page
from fleetsim.stats.answers import answer, tests_table
from fleetsim.stats.judged import Test
from fleetsim.tally.audit import Audit, Group
from fleetsim.tally.faults import faults_table

_SIZE = 8.0, 3.4  # inches


@dataclass(frozen=True)
class _Shown:
    """One plot: title, alt text, and the SVG in base 64."""

    title: str
    alt: str
    svg: str


def write_audit_page(path: Path, audit: Audit, config: Config) -> None:
    """Write the page of an audit, whole or not at all.

    Raises
    ------
    InputError
        Where its folder cannot be made or written to.
    """
    write_page(path, render_audit(audit, config))


def render_audit(audit: Audit, config: Config) -> str:
    """Return the page of an audit."""
    tests = [test for group in audit.groups for test in group.tests]
    return render_page(
        "audit.html.j2",
        audit=audit,
        headline=headline(audit),
        faults=faults_table(audit.faults, audit.fault_counts, audit.examined),
        refuted=_by_place([test for test in tests if test.verdict == Verdict.FAIL]),
        suspects=[t for t in tests if t.suspect and t.verdict != Verdict.FAIL],
        groups=[
            (group, list(_pictures(group, config)), tests_table(group.tests))
            for group in audit.groups
        ],
        answer=answer,
    )


def _by_place(tests: Sequence[Test]) -> list[tuple[list[str], tuple[str, ...]]]:
    """Return the questions that have a no, together where they depart at the same parts."""
    found: dict[tuple[str, ...], list[str]] = {}
    for test in tests:
        found.setdefault(tuple(test.where), []).append(test.question)
    return [(questions, where) for where, questions in found.items()]


def headline(audit: Audit) -> str:
    """Return an audit in a sentence or two."""
    looked = f"{counted(len(audit.batch_ids))}, {audit.lines} lines"
    tests = [test for group in audit.groups for test in group.tests]
    failed = sum(test.verdict == Verdict.FAIL for test in tests)
    faults = sum(audit.fault_counts.values())
    if audit.findings:
        parts = [f"{faults} faults in the files" if faults else ""]
        parts.append(f"{failed} of {len(tests)} tests say no" if failed else "")
        return f"{looked}: {' and '.join(filter(None, parts)) or 'something is wrong'}."
    made = sum(test.p_value is not None for test in tests)
    return f"{looked}: no fault was found, and none of {made} tests says no."


def _pictures(group: Group, config: Config) -> Iterator[_Shown]:
    """Draw what the tests of a group look at."""
    sample = group.sample
    if sample is None or not sample.n_events:
        return
    yield _drawn("Events over the interval", lambda ax: draw_over_interval(ax, sample))
    yield _drawn("Event types", lambda ax: draw_types(ax, sample, config))
    if sample.has_roster:
        yield _drawn("Events of each driver", lambda ax: draw_counts(ax, sample, config))
    yield _drawn("Gaps between a driver's events", lambda ax: draw_gaps(ax, sample))


def _drawn(title: str, draw: Callable[[Any], str]) -> _Shown:
    figure, alt = titled_figure(title, _SIZE, lambda figure: draw(figure.subplots()))
    return _Shown(title, alt, base64.b64encode(render(figure)["svg"]).decode())
