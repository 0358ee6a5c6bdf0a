"""What the model says before anything runs: pass probabilities, contradictions, remedies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats as laws

from fleetsim.config import Config, make_config
from fleetsim.encode import driver_digits
from fleetsim.errors import InputError
from fleetsim.model import EVENT_FIELDS, Kind, escaped, type_law

__all__ = ["Expectation", "Remedy", "expected_line_bytes", "poisson_between", "remedies"]

PASS_WANTED = 0.99
_PARAMETERS = ("event_rate_per_driver", "number_of_companies", "drivers_per_company")
_RATE_DIGITS = 4  # significant digits of a rate that is proposed
_TAIL = 1e-18  # probability of company numbers that are left out of a mixture


@dataclass(frozen=True)
class Expectation:
    """What a configuration leads to expect of a run.

    Attributes
    ----------
    config : Config
    batches : int
    replicates : int
    alpha : float
        Level of the family of tests.
    family : int
        Tests in the family; a test that stands alone decides at alpha / family or later (Holm).
    """

    config: Config
    batches: int
    replicates: int
    alpha: float
    family: int

    @property
    def mean(self) -> float:
        """Expected events of all batches, over the draw of active companies."""
        config = self.config
        return config.number_of_companies * config.active_fraction * self._company_mean

    @property
    def standard_deviation(self) -> float:
        """Standard deviation of the events of all batches."""
        config = self.config
        between = self._company_mean**2 * config.number_of_companies * config.active_fraction
        return math.sqrt(self.mean + between * (1 - config.active_fraction))

    @property
    def _company_mean(self) -> float:
        """Expected events of one active company, all batches."""
        config = self.config
        return self.batches * config.drivers_per_company * config.event_rate_per_driver

    def _means(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the possible means, one for each number of active companies, and their weights."""
        n, p = self.config.number_of_companies, self.config.active_fraction
        if p in (0.0, 1.0):
            return np.array([self.mean]), np.ones(1)
        companies = laws.binom(n, p)
        active = np.arange(companies.ppf(_TAIL), companies.isf(_TAIL) + 1)
        return active * self._company_mean, companies.pmf(active)

    def count_between(self, low: float, high: float) -> float:
        """Return P(low <= N <= high) for the number of events N."""
        means, weights = self._means()
        return float(np.sum(weights * poisson_between(low, high, means)))

    def count_follows_law(self, tolerance: float) -> float:
        """Return P(N within the tolerance of its mean, and not rejected by the exact test).

        The test decides at alpha / family, the first step of Holm's procedure.
        """
        means, weights = self._means()
        level = self.alpha / self.family
        low = np.maximum(laws.poisson.ppf(level / 2, means), means * (1 - tolerance))
        high = np.minimum(laws.poisson.isf(level / 2, means), means * (1 + tolerance))
        return float(np.sum(weights * poisson_between(low, high, means)))

    def types_follow_law(self, margin: float) -> float:
        """Return P(chi-square does not reject, and every 90 % interval lies inside the margin).

        Normal approximation for the shares, and at least this probability (Bonferroni).
        """
        if self.mean <= 0:
            return 0.0
        shares = np.array(type_law(self.config).probabilities)
        shares = shares[(shares > 0) & (shares < 1)]
        deviation = np.sqrt(shares * (1 - shares) / self.mean)
        room = margin / deviation - laws.norm.isf(0.05)
        outside = np.where(room > 0, 2 * laws.norm.sf(np.maximum(room, 0)), 1.0)
        return float(max(0.0, 1 - self.alpha / self.family - outside.sum()))

    def spread_follows_law(self, low: float, high: float, confidence: float = 0.95) -> float:
        """Return P(the interval of variance/mean contains 1 and lies in (low, high))."""
        df = self.replicates - 1
        tail = (1 - confidence) / 2
        upper, lower = laws.chi2.isf(tail, df), laws.chi2.ppf(tail, df)
        # The interval of D = sum (x - mean)^2 / mean is (D / upper, D / lower), and D ~ chi2(df).
        least, most = max(lower, low * upper), min(upper, high * lower)
        return float(max(0.0, laws.chi2.sf(least, df) - laws.chi2.sf(most, df)))


def poisson_between(low: Any, high: Any, mean: Any) -> Any:
    """Return P(low <= X <= high) for X ~ Poisson(mean), by the tail that keeps its digits."""
    low, high = np.ceil(low), np.floor(high)
    above = laws.poisson.sf(low - 1, mean) - laws.poisson.sf(high, mean)
    below = laws.poisson.cdf(high, mean) - laws.poisson.cdf(low - 1, mean)
    return np.maximum(np.where(low > mean, above, below), 0.0)


