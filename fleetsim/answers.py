"""The tests as tables: one that reads without statistics, and one with everything."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fleetsim.audit import Audit, Group
from fleetsim.evidence import Test
from fleetsim.faults import FaultKind
from fleetsim.tables import Table, number

__all__ = ["answer", "answers_line", "answers_table", "audit_text", "tests_table"]

_ANSWERS = {"pass": "yes", "fail": "no", "inconclusive": "cannot tell"}


def answer(test: Test) -> str:
    """Return the answer to a test's question: yes, no, or cannot tell."""
    return _ANSWERS[test.verdict]


def answers_table(tests: Sequence[Test]) -> Table:
    """Return each test as a question, its answer, and what the answer is worth."""
    rows = tuple((test.question, answer(test), test.reach) for test in tests)
    header = ("question", "answer", "what this test would and would not have seen")
    return Table(header, rows, answers_line(tests))


def answers_line(tests: Sequence[Test]) -> str:
    """Return how many tests have each answer, and who stands out without being sure."""
    counts = [sum(test.verdict == verdict for test in tests) for verdict in _ANSWERS]
    line = f"{len(tests)} questions: {counts[0]} yes, {counts[1]} no, {counts[2]} cannot tell"
    suspects = [test.name for test in tests if test.suspect and test.verdict != "fail"]
    return f"{line}; suspicious without being sure: {', '.join(suspects)}" if suspects else line


def tests_table(tests: Sequence[Test]) -> Table:
    """Return each test with its hypothesis, its figures and its verdict."""
    rows = tuple(
        (
            test.name,
            test.null,
            number(test.statistic),
            number(test.df),
            number(test.n),
            number(test.p_value, 3),
            number(test.p_holm, 3),
            _estimate(test),
            number(test.detectable, 3),
            test.verdict,
            test.note or "",
        )
        for test in tests
    )
    header = (
        *("test", "hypothesis", "statistic", "df", "n", "p", "p (Holm)", "effect", "detectable"),
        *("verdict", "note"),
    )
    return Table(header, rows, fold="Every test with its figures")


def _estimate(test: Test) -> str:
    if test.estimate is None:
        return "–"
    if test.interval is None:
        return number(test.estimate)
    low, high = test.interval
    shown = "∞" if high is None or math.isinf(high) else number(high)
    return f"{number(test.estimate)} ({number(low)} to {shown})"


def audit_text(audit: Audit) -> str:
    """Return an audit as a terminal shows it."""
    n_batches = len(audit.batch_ids)
    parts = [
        f"{audit.data}: {n_batches} batch{'' if n_batches == 1 else 'es'}, {audit.lines} lines"
    ]
    rows = []
    for kind in FaultKind:
        first = next((str(fault) for fault in audit.faults if fault.kind is kind), "none found")
        rows.append((kind.words, str(audit.fault_counts.get(kind, 0)), first))
    parts.append(str(Table(("faults", "number", "the first"), tuple(rows))))
    parts += [_group_text(group) for group in audit.groups]
    if not audit.findings:
        parts.append(
            f"Nothing found. Of honest data, {100 * audit.alpha:g} % fail some test by chance."
        )
    else:
        parts.append("\n".join(["Findings:", *(f"- {finding}" for finding in audit.findings)]))
    return "\n\n".join(parts)


def _group_text(group: Group) -> str:
    header = ("test", "p", "p (Holm)", "verdict", "what it sees in 9 of 10 runs")
    rows = tuple(
        (
            test.name,
            number(test.p_value, 3),
            number(test.p_holm, 3),
            test.verdict,
            test.caught or (test.note or "").removeprefix("no test: "),
        )
        for test in group.tests
    )
    batches = f"{len(group.batch_ids)} batches" if len(group.batch_ids) > 1 else group.batch_ids[0]
    title = f"{batches}, {group.events} events of {group.drivers} drivers"
    return f"{title}\n{answers_line(group.tests)}\n\n{Table(header, rows)}"
