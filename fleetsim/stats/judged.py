"""The tests of a battery made, judged together, and as a record holds them.

`run_battery` makes all tests that the sample allows, adjusts the p-values together (Holm decides,
Benjamini-Hochberg lists suspects), and says beside each result the smallest effect that it would
have caught with 90 % power, computed and not simulated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from fleetsim.base.verdict import Verdict
from fleetsim.stats.adjust import benjamini_hochberg, holm
from fleetsim.stats.battery import Entry, EntryKind, entries
from fleetsim.stats.defects import defect_entries
from fleetsim.stats.effects import Law
from fleetsim.stats.result import TestResult
from fleetsim.stats.sample import Sample
from fleetsim.stats.where import Names, Place, places_of, sentence_of


@dataclass(frozen=True)
class Made:
    """One test that was made: its entry, what it looked at, and what it found."""

    entry: Entry
    sample: Sample
    result: TestResult


@dataclass(frozen=True)
class JudgedTest:
    """One test of one run.

    Attributes
    ----------
    entry : Entry
    result : TestResult
    p_holm : float or None
        Adjusted for the family; None outside it or without a p-value.
    p_bh : float or None
        Benjamini and Hochberg's; below alpha the test is a suspect.
    verdict : Verdict
        Inconclusive where there is no p-value, or an equivalence is not shown.
    suspect : bool
    effect : float or None
        See `Entry`; at the level alpha / (size of the family), which Holm's rule guarantees.
    caught : str
        What it catches in nine runs of ten, a phrase with the effect; empty where none is named.
    sentence : str
        What this test would and would not have seen.
    places : tuple of Place
        Where the data depart most, of a test that fails or is a suspect.
    """

    entry: Entry
    result: TestResult
    p_holm: float | None
    p_bh: float | None
    verdict: Verdict
    suspect: bool
    effect: float | None
    caught: str
    sentence: str
    places: tuple[Place, ...] = ()


def make_tests(sample: Sample, law: Law) -> list[Made]:
    """Make all tests that a sample has batches enough for, in the order of `BATTERY`.

    Where a ledger says which lines have a defect, a test of the number of each kind follows.

    A line counts in all of them or in none: it does where its six fields could be read and name a
    known driver and type. Where no line does although there are some, no test is made; where files
    could not be read, none that counts events or drivers is.

    Parameters
    ----------
    sample : Sample
    law : Law
        What the sample is said to follow.

    Raises
    ------
    ValueError
        Where the law has another number of types than the sample.
    """
    if len(law.weights) != sample.type_counts.shape[1]:
        raise ValueError(
            f"the law has {len(law.weights)} types, the sample {sample.type_counts.shape[1]}"
        )
    why_not = _nothing_to_test(sample)
    return [
        Made(entry, sample, _refused(entry, sample, why_not) or entry.make(sample, law))
        for entry in (*entries(sample.n_batches), *defect_entries(sample, law))
        if sample.has_roster or not entry.roster
    ]


def _nothing_to_test(sample: Sample) -> str | None:
    """Return why a sample says nothing at all, or None: no data, no test."""
    if sample.n_events:
        return None
    if sample.unplaced:
        return f"none of {sample.unplaced} lines could be read as an event of a known driver"
    return sample.unread or None


def _refused(entry: Entry, sample: Sample, why_not: str | None) -> TestResult | None:
    """Return the result of a test that the data do not allow; None where they do."""
    why = why_not or (sample.unread if entry.roster else None)
    if not why:
        return None
    return TestResult(entry.name, n=sample.n_events, note=f"no test: {why}")


def judge_tests(made: Sequence[Made], law: Law, *, alpha: float = 0.05) -> list[JudgedTest]:
    """Adjust the p-values of one family of tests together, and say what each has seen.

    Parameters
    ----------
    made : sequence of Made
        Of one sample or of several.
    law : Law
    alpha : float
        Level of the whole family of tests, between 0 and 1.

    Returns
    -------
    list of JudgedTest
        In the order given. A test that cannot be made is inconclusive, never a pass.

    Raises
    ------
    ValueError
        Where alpha is out of its range.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}, must be > 0 and < 1")
    family = [
        (number, test.result.p_value)
        for number, test in enumerate(made)
        if test.entry.kind is EntryKind.EVIDENCE and test.result.p_value is not None
    ]
    numbers, p_values = [number for number, _ in family], [p for _, p in family]
    p_holm = dict(zip(numbers, holm(p_values).tolist(), strict=True))
    p_bh = dict(zip(numbers, benjamini_hochberg(p_values).tolist(), strict=True))
    level = alpha / max(1, len(family))
    rows = []
    for number, test in enumerate(made):
        entry, result, effect = test.entry, test.result, None
        if result.p_value is not None:
            own = level if entry.kind is EntryKind.EVIDENCE else alpha
            effect = entry.effect(test.sample, law, result, own)
        verdict = _verdict(entry, result, p_holm.get(number), alpha)
        suspect = p_bh.get(number, 1.0) < alpha
        departs = suspect or verdict == Verdict.FAIL
        rows.append(
            JudgedTest(
                entry=entry,
                result=result,
                p_holm=p_holm.get(number),
                p_bh=p_bh.get(number),
                verdict=verdict,
                suspect=suspect,
                effect=effect,
                caught="" if result.p_value is None else _caught(entry, law, effect),
                sentence=_sentence(entry, law, result, effect),
                places=places_of(entry.name, test.sample, law) if departs else (),
            )
        )
    return rows


