"""Linear laws of costs, fitted to repeated runs, and estimates with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from fleetsim.stats.arguments import Floats

#: Of every interval of a law of costs.
CONFIDENCE = 0.95


class Estimate(msgspec.Struct, frozen=True):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    def __mul__(self, factor: float) -> Estimate:
        return Estimate(self.value * factor, self.low * factor, self.high * factor)

    def __add__(self, other: float) -> Estimate:
        return Estimate(self.value + other, self.low + other, self.high + other)

    def inverse(self) -> Estimate:
        """Return 1 / value; an interval that reaches to 0 has no upper end then."""
        high = 1 / self.low if self.low > 0 else math.inf
        return Estimate(1 / self.value, 1 / self.high, high)

    def at_least(self, other: Estimate) -> Estimate:
        """Return the larger of two, end by end; it holds where both do."""
        ends = zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True)
        return Estimate(*(max(pair) for pair in ends))

    def times(self, other: Estimate) -> Estimate:
        """Return the product of two that are not negative, end by end; it holds where both do."""
        return Estimate(self.value * other.value, self.low * other.low, self.high * other.high)


@dataclass(frozen=True)
class LinearLaw:
    """A fitted law: the cost of a run is the sum of its amounts, each times a coefficient.

    Attributes
    ----------
    terms : tuple of str
        Names of the amounts.
    coefficients : float array (terms,)
    covariance : float array (terms, terms)
        Of the coefficients, widened.
    degrees : float
        Degrees of freedom of the variance.
    scale : float
        By how much the intervals were widened, because the groups lie farther from the law than
        their repeats explain; 1 where they do not, or no group is left to tell.
    deviation : float
        How far the law is from the mean cost of a group at most: abs(ratio - 1).
    groups, runs : int
        How many different amounts and runs there were.
    """

    terms: tuple[str, ...]
    coefficients: Floats
    covariance: Floats
    degrees: float
    scale: float
    deviation: float
    groups: int
    runs: int

    def at(self, amounts: npt.ArrayLike) -> Floats:
        """Return the cost that the law gives for each row of amounts."""
        costs: Floats = np.asarray(amounts, float) @ self.coefficients
        return costs

    def sum(self, amounts: Mapping[str, float]) -> Estimate:
        """Return what some amounts cost together; those that are not named are none."""
        weights = np.array([amounts.get(term, 0.0) for term in self.terms])
        value = float(weights @ self.coefficients)
        error = math.sqrt(max(float(weights @ self.covariance @ weights), 0.0))
        half = float(stdtrit(self.degrees, (1 + CONFIDENCE) / 2)) * error
        return Estimate(value, value - half, value + half)

    def each(self, term: str) -> Estimate:
        """Return a coefficient."""
        return self.sum({term: 1.0})


def fit_linear(
    terms: Sequence[str], amounts: Sequence[Sequence[float]], costs: Sequence[float]
) -> LinearLaw:
    """Fit cost = amounts @ coefficients by least squares of relative distances.

    Relative, since costs span decades and vary by a fraction of themselves. Runs of equal amounts
    are a group; the law is fitted to the groups' means. The variance is that of the repeats about
    them, pooled over all groups, and the t law takes its degrees of freedom. As in
    `growth.fit_power_law`, intervals are widened by the root of the lack-of-fit ratio, where that
    is above 1: repeats of one group share whatever the law misses, and do not tell of it.

    Parameters
    ----------
    terms : sequence of str
    amounts : sequence of sequence of float, (runs, terms)
        What each run pays for.
    costs : sequence of float
        Above 0.

    Raises
    ------
    ValueError
        Where the runs do not tell the coefficients.
    """
    x, y = np.asarray(amounts, float).reshape(-1, len(terms)), np.asarray(costs, float)
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (y > 0).all()):
        raise ValueError("costs have to be finite numbers above 0")
    rows, place, count = np.unique(x, axis=0, return_inverse=True, return_counts=True)
    place = place.reshape(-1)  # of another shape in NumPy 2.0
    degrees = len(y) - len(rows)
    if degrees < 1:
        raise ValueError("no run has a repeat")
    mean = np.bincount(place, y) / count
    weight = np.sqrt(count) / mean
    weighted = rows * weight[:, None]
    size = np.linalg.norm(weighted, axis=0)
    if not size.all() or np.linalg.matrix_rank(weighted / size) < len(terms):
        kinds = "one kind" if len(rows) == 1 else f"{len(rows)} kinds"
        raise ValueError(f"runs of {kinds} do not tell {len(terms)} costs apart")
    solved = np.linalg.lstsq(weighted / size, weight * mean, rcond=None)[0]
    coefficients = solved / size
    away = rows @ coefficients / mean - 1
    pure = float((((y - mean[place]) / mean[place]) ** 2).sum()) / degrees
    left = len(rows) - len(terms)
    lack = float(count @ away**2) / left if left else 0.0
    scale, variance = 1.0, pure
    if pure > 0:
        scale = max(1.0, math.sqrt(lack / pure))
        variance = pure * scale**2
    elif left:  # repeats without any variation: only the groups tell how good the law is
        variance, degrees = lack, left
    inverse = np.linalg.inv((weighted / size).T @ (weighted / size)) / np.outer(size, size)
    return LinearLaw(
        terms=tuple(terms),
        coefficients=coefficients,
        covariance=variance * inverse,
        degrees=degrees,
        scale=scale,
        deviation=float(np.abs(away).max()),
        groups=len(rows),
        runs=len(y),
    )
