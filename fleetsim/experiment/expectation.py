"""What the model says before anything runs: pass probabilities, contradictions, remedies."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded where they are used

from fleetsim.base.strict import meta_of
from fleetsim.generate.config import Config, make_config
from fleetsim.generate.defects import defect_rates
from fleetsim.generate.encode import mean_width
from fleetsim.generate.model import type_law
from fleetsim.stats.effects import clean_share, delivered_share
from fleetsim.stats.power import (
    dispersion_outcome,
    poisson_acceptance,
    poisson_between,
    poisson_outside,
)
from fleetsim.stats.sample import LATE

Floats = npt.NDArray[np.float64]

PASS_WANTED = 0.99
_PARAMETERS = ("event_rate_per_driver", "number_of_companies", "drivers_per_company")
_RATE_DIGITS = 4  # significant digits of a rate that is proposed
_TAIL = 1e-18  # probability of company numbers that are left out of a mixture, on each side
_POINTS = 4000  # company numbers that are gone through one by one
_GROUPS = 200  # the same where every type of event is looked at
_NORMAL_MEAN = 1e4  # from here on the quantiles of a Poisson law are taken as normal
_STEPS = np.array([1e-7, 1e-5, 1e-4, 1e-3, 0.01, 0.03, *np.arange(0.1, 0.95, 0.1)])


@dataclass(frozen=True)
class Expectation:
    """What a configuration leads to expect of a run.

    Attributes
    ----------
    config : Config
    batches : int
    alpha : float
        Level of the family of tests.
    family : int
        Tests in the family; a test that stands alone decides at alpha / family or later (Holm).
    replicates : int
        Seeds whose counts are drawn; 0 where none are.
    repeats : int
        Cold runs whose time is measured; 0 where none is.
    ledger : bool
        Whether the run tells lines with injected defects from the clean ones by their ledger. Then
        its events are the clean ones, whose count is Poisson again, and thinner.
    """

    config: Config
    batches: int
    alpha: float
    family: int
    replicates: int = 0
    repeats: int = 0
    ledger: bool = False

    @property
    def level(self) -> float:
        """Level of a test that stands alone: the first step of Holm's procedure."""
        return self.alpha / self.family

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
        drawn = self.batches * config.drivers_per_company * config.event_rate_per_driver
        return drawn * clean_share(defect_rates(config)) if self.ledger else drawn

    @property
    def defects(self) -> dict[str, float]:
        """Expected lines of each kind of injected defects, in all batches.

        Late records count where they come: those of the last batches come after the run.
        """
        config = self.config
        active = config.number_of_companies * config.active_fraction
        drawn = active * config.drivers_per_company * config.event_rate_per_driver
        return {
            kind: drawn * defect.rate * max(0, self.batches - defect.batches)
            for kind, defect in config.defects.items()
        }

    def _active(self, *edges: float) -> tuple[Floats, Floats]:
        """Return possible means, by the number of active companies, and their probabilities.

        Where these numbers are too many to go through, neighbours are taken together; finely near
        `edges` [events], the limits of the range whose probability is asked for.
        """
        n, p, each = (
            self.config.number_of_companies,
            self.config.active_fraction,
            self._company_mean,
        )
        if p in (0.0, 1.0) or each == 0:
            return np.array([self.mean]), np.ones(1)
        law = scipy.stats.binom(n, p)
        # From the top, since a quantile of 1 - 1e-18 would be that of 1.
        first, last = law.ppf(_TAIL), n - scipy.stats.binom(n, 1 - p).ppf(_TAIL)
        if last - first < _POINTS:
            active = np.arange(first, last + 1)
            return active * each, law.pmf(active)
        parts = [np.linspace(first, last, _POINTS // 4)]
        for edge in edges:
            if 0 <= edge < math.inf:
                reach = 9 * math.sqrt(edge + 81) + each  # Poisson deviations of the count [events]
                around = np.linspace((edge - reach) / each, (edge + reach) / each, _POINTS // 4)
                parts.append(around[(around > first) & (around < last)])
        starts = np.unique(np.floor(np.concatenate(parts)))
        ends = np.append(starts[1:] - 1, last)
        weights = law.cdf(ends) - law.cdf(starts - 1)
        return (starts + ends) / 2 * each, weights

    def count_between(self, low: float, high: float) -> float:
        """Return P(low <= N <= high) for the number of events N."""
        means, weights = self._active(low, high)
        return float(np.sum(weights * poisson_between(low, high, means)))

    def count_outside(self, low: float, high: float, *, ratio: float = 1.0) -> float:
        """Return P(N < low or N > high) where the truth is `ratio` times the configured rate."""
        means, weights = self._active(low / ratio, high / ratio)
        return float(np.sum(weights * poisson_outside(low, high, ratio * means)))

    def count_deviates(
        self, tolerance: float = math.inf, level: float = 0.0, *, ratio: float = 1.0
    ) -> float:
        """Return P(N leaves the tolerance, or the exact test rejects at the level).

        Of counts whose rate is in truth `ratio` times the configured one. A level of 0 leaves the
        test out, a tolerance of inf the tolerance.
        """
        means, weights = self._active()
        low, high = np.zeros_like(means), np.full_like(means, math.inf)
        if math.isfinite(tolerance):
            low, high = tolerance_limits(means, tolerance)
        if level > 0:
            least, largest = poisson_acceptance(means, level)
            low, high = np.maximum(low, least), np.minimum(high, largest)
        return float(np.sum(weights * poisson_outside(low, high, ratio * means)))

    def count_within(self, tolerance: float) -> float:
        """Return P(N lies within the tolerance, a fraction, of what the active companies make)."""
        means, weights = self._active()
        low, high = tolerance_limits(means, tolerance)
        return float(np.sum(weights * poisson_between(low, high, means)))

    def count_follows_law(self, tolerance: float) -> float:
        """Return P(N within the tolerance of its mean, and not rejected by the exact test).

        The test decides at alpha / family, the first step of Holm's procedure; later steps, which
        other rejections open, take next to nothing from it.
        """
        means, weights = self._active()
        low, high = tolerance_limits(means, tolerance)
        least, largest = poisson_acceptance(means, self.level)
        inside = poisson_between(np.maximum(low, least), np.minimum(high, largest), means)
        return float(np.sum(weights * inside))

    def types_follow_law(self, margin: float) -> float:
        """Return P(chi-square does not reject, and every 90 % interval lies inside the margin).

        Normal approximation for the shares, and at least this probability (Bonferroni). A single
        type leaves nothing to test.
        """
        shares = np.array(type_law(self.config).probabilities)
        shares = shares[shares > 0]
        if len(shares) < 2 or self.mean <= 0:
            return 0.0
        means, weights = self._active()
        if len(means) > _GROUPS:  # groups, each as if its companies were the fewest
            starts = np.linspace(0, len(means), _GROUPS, endpoint=False).astype(int)
            means, weights = means[starts], np.add.reduceat(weights, starts)
        # The number of events in steps of its quantiles, each step as if it were the fewest.
        steps = _STEPS[:, None]
        exact = scipy.stats.poisson.ppf(steps, np.minimum(means, _NORMAL_MEAN))
        normal = means + scipy.stats.norm.ppf(steps) * np.sqrt(means)
        events = np.where(means < _NORMAL_MEAN, exact, normal)
        chance = weights * np.diff(_STEPS, append=1.0)[:, None]
        deviation = np.sqrt(shares * (1 - shares) / np.maximum(events, 1)[:, :, None])
        room = margin / deviation - scipy.stats.norm.isf(0.05)
        outside = np.where(room > 0, 2 * scipy.stats.norm.sf(np.maximum(room, 0)), 1.0).sum(axis=2)
        passed = np.where(events > 0, 1 - self.level - outside, 0.0)
        return float(np.sum(chance * np.maximum(passed, 0)))

    def spread_follows_law(self, low: float, high: float, confidence: float = 0.95) -> float:
        """Return P(the interval of variance/mean contains 1 and lies in (low, high)).

        The replicates' counts have the law of this run's companies: D ~ chi-square, unless all of
        them are 0, where there is no D.
        """
        passes = dispersion_outcome(self.replicates - 1, 1.0, low, high, confidence).passes
        return max(0.0, passes - math.exp(-self.mean * self.replicates))


def tolerance_limits(mean: Any, tolerance: float) -> tuple[Any, Any]:
    """Return mean * (1 -+ tolerance), numbers or arrays, without the noise of the last digits."""
    return np.round(mean * (1 - tolerance), 9), np.round(mean * (1 + tolerance), 9)


def bytes_per_event(config: Config, batches: int) -> float:
    """Return the mean bytes of the files for each clean event, about; without defects, of a line.

    Lines with defects are taken to be as long as others: what is cut off or put in is little beside
    the whole file.
    """
    rates = defect_rates(config)
    clean, late = clean_share(rates), rates.get(LATE, 0.0)
    if not rates or not clean:
        return expected_line_bytes(config)
    lag = config.defects[LATE].batches if late else 0
    never = late * min(lag, batches) / batches  # come after the last batch
    return expected_line_bytes(config) * (delivered_share(rates) - never) / clean


def expected_line_bytes(config: Config) -> float:
    """Return the mean length of a line [bytes], its end included."""
    return mean_width(config, config.number_of_companies * config.drivers_per_company)


@dataclass(frozen=True)
class Remedy:
    """A change of one parameter that reconciles a configuration with a stated range.

    `nearest` is the allowed value whose mean is nearest the middle of the range, None where the
    parameter's limits keep it outside of the range or the parameter has no influence. `smallest`
    is the smallest change that passes with probability `PASS_WANTED`, None where no allowed value
    does. Rates are tried in steps of four significant digits, or finer for a narrow range.
    """

    parameter: str
    current: float
    nearest: float | None
    smallest: float | None


def remedies(
    expectation: Expectation,
    chance: Callable[[Expectation], float],
    window: Callable[[Expectation], tuple[float, float]],
) -> list[Remedy]:
    """Return for each parameter what would reconcile a configuration with a criterion.

    Parameters
    ----------
    expectation : Expectation
        As the configuration stands.
    chance : callable
        Probability that a fault-free run passes.
    window : callable
        The range of counts that the criterion asks for [events]; both ends are finite.
    """
    return [_remedy(_Axis(expectation, name), chance, window) for name in _PARAMETERS]


class _Axis:
    """One parameter, the others fixed: its allowed values, numbered in whole steps.

    Parameters
    ----------
    expectation : Expectation
    name : str
        The parameter.
    """

    def __init__(self, expectation: Expectation, name: str) -> None:
        self.expectation = expectation
        self.name = name
        self.current = getattr(expectation.config, name)
        self.whole = isinstance(self.current, int)
        kind = next(f.type for f in msgspec.structs.fields(Config) if f.name == name)
        meta = meta_of(kind)
        self.limits = (float(meta.ge or 0), float(meta.le or math.inf))
        self.digits = 0  # decimals of a step
        self.mean_per_unit = self._with(1).mean

    def refine(self, ideal: float, width: float) -> None:
        """Choose the step of a rate: fine beside the ideal value and a range's width [events]."""
        if self.whole:
            return
        self.digits = _RATE_DIGITS - 1 - math.floor(math.log10(max(ideal, 1e-9)))
        finest = self.digits + 15 - _RATE_DIGITS
        while self.mean_per_unit * 10.0**-self.digits > width / 100 and self.digits < finest:
            self.digits += 1

    def number(self, value: float) -> int:
        """Return the number of the allowed step nearest to a value."""
        low, high = (self._steps(limit) for limit in self.limits)
        return min(max(round(self._steps(value)), math.ceil(low)), math.floor(high))

    def around(self, value: float, towards: float) -> int:
        """Return the number of the step at a value, or the next one away from `towards`."""
        steps = self._steps(value)
        return math.floor(steps) if towards > steps else math.ceil(steps)

    def value(self, number: int) -> float:
        """Return the value of a step."""
        if self.whole:
            return number
        return number / 10**self.digits if self.digits >= 0 else float(number * 10**-self.digits)

    def at(self, number: int) -> Expectation:
        """Return the expectation at a step."""
        return self._with(self.value(number))

    def _steps(self, value: float) -> float:
        return value * 10.0**self.digits

    def _with(self, value: float) -> Expectation:
        config = make_config(self.expectation.config.as_dict(), {self.name: value})
        return replace(self.expectation, config=config)


def _remedy(
    axis: _Axis,
    chance: Callable[[Expectation], float],
    window: Callable[[Expectation], tuple[float, float]],
) -> Remedy:
    nothing = Remedy(axis.name, axis.current, None, None)
    if axis.mean_per_unit == 0:
        return nothing
    low, high = window(axis.expectation)
    axis.refine((low + high) / 2 / axis.mean_per_unit, high - low)
    for _ in range(3):  # a line's length, and so a range of sizes, depends a little on the fleet
        ideal = (low + high) / 2 / axis.mean_per_unit
        middle = axis.number(ideal)
        low, high = window(axis.at(middle))

    def distance(number: int) -> tuple[float, float]:
        there = axis.at(number)
        return abs(there.mean - sum(window(there)) / 2), abs(axis.value(number) - axis.current)

    beside = (axis.number(axis.value(middle + step)) for step in (-1, 0, 1))
    nearest = min(beside, key=distance)
    clamped = not axis.limits[0] <= ideal <= axis.limits[1]
    if clamped and not low <= axis.at(nearest).mean <= high:
        return nothing

    def passes(number: int) -> bool:
        return chance(axis.at(number)) >= PASS_WANTED

    ends = (axis.number(low / axis.mean_per_unit), axis.number(high / axis.mean_per_unit))
    good = nearest if passes(nearest) else _climb(lambda k: chance(axis.at(k)), *ends)
    smallest = None
    if good is not None:
        bad = axis.around(axis.current, good)
        while (
            abs(good - bad) > 1
        ):  # the probability only rises from the current value to a good one
            between = (good + bad) // 2
            good, bad = (between, bad) if passes(between) else (good, between)
        smallest = axis.value(good)
    return Remedy(axis.name, axis.current, axis.value(nearest), smallest)


def _climb(chance: Callable[[int], float], low: int, high: int) -> int | None:
    """Return a number from low to high with the probability wanted, where a single peak has one."""
    known: dict[int, float] = {}

    def height(number: int) -> float:
        if number not in known:
            known[number] = chance(number)
        return known[number]

    while high - low > 2:
        third = max((high - low) // 3, 1)
        left, right = low + third, high - third
        if height(left) < height(right):
            low = left
        else:
            high = right
        if max(known.values()) >= PASS_WANTED:
            break
    best = max({*known, *range(low, min(high, low + 2) + 1)}, key=height)
    return best if height(best) >= PASS_WANTED else None
