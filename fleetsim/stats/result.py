"""What a test returns, and what several tests share.

Every test is a plain function on arrays and numbers, and returns a frozen `TestResult`. Two-sided
p-values are central, ``min(1, 2 min(P(X <= x), P(X >= x)))``, so that p and the confidence interval
agree; R's ``poisson.test`` and ``binom.test`` report another two-sided p (by likelihood,
"minlike"). A test that cannot be made has `p_value` None and a `note` that says why: no data is
never a pass. Invalid input raises `ValueError`. No test reads, writes, draws or prints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fleetsim.stats.arguments import Floats, Ints, sum_of

# Cochran's rule: below this expectation the chi-square law of a cell is not trusted.
MIN_EXPECTATION = 5.0
# Two one-sided tests at 5 % are the interval of this confidence.
EQUIVALENCE_CONFIDENCE = 0.90


@dataclass(frozen=True, slots=True)
class TestResult:
    """What one test found; fields that do not apply are None.

    Attributes
    ----------
    name : str
        The test, for example ``"poisson_count"``.
    statistic : float or None
        The test statistic.
    p_value : float or None
        Probability under the null hypothesis of a result at least as extreme; None where the test
        cannot be made (`note` says why).
    df : int or None
        Degrees of freedom of a chi-square law.
    n : int or None
        Number of observations: events, or counts in `dispersion_test` and `poisson_fit_test`.
    estimate : float or None
        Size of the effect, as a plain ratio.
    interval : tuple of float or None
        Confidence limits (low, high) of `estimate`; an end may be inf.
    null : str
        The hypothesis that a small p-value speaks against.
    note : str or None
        Pooled cells, why there is no p-value, and the like.
    """

    # Keeps pytest from collecting the class because of its name.
    __test__: ClassVar[bool] = False

    name: str
    statistic: float | None = None
    p_value: float | None = None
    df: int | None = None
    n: int | None = None
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    null: str = ""
    note: str | None = None

    def _repr_html_(self) -> str:
        from fleetsim.base.tables import Table, number  # where something is shown

        interval = "–"
        if self.interval is not None:
            interval = " to ".join(number(end) for end in self.interval)
        rows = (
            ("null hypothesis", self.null),
            ("p-value", number(self.p_value)),
            ("statistic", number(self.statistic)),
            ("degrees of freedom", number(self.df)),
            ("observations", number(self.n)),
            ("estimate", number(self.estimate)),
            ("its interval", interval),
            ("note", self.note or "–"),
        )
        return Table((self.name, ""), rows)._repr_html_()


def central(lower: float, upper: float) -> float:
    """Return the central two-sided p from P(X <= x) and P(X >= x)."""
    return min(1.0, 2 * min(lower, upper))


def pearson(counts: Ints | Floats, expected: Floats) -> float:
    """Return sum (observed - expected)**2 / expected over all cells."""
    return sum_of(np.ravel((counts - expected) ** 2 / expected))
