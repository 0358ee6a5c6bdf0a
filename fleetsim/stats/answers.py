"""The tests as tables: one that reads without statistics, and one with everything."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fleetsim.base.chances import p_figure
from fleetsim.base.tables import Table, number
from fleetsim.base.verdict import Verdict
from fleetsim.stats.judged import Test

_ANSWERS = {Verdict.PASS: "yes", Verdict.FAIL: "no", Verdict.INCONCLUSIVE: "cannot tell"}


def answer(test: Test) -> str:
    """Return the answer to a test's question: yes, no, or cannot tell."""
    return _ANSWERS[test.verdict]


def answers_table(tests: Sequence[Test]) -> Table:
    """Return each test as a question, its answer, and what the answer is worth."""
    rows = tuple((test.question, answer(test), _where(test) + test.reach) for test in tests)
    header = ("question", "answer", "what this test would and would not have seen")
    return Table(header, rows, answers_line(tests))


def _where(test: Test) -> str:
    """Return where the data depart most, as a sentence; "" where they do not."""
    return f"Most at {'; '.join(test.where[:3])}. " if test.where else ""


def answers_line(tests: Sequence[Test]) -> str:
    """Return how many tests have each answer, and who stands out without being sure."""
    counts = [sum(test.verdict == verdict for test in tests) for verdict in _ANSWERS]
    line = f"{len(tests)} questions: {counts[0]} yes, {counts[1]} no, {counts[2]} cannot tell"
    suspects = [test.name for test in tests if test.suspect and test.verdict != Verdict.FAIL]
    return f"{line}; suspect, but not rejected: {', '.join(suspects)}" if suspects else line


def tests_table(tests: Sequence[Test]) -> Table:
    """Return each test with its hypothesis, its figures and its verdict."""
    rows = tuple(
        (
            test.name,
            test.null,
            number(test.statistic),
            number(test.df),
            number(test.n),
            p_figure(test.p_value),
            p_figure(test.p_holm),
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