def run_battery(sample: Sample, law: Law, *, alpha: float = 0.05) -> list[JudgedTest]:
    """Make and judge all tests that a sample has batches enough for.

    See `make_tests` and `judge_tests`, which do it in two steps.
    """
    return judge_tests(make_tests(sample, law), law, alpha=alpha)


def _verdict(entry: Entry, result: TestResult, p_holm: float | None, alpha: float) -> Verdict:
    if result.p_value is None:
        return Verdict.INCONCLUSIVE
    if entry.kind is EntryKind.EQUIVALENCE:
        return Verdict.PASS if result.p_value < alpha else Verdict.INCONCLUSIVE
    p = result.p_value if entry.kind is EntryKind.STRUCTURE else p_holm
    return Verdict.FAIL if p is not None and p < alpha else Verdict.PASS


def _caught(entry: Entry, law: Law, effect: float | None) -> str:
    """Return in a phrase what is caught, or shown, in nine runs of ten; empty where nothing is."""
    if effect is not None:
        return entry.sees.format(effect * entry.scale(law)).replace("%", " %")
    return "" if "{" in entry.sees else entry.sees


def _sentence(entry: Entry, law: Law, result: TestResult, effect: float | None) -> str:
    """Return what the test would and would not have seen."""
    if result.p_value is None:
        why = (result.note or "it does not apply").removeprefix("no test: ")
        return f"This test was not made: {why}."
    caught = _caught(entry, law, effect)
    if caught and effect is not None:
        how = "shows" if entry.kind is EntryKind.EQUIVALENCE else "catches"
        sees = f"In 9 of 10 runs this test {how} {caught}"
    elif caught:
        sees = f"This test catches {caught}"
    elif entry.kind is EntryKind.EQUIVALENCE:
        sees = (
            "The data are too few to show equivalence in 9 of 10 runs, even without any difference"
        )
    else:
        sees = "No size of fault can be named that this test catches in 9 of 10 runs"
    return f"{sees}. It does not see {entry.misses}."


class Test(msgspec.Struct, frozen=True, kw_only=True):
    """One test as the record holds it; its terms are those of `battery.Entry` and `JudgedTest`.

    `p_holm` is None where the test is outside the family. `detectable` is the smallest effect that
    it would have caught with 90 % power at the level alpha / (size of the family), in the unit of
    the entry's `effect`; None where no single number says it. `caught` puts it in words, and
    `reach` says in sentences what the test would and would not have seen. `suspect` is the verdict
    of Benjamini and Hochberg's procedure. `where` names the parts of the data that depart most, of
    a test that fails or is a suspect.
    """

    __test__ = False  # not a test case of pytest

    name: str
    question: str
    kind: str
    verdict: Verdict
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
    where: list[str] = []


def record_test(row: JudgedTest, names: Names | None = None) -> Test:
    """Return a judged test as a record holds it, with the names of where the data depart most."""
    result, called = row.result, names or Names()
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
        where=[sentence_of(place, called) for place in row.places],
    )


def _finite(value: float | None) -> float | None:
    """Keep what strict JSON can write: an infinite statistic has p = 0 and a note that says why."""
    return value if value is None or math.isfinite(value) else None
