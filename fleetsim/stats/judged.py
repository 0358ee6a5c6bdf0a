"""TODO."""

from __future__ import annotations

import math

import msgspec

from fleetsim.stats.battery import Row


class Test(msgspec.Struct, frozen=True, kw_only=True):
    """One test as the record holds it; its terms are those of `battery.Entry` and `battery.Row`.

    `p_holm` is None where the test is outside the family. `detectable` is the smallest effect that
    it would have caught with 90 % power at the level alpha / (size of the family), in the unit of
    the entry's `effect`; None where no single number says it. `caught` puts it in words, and
    `reach` says in sentences what the test would and would not have seen. `suspect` is the verdict
    of Benjamini and Hochberg's procedure.
    """

    __test__ = False  # not a test case of pytest

    name: str
    question: str
    kind: str
    verdict: str
    suspect: bool
    statistic: float | None
    p_value: float | None
    p_holm: float | None
    df: int | None
    n: int | None
    estimate: float | None
    interval: tuple[float | None, float | None] | None
    detectable: float | None
    null: str
    caught: str
    reach: str
    note: str | None


def record_test(row: Row) -> Test:
    """Return a judged test as a record holds it."""
    result = row.result
    return Test(
        name=row.entry.name,
        question=row.entry.question,
        kind=row.entry.kind.value,
        verdict=row.verdict,
        suspect=row.suspect,
        statistic=_finite(result.statistic),
        p_value=result.p_value,
        p_holm=row.p_holm,
        df=result.df,
        n=result.n,
        estimate=_finite(result.estimate),
        interval=result.interval and (_finite(result.interval[0]), _finite(result.interval[1])),
        detectable=_finite(row.effect),
        null=result.null or row.entry.null,
        caught=row.caught,
        reach=row.sentence,
        note=result.note,
    )


def _finite(value: float | None) -> float | None:
    """Keep what strict JSON can write: an infinite statistic has p = 0 and a note that says why."""
    return value if value is None or math.isfinite(value) else None
