"""Injected defects: how many of each kind there are, held to their law.

One draw a record decides which defect it has, or none. So the kinds of n records are multinomial,
and what has no defect is a Poisson sample of its own: clean records have the law of a thinned
count. Copies leave their original clean; late records leave their batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

from fleetsim.stats import power
from fleetsim.stats.battery import Entry
from fleetsim.stats.counts import binomial_count_test
from fleetsim.stats.effects import Law
from fleetsim.stats.result import TestResult
from fleetsim.stats.sample import LATE, DefectCounts, Sample


def added(counts: list[DefectCounts]) -> DefectCounts:
    """Return the defects of several groups of batches together."""
    kinds = dict.fromkeys(kind for row in counts for kind in row.found)
    return DefectCounts(
        {kind: sum(row.found.get(kind, 0) for row in counts) for kind in kinds},
        sum(row.records for row in counts),
        sum(row.seen for row in counts),
        next((row.unusable for row in counts if row.unusable), ""),
    )


def defect_test(counts: DefectCounts, kind: str, rates: Mapping[str, float]) -> TestResult:
    """Return the exact two-sided binomial test of the number of one kind.

    Parameters
    ----------
    counts : DefectCounts
    kind : str
    rates : mapping
        The configured rate of each kind.
    """
    count, n, chance = counts.of(kind, rates)
    why = counts.unusable
    if not why and n == 0:
        why = "no record"
        if kind == LATE:
            why = "the batches that bring late records are not at hand"
    if why:
        return TestResult(f"defects_{kind}", n=n, note=f"no test: {why}")
    return binomial_count_test(count, n, chance)


def defect_entries(sample: Sample, law: Law) -> tuple[Entry, ...]:
    """Return one test for each kind that the law has, or that was found; none without a ledger.

    As tests of several batches are left out where there is one, that of late records is where no
    batch is at hand that would bring those of another one.
    """
    if sample.defects is None:
        return ()
    kinds = [kind for kind, rate in law.defects.items() if rate > 0]
    if LATE in kinds and not sample.defects.seen and not sample.defects.unusable:
        kinds.remove(LATE)
    kinds += [kind for kind, n in sample.defects.found.items() if n and kind not in kinds]
    return tuple(defect_entry(kind) for kind in kinds)


@lru_cache(maxsize=64)
def defect_entry(kind: str) -> Entry:
    """Return the test of one kind as an entry of the battery."""
    return Entry(
        name=f"defects_{kind}",
        question=f"Are there as many defects of the kind {kind} as the configuration says?",
        null=f"each record has the defect {kind} with the configured rate, independently",
        make=_made(kind),
        continuous=False,
        effect=_effect(kind),
        sees=f"a rate of {kind} {{:.2%}} too high",
        misses="a smaller shift, or which records are struck",
    )


def _made(kind: str) -> Callable[[Sample, Law], TestResult]:
    def make(sample: Sample, law: Law) -> TestResult:
        assert sample.defects is not None  # noqa: S101 - or there is no such entry
        return defect_test(sample.defects, kind, law.defects)

    return make


def _effect(kind: str) -> Callable[[Sample, Law, TestResult, float], float | None]:
    def effect(sample: Sample, law: Law, result: TestResult, level: float) -> float | None:
        assert sample.defects is not None  # noqa: S101 - or there is no such entry
        _, n, chance = sample.defects.of(kind, law.defects)
        return power.detectable_share_shift(n, chance, level)

    return effect
