"""What a criterion makes of a generator that is off, and where it sees nothing or decides nothing.

Each kind of criterion that claims a law has its standard alternatives, the truths that it is held
against: `RATES`, `POINTS`, `RATIOS` and `VARIATIONS` are the one place for them. Everything is
calculated from the rule that judges, before anything runs.

In Holm's procedure a test decides at alpha / family or, where others reject before it, at a larger
level. The probabilities here are those of the first step, so under an alternative a criterion fails
at least so often.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded where they are used

from fleetsim.base.chances import percent
from fleetsim.experiment.expectation import Expectation, tolerance_limits
from fleetsim.generate.model import type_law
from fleetsim.stats.battery import family_size
from fleetsim.stats.power import (
    POWER,
    Outcome,
    category_outcome,
    category_power,
    dispersion_outcome,
    dispersion_power,
    dispersion_reach,
    poisson_acceptance,
    variation_limits,
    variation_outcome,
)

#: True rate over configured rate.
RATES = (1.02, 0.98, 1.05, 0.95)
#: How far the share of the most frequent type is off, at the expense of the second (a fraction).
POINTS = (0.02, 0.05)
#: True variance over mean of the counts of many seeds.
RATIOS = (1.10, 1.25, 0.90, 0.80)
#: True coefficient of variation of the run time over the limit that is claimed.
VARIATIONS = (0.5, 1.5)

GATE_LEVEL = 1e-6  # hard limit of gates: one false alarm in a million
BLIND = 0.99  # limits that let each of RATES[:2] pass so often are nearly blind (docs/decisions.md)
UNDECIDED = 0.1  # more runs than this end without a verdict though the truth is clear
MOST = 10**6  # batches and replicates that are gone through to say how many would do
MOST_REPEATS = 10**4
_MOST_TYPES = 1000  # for more, shares are not worth a sample of points


class Power(msgspec.Struct, frozen=True, kw_only=True):
    """What a criterion makes of one alternative, its test at one level.

    `level` and `power`, the probability that the test alone rejects, are None where no test
    decides. `fails` and `inconclusive` are those of the whole criterion; the rest passes.
    """

    alternative: str
    level: float | None
    power: float | None
    fails: float
    inconclusive: float


@dataclass(frozen=True)
class Prospect:
    """What passes, in a sentence; what becomes of alternatives; and what to beware of."""

    accepts: str = ""
    power: tuple[Power, ...] = ()
    warnings: tuple[str, ...] = ()


# --- counts --------------------------------------------------------------------------------------


def count_law_prospect(expectation: Expectation, tolerance: float) -> Prospect:
    """Return the prospect of a count that has to keep a tolerance and the exact Poisson test.

    Exact. A count that leaves either fails; none is inconclusive.
    """
    e, mean = expectation, expectation.mean
    if mean <= 0:
        return Prospect()
    low, high = (float(limit) for limit in tolerance_limits(mean, tolerance))
    least, largest = (float(edge) for edge in poisson_acceptance(mean, e.level))
    accepts = (
        f"where {mean:.12g} events are expected, "
        f"{_whole(max(low, least), min(high, largest))} pass: the tolerance allows {low:.12g} to "
        f"{high:.12g}, the exact test keeps {least:.0f} to {largest:.0f} at the level {e.level:.2g}"
    )
    power = tuple(
        Power(
            alternative=_rate_text(ratio),
            level=level,
            power=e.count_deviates(level=level, ratio=ratio),
            fails=e.count_deviates(tolerance, level, ratio=ratio),
            inconclusive=0.0,
        )
        for ratio in RATES
        for level in (e.level, GATE_LEVEL)
    )
    caught = e.count_deviates(level=e.level, ratio=RATES[0])
    beside = (
        f"The exact test beside it catches {_a(RATES[0])} with probability {percent(caught)} at "
        f"the level {e.level:.2g}{_more_batches(e, caught)}."
    )
    return Prospect(accepts, power, _blind_tolerance(e, tolerance, beside))


def size_law_prospect(expectation: Expectation, tolerance: float) -> Prospect:
    """Return the prospect of a size that has to keep a tolerance alone. Exact.

    A line is taken to have its mean length, as the criterion's probability takes it.
    """
    if expectation.mean <= 0:
        return Prospect()
    low, high = (float(limit) for limit in tolerance_limits(expectation.mean, tolerance))
    accepts = (
        f"where {expectation.mean:.12g} events are expected, the bytes of {_whole(low, high)} pass"
    )
    power = tuple(
        _limits_power(_rate_text(ratio), expectation.count_deviates(tolerance, ratio=ratio))
        for ratio in RATES
    )
    return Prospect(accepts, power, _blind_tolerance(expectation, tolerance, _NO_TEST))


def count_range_prospect(
    expectation: Expectation, low: float, high: float, stated: str = ""
) -> Prospect:
    """Return the prospect of a count that has to lie in a stated range [events]. Exact.

    `stated` is the range as the criterion words it, where it is not one of counts.
    """
    e = expectation
    if e.mean <= 0:
        return Prospect()
    power = tuple(
        _limits_power(_rate_text(ratio), e.count_outside(low, high, ratio=ratio)) for ratio in RATES
    )
    below, above = (e.mean - low) / e.standard_deviation, (high - e.mean) / e.standard_deviation
    counts = events_text(low, high) + (f" ({stated})" if stated else "")
    reach = (
        f"{counts} reach {_times(below)} standard deviations below the mean and "
        f"{_times(above)} above it: they alone pass"
        if math.isfinite(high)
        else f"{counts} reach {_times(below)} standard deviations below the mean: they alone pass"
    )
    passes = {ratio: 1 - e.count_outside(low, high, ratio=ratio) for ratio in RATES}
    return Prospect(f"{counts} pass", power, _blind(reach, passes, _NO_TEST))


_NO_TEST = "No test of the count belongs to this criterion."


def _limits_power(alternative: str, fails: float) -> Power:
    return Power(alternative=alternative, level=None, power=None, fails=fails, inconclusive=0.0)


def _blind_tolerance(e: Expectation, tolerance: float, beside: str) -> tuple[str, ...]:
    # About what the active companies make, so their own number adds nothing to the deviation.
    reach = f"±{100 * tolerance:g} % is {_times(tolerance * math.sqrt(e.mean))} standard deviations"
    passes = {ratio: 1 - e.count_deviates(tolerance, ratio=ratio) for ratio in RATES}
    return _blind(f"{reach}: it alone passes", passes, beside)


def _blind(reach: str, passes: dict[float, float], beside: str) -> tuple[str, ...]:
    """Warn where limits pass a small error of the rate, either way, almost surely."""
    if min(passes[RATES[0]], passes[RATES[1]]) < BLIND:
        return ()
    high, low = RATES[0], RATES[-1]
    return (
        f"nearly blind; {reach} {_a(high)} with probability {percent(passes[high])} and "
        f"one {_off(low)} with {percent(passes[low])}. {beside}",
    )


def _more_batches(e: Expectation, caught: float) -> str:
    if caught >= POWER:
        return ""

    def enough(batches: int) -> bool:
        more = _of_batches(e, batches)
        return more.count_deviates(level=more.level, ratio=RATES[0]) >= POWER

    return (
        f"; {_so_many(enough, e.batches, MOST, 'batches')} would make that {percent(POWER)} or more"
    )


def _of_batches(e: Expectation, batches: int) -> Expectation:
    """Return what is expected of another number of batches.

    Several batches have tests of their own, with which the first step's level is smaller.
    """
    family = e.family + family_size(batches) - family_size(e.batches)
    return replace(e, batches=batches, family=family)


def _off(ratio: float) -> str:
    return f"{100 * abs(ratio - 1):.3g} % too {'high' if ratio > 1 else 'low'}"


def _rate_text(ratio: float) -> str:
    return f"rate {_off(ratio)}"


def _a(ratio: float) -> str:
    return f"a {_rate_text(ratio)}"


# --- types ---------------------------------------------------------------------------------------


def type_prospect(expectation: Expectation, margin: float) -> Prospect:
    """Return the prospect of types that have to keep a margin and the chi-square test.

    Asymptotic, at the expected number of events. Shares that move between the two most frequent
    types are the hardest to see: the noncentrality is n d**2 (1/p + 1/q).
    """
    e, n = expectation, expectation.mean
    ranked = _ranked_types(e)
    if not 2 <= len(ranked) <= _MOST_TYPES or n < 1:
        return Prospect()
    weights = np.array([p for _, p in ranked])

    def outcome(points: float, level: float, events: float) -> Outcome:
        return category_outcome(events, weights, _moved(weights, points), margin, level)

    half = float(scipy.stats.norm.isf(0.05) * np.sqrt(weights * (1 - weights) / n).max())
    interval = f"±{100 * half:.3g} of its 90 % interval"
    accepts = f"at {n:.12g} events " + (
        f"a share passes up to about {100 * (margin - half):.3g} points from its weight "
        f"({100 * margin:.3g} are allowed, less the {interval}), where chi-square does not reject"
        if half < margin
        else f"hardly a share passes: {100 * margin:.3g} points are allowed, less the {interval}"
    )
    power = []
    for points, shares, words in _type_alternatives(ranked):
        for level in (e.level, GATE_LEVEL):
            _, fails, inconclusive = outcome(points, level, n)
            power.append(
                Power(
                    alternative=words,
                    level=level,
                    power=category_power(n, weights, shares, level),
                    fails=fails,
                    inconclusive=inconclusive,
                )
            )
    lost = outcome(0.0, e.level, n).inconclusive
    warnings: tuple[str, ...] = ()
    if lost > UNDECIDED:
        enough = _so_many(
            lambda b: (
                outcome(0.0, _of_batches(e, b).level, n / e.batches * b).inconclusive <= UNDECIDED
            ),
            e.batches,
            MOST,
            "batches",
        )
        warnings = (
            f"undecidable with so few events; the 90 % intervals reach up to {100 * half:.2g} "
            f"points at {n:.12g} events and {100 * margin:.3g} are allowed, so a fault-free run "
            f"is inconclusive with probability {percent(lost)}; {enough} would make that "
            f"{percent(UNDECIDED)} or less.",
        )
    return Prospect(accepts, tuple(power), warnings)


def _ranked_types(e: Expectation) -> list[tuple[str, float]]:
    """Return the types that occur with their weights, the most frequent first."""
    law = type_law(e.config)
    pairs = zip(law.names, law.probabilities, strict=True)
    return sorted((pair for pair in pairs if pair[1] > 0), key=lambda pair: (-pair[1], pair[0]))


def _type_alternatives(
    ranked: list[tuple[str, float]],
) -> Iterator[tuple[float, npt.NDArray[np.float64], str]]:
    """Yield the possible alternatives of two or more types: points, shares, and in words."""
    (first, _), (second, _) = ranked[:2]
    for points in POINTS:
        shares = _moved(np.array([p for _, p in ranked]), points)
        if shares.min() > 0 and shares.max() < 1:
            yield points, shares, f"{first} +{100 * points:g} points, {second} -{100 * points:g}"


def battery_prospect(expectation: Expectation) -> Prospect:
    """Return the prospect of the whole battery, none of whose tests may reject.

    For each alternative the power of the test that is there for it; other tests may see it too, so
    the criterion fails at least that often.
    """
    e, n = expectation, expectation.mean
    if n < 1:
        return Prospect()
    power = {
        _rate_text(ratio): [
            (level, e.count_deviates(level=level, ratio=ratio)) for level in (e.level, GATE_LEVEL)
        ]
        for ratio in RATES
    }
    ranked = _ranked_types(e)
    if len(ranked) > 1:
        weights = np.array([p for _, p in ranked])
        for _, shares, words in _type_alternatives(ranked):
            power[words] = [
                (level, category_power(n, weights, shares, level))
                for level in (e.level, GATE_LEVEL)
            ]
    accepts = (
        f"none of {e.family} tests may reject, each at {e.level:.2g} or later (Holm); shown is the "
        "test that is there for the fault, others may see it too"
    )
    rows = (
        Power(alternative=words, level=level, power=caught, fails=caught, inconclusive=0.0)
        for words, entries in power.items()
        for level, caught in entries
    )
    return Prospect(accepts, tuple(rows))


def _moved(weights: npt.NDArray[np.float64], points: float) -> npt.NDArray[np.float64]:
    """Return shares whose first is off at the expense of the second."""
    shares = weights.copy()
    shares[0] += points
    shares[1] -= points
    return shares


# --- spread and variation ------------------------------------------------------------------------


def spread_prospect(
    expectation: Expectation, low: float, high: float, confidence: float = 0.95
) -> Prospect:
    """Return the prospect of counts over seeds whose variance has to be their mean.

    Asymptotic, Fisher's D as ratio * chi-square. The interval of variance/mean decides, so the
    level is 1 - confidence, whatever the family of tests.
    """
    n, df = expectation.replicates, expectation.replicates - 1
    if expectation.mean <= 0 or df < 1:
        return Prospect()
    own = round(1 - confidence, 12)
    lower, upper = scipy.stats.chi2.ppf(own / 2, df), scipy.stats.chi2.isf(own / 2, df)
    least, most = max(lower, low * upper) / df, min(upper, high * lower) / df
    accepts = (
        f"over {n} seeds an observed variance/mean from {least:.3f} to {most:.3f} passes"
        if least < most
        else f"over {n} seeds no observed variance/mean passes"
    )
    accepts += (
        f"; that of a fault-free generator lies within "
        f"{100 * dispersion_reach(df, confidence):.2g} % "
        f"of 1 with probability {confidence:g}"
    )
    power = []
    for ratio in RATIOS:
        for level in (own, GATE_LEVEL):
            _, fails, inconclusive = dispersion_outcome(df, ratio, low, high, 1 - level)
            power.append(
                Power(
                    alternative=f"variance/mean {ratio:.2f}",
                    level=level,
                    power=dispersion_power(df, ratio, level),
                    fails=fails,
                    inconclusive=inconclusive,
                )
            )
    lost = dispersion_outcome(df, 1.0, low, high, confidence).inconclusive
    warnings: tuple[str, ...] = ()
    if lost > UNDECIDED:
        enough = _so_many(
            lambda k: (
                dispersion_outcome(k - 1, 1.0, low, high, confidence).inconclusive <= UNDECIDED
            ),
            n,
            MOST,
            "replicates",
        )
        warnings = (
            f"undecidable with {n} replicates; the {100 * confidence:g} % interval reaches from "
            f"{df / upper:.2f} to {df / lower:.2f} times the observed variance/mean and has to lie "
            f"within {low:g} to {high:g}, so a fault-free run is inconclusive with probability "
            f"{percent(lost)}; {enough} would make that {percent(UNDECIDED)} or less.",
        )
    return Prospect(accepts, tuple(power), warnings)


def variation_prospect(
    expectation: Expectation, limit: float, confidence: float = 0.95
) -> Prospect:
    """Return the prospect of run times whose variation has to stay below a limit.

    Run times are taken as normal. The upper end of the interval by the noncentral t law decides;
    no test of the family does.
    """
    n = expectation.repeats
    if n < 2 or limit <= 0:
        return Prospect()
    below, above = variation_limits(n, limit, confidence)
    accepts = f"with {n} repeats an observed variation below {100 * below:.3g} % passes"
    if math.isfinite(above):
        accepts += f", one above {100 * above:.3g} % fails"
    power = []
    for ratio in VARIATIONS:
        _, fails, inconclusive = variation_outcome(n, limit, ratio * limit, confidence)
        times = "half the limit" if ratio == 0.5 else f"{ratio:g} times the limit"
        power.append(
            Power(
                alternative=f"true variation {100 * ratio * limit:.3g} %, {times}",
                level=None,
                power=None,
                fails=fails,
                inconclusive=inconclusive,
            )
        )
    warnings: tuple[str, ...] = ()
    half = limit / 2

    def lost(repeats: int) -> float:
        return variation_outcome(repeats, limit, half, confidence).inconclusive

    if lost(n) > UNDECIDED:
        enough = _so_many(lambda k: lost(k) <= UNDECIDED, n, MOST_REPEATS, "repeats")
        warnings = (
            f"undecidable with {n} repeats; only a variation observed below {100 * below:.3g} % "
            f"passes, and a machine whose true variation is half the limit, {100 * half:.3g} %, "
            f"gets a verdict with probability {percent(1 - lost(n))}; {enough} would make that "
            f"{percent(1 - UNDECIDED)} or more.",
        )
    return Prospect(accepts, tuple(power), warnings)


# --- helpers -------------------------------------------------------------------------------------


def _whole(low: float, high: float) -> str:
    first, last = math.ceil(low), math.floor(high)
    return f"{first} to {last}" if first <= last else "none"


def _times(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def events_text(low: float, high: float) -> str:
    """Return a range as the whole numbers of events inside it."""
    if not math.isfinite(high):
        return f"{math.ceil(low)} events or more"
    return f"{math.ceil(low)} to {math.floor(high)} events"


def _so_many(enough: Callable[[int], bool], first: int, most: int, what: str) -> str:
    """Return the smallest number that is enough, more than `first`, as words."""
    low, high = first, max(2 * first, 2)
    while high < most and not enough(high):
        low, high = high, 2 * high
    high = min(high, most)
    if low >= most or not enough(high):
        return f"no number of {what} up to {most}"
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return f"{high} {what}"