def expected_line_bytes(config: Config) -> float:
    """Return the mean length of a line [bytes], its end included."""
    drivers = config.number_of_companies * config.drivers_per_company
    law = type_law(config)
    names = sum(
        share * len(escaped(name)) for name, share in zip(law.names, law.probabilities, strict=True)
    )
    lengths = {
        Kind.UUID: 36.0,
        Kind.COMPANY: 36.0,
        Kind.DRIVER: len("DRV-") + 36 + len("-") + driver_digits(config),
        Kind.TRUCK: len("TRK-") + _mean_digits(drivers),
        Kind.CHOICE: names,
        Kind.TIME: 27.0,
    }
    keys = sum(len(f'"{field.name}":""') + lengths[field.kind] for field in EVENT_FIELDS)
    return keys + len(EVENT_FIELDS) - 1 + len("{}\n")


def _mean_digits(last: int) -> float:
    """Return the mean number of decimal digits of 1 .. last."""
    total, width, first = 0, 1, 1
    while first <= last:
        total += width * (min(10 * first - 1, last) - first + 1)
        width, first = width + 1, 10 * first
    return total / last


@dataclass(frozen=True)
class Remedy:
    """A change of one parameter that reconciles a configuration with a stated range.

    `nearest` is the value whose mean is nearest the middle of the range; `smallest` the smallest
    change that passes with probability `PASS_WANTED`. None where no allowed value does.
    """

    parameter: str
    current: float
    nearest: float | None
    smallest: float | None


def remedies(expectation: Expectation, low: float, high: float) -> list[Remedy]:
    """Return for each parameter what would bring the count into low .. high [events]."""
    return [_remedy(expectation, name, low, high) for name in _PARAMETERS]


def _remedy(expectation: Expectation, name: str, low: float, high: float) -> Remedy:
    current = getattr(expectation.config, name)
    middle = (low + high) / 2
    per_unit = expectation.mean / current if current else _mean_per_unit(expectation, name)
    ideal = middle / per_unit if per_unit else 0.0
    nearest = _allowed(expectation, name, _round(name, ideal))
    smallest = None
    if nearest is not None:
        smallest = _smallest_change(expectation, name, current, ideal, low, high)
    return Remedy(name, current, nearest, smallest)


def _mean_per_unit(expectation: Expectation, name: str) -> float:
    changed = _with(expectation, name, 1)
    return changed.mean if changed else 0.0


def _smallest_change(
    expectation: Expectation, name: str, current: float, ideal: float, low: float, high: float
) -> float | None:
    """Bisect between the current value and the ideal one, where the probability only rises."""

    def passes(value: float) -> bool:
        changed = _with(expectation, name, value)
        return changed is not None and changed.count_between(low, high) >= PASS_WANTED

    whole = name != "event_rate_per_driver"
    step = 1.0 if whole else 10.0 ** (math.floor(math.log10(max(ideal, 1e-9))) + 1 - _RATE_DIGITS)
    up = ideal > current
    bad = math.floor(current / step) if up else math.ceil(current / step)
    good = round(ideal / step)
    if not passes(_value(good, step, whole)):
        neighbours = [good + 1, good - 1]
        good_ones = [g for g in neighbours if passes(_value(g, step, whole))]
        if not good_ones:
            return None
        good = good_ones[0]
    while abs(good - bad) > 1:
        between = (good + bad) // 2
        if passes(_value(between, step, whole)):
            good = between
        else:
            bad = between
    return _value(good, step, whole)


def _value(steps: int, step: float, whole: bool) -> float:
    return steps if whole else float(f"{steps * step:.{_RATE_DIGITS}g}")


def _round(name: str, value: float) -> float:
    if name == "event_rate_per_driver":
        return float(f"{value:.{_RATE_DIGITS}g}")
    return max(1, round(value))


def _allowed(expectation: Expectation, name: str, value: float) -> float | None:
    return value if _with(expectation, name, value) else None


def _with(expectation: Expectation, name: str, value: float) -> Expectation | None:
    """Return the expectation under another value of one parameter; None where it is not allowed."""
    try:
        config = make_config(expectation.config.as_dict(), {name: value})
    except InputError:
        return None
    return Expectation(
        config,
        expectation.batches,
        expectation.replicates,
        expectation.alpha,
        expectation.family,
    )
