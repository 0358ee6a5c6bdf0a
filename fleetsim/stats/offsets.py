"""Tests that times within an interval are uniform and independent."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded where they are used

from fleetsim.stats import laws
from fleetsim.stats.arguments import Floats, floats, not_negative, positive, sum_of
from fleetsim.stats.result import TestResult, central

# Above this N * resolution / length, ties are common enough to spoil the law of the spacings.
MAX_TICK_DENSITY = 1e-3

_EPSILON = float(np.finfo(np.float64).eps)


def _sorted_offsets(
    offsets: npt.ArrayLike, length: float, resolution: float
) -> tuple[Floats, float, float]:
    """Return the sorted offsets (spread inside their ticks), the length and the resolution."""
    x = floats("offsets", offsets)
    end = positive("length", length)
    tick = not_negative("resolution", resolution)
    if tick and not 8 * _EPSILON * end < tick < end:
        raise ValueError(
            f"resolution is {tick}, must be 0, or less than length ({end}) and more than its "
            f"rounding ({8 * _EPSILON * end:.3g})"
        )
    bad = np.flatnonzero((x < 0) | (x >= end))
    if bad.size:
        raise ValueError(f"offsets: value {bad[0]} is {x[bad[0]]}, must be >= 0 and < {end}")
    x = np.sort(x)
    return (_spread(x, end, tick) if tick else x), end, tick


def _spread(x: Floats, length: float, resolution: float) -> Floats:
    """Return sorted offsets with those that share a tick spread evenly inside it.

    The offset of rank r (from 0) among k in a tick goes to (r + 1/2) / k of the tick.
    """
    # The factors undo rounding: 0.3 / 0.1 is 2.9999999999999996, and belongs to tick 3.
    slack = 4 * _EPSILON
    n_ticks = math.ceil(length / resolution * (1 - slack))
    ticks = np.minimum(np.floor(x / resolution * (1 + slack)), n_ticks - 1)
    starts = np.flatnonzero(np.concatenate([[True], ticks[1:] != ticks[:-1]]))
    sizes = np.diff(np.append(starts, x.size))
    rank = np.arange(x.size) - np.repeat(starts, sizes)
    begin = ticks * resolution
    # The last tick may be cut short by the end of the interval.
    width = np.minimum(resolution, length - begin)
    spread: Floats = begin + (rank + 0.5) / np.repeat(sizes, sizes) * width
    return spread


def uniformity_test(offsets: npt.ArrayLike, length: float, resolution: float = 0.0) -> TestResult:
    """Return the exact Kolmogorov-Smirnov test that offsets are uniform on [0, length).

    Parameters
    ----------
    offsets : float array (n,)
        Times since the start of the interval, in any order, each >= 0 and < length [s].
    length : float
        Length of the interval, > 0 [s].
    resolution : float
        Tick to which the offsets were floored, 0 if they were not [s]. Offsets that share a tick
        are spread evenly inside it.

    Returns
    -------
    TestResult
        `statistic` and `estimate` are D, the largest distance of the two distribution functions.

    Raises
    ------
    ValueError
        If offsets is empty or holds a value outside [0, length), or an argument is out of range.

    References
    ----------
    Simard and L'Ecuyer (2011), J. Stat. Softw. 39(11). doi:10.18637/jss.v039.i11
    """
    x, end, _ = _sorted_offsets(offsets, length, resolution)
    n = x.size
    u = x / end
    steps = np.arange(n + 1) / n
    distance = max(float(np.max(steps[1:] - u)), float(np.max(u - steps[:-1])))
    return uniformity_of(distance, n, end)


def uniformity_of(distance: float, n: int, length: float) -> TestResult:
    """Return the result of `uniformity_test` for a distance D of n offsets, found elsewhere."""
    from scipy.stats import kstwo  # slow to import, and needed here only

    return TestResult(
        "uniformity",
        statistic=distance,
        p_value=min(1.0, float(kstwo.sf(distance, n))),
        n=n,
        estimate=distance,
        null=f"offsets ~ uniform on [0, {length:.12g})",
    )


def edge_test(offsets: npt.ArrayLike, length: float, resolution: float = 0.0) -> TestResult:
    """Return the Anderson-Darling test that offsets are uniform on [0, length).

    A2 = -n - 1/n sum (2 i - 1) (ln u_i + ln(1 - u_(n+1-i))) over the sorted u = offset / length.
    It weighs both ends of the interval, where Kolmogorov-Smirnov sees little.

    Parameters
    ----------
    offsets : float array (n,)
        Times since the start of the interval, in any order, each >= 0 and < length [s].
    length : float
        Length of the interval, > 0 [s].
    resolution : float
        Tick to which the offsets were floored, 0 if they were not [s]. Offsets that share a tick
        are spread evenly inside it; with resolution 0 an offset of 0 would make A2 infinite.

    Returns
    -------
    TestResult
        `statistic` is A2; the p-value is good to 1e-4 absolute. Far in the tail it is too small for
        few offsets: at A2 = 10 about half of the true p for 2 of them, nine tenths for 20.

    Raises
    ------
    ValueError
        If offsets is empty or holds a value outside [0, length), an argument is out of range, or
        an offset is 0 while resolution is 0.

    References
    ----------
    Anderson and Darling (1954), J. Am. Stat. Assoc. 49, 765. doi:10.1080/01621459.1954.10501232
    Marsaglia and Marsaglia (2004), J. Stat. Softw. 9(2). doi:10.18637/jss.v009.i02
    """
    x, end, _ = _sorted_offsets(offsets, length, resolution)
    _refuse_zero(x)
    n = x.size
    # ln(1 - u) as the log of what is left of the interval: exact close to its end.
    logs = np.log(x / end) + np.log((end - x) / end)[::-1]
    return edge_of(-n - sum_of(np.arange(1, 2 * n, 2) / n * logs), n, end)


def edge_of(statistic: float, n: int, length: float) -> TestResult:
    """Return the result of `edge_test` for an A2 of n offsets, found elsewhere."""
    return TestResult(
        "edge",
        statistic=statistic,
        p_value=laws.anderson_darling_sf(statistic, n),
        n=n,
        null=f"offsets ~ uniform on [0, {length:.12g})",
    )


def _refuse_zero(x: Floats) -> None:
    """Raise if the smallest offset is 0, where a logarithm is infinite."""
    if x[0] == 0:
        raise ValueError("offsets: a value is 0, must be > 0 while resolution is 0; give the tick")


def spacing_test(offsets: npt.ArrayLike, length: float, resolution: float = 0.0) -> TestResult:
    """Return Moran's two-sided test that the spacings of offsets are those of uniform ones.

    T = -2 sum ln(m s_i / length) over the m = n + 1 spacings, both ends included. T follows a
    gamma law with the exact moments E = 2 m (psi(m) - ln m + gamma) and
    V = 4 m**2 (psi1(1) / m - psi1(m)). Clusters make T large; a too even stream makes it small.

    Parameters
    ----------
    offsets : float array (n,)
        Times since the start of the interval, in any order, each >= 0 and < length [s].
    length : float
        Length of the interval, > 0 [s].
    resolution : float
        Tick to which the offsets were floored, 0 if they were not [s]. Offsets that share a tick
        are spread evenly inside it; with resolution 0 an offset of 0 and a tie would make T
        infinite.

    Returns
    -------
    TestResult
        `statistic` is T. Where n * resolution / length > 1e-3 ties are too common and p_value is
        None.

    Raises
    ------
    ValueError
        If offsets is empty or holds a value outside [0, length), an argument is out of range, or
        an offset is 0 or a tie while resolution is 0.

    References
    ----------
    Moran (1951), J. R. Stat. Soc. B 13, 147. doi:10.1111/j.2517-6161.1951.tb00080.x
    """
    x, end, tick = _sorted_offsets(offsets, length, resolution)
    n = x.size
    null = f"offsets ~ uniform on [0, {end:.12g})"
    if n * tick / end > MAX_TICK_DENSITY:
        note = f"no test: n * resolution / length is {n * tick / end:.3g}, above {MAX_TICK_DENSITY}"
        return TestResult("spacing", n=n, null=null, note=note)
    _refuse_zero(x)
    m = n + 1
    spacings = np.diff(x, prepend=0.0, append=end)
    if tick == 0 and not spacings.all():
        raise ValueError("offsets: two values are equal, must differ while resolution is 0")
    # A spacing can still round to 0 inside a crowded tick: T is then infinite, and p 0.
    with np.errstate(divide="ignore"):
        statistic = -2 * sum_of(np.log(m * (spacings / end)))
    mean, variance = spacing_moments(m)
    shape, x_scaled = mean**2 / variance, statistic * mean / variance
    return TestResult(
        "spacing",
        statistic=statistic,
        p_value=central(laws.gamma_cdf(shape, x_scaled), laws.gamma_sf(shape, x_scaled)),
        n=n,
        null=null,
    )


def spacing_moments(m: int) -> tuple[float, float]:
    """Return mean and variance of Moran's T over m spacings."""
    if m < 50:
        excess, trigamma = (
            float(scipy.special.digamma(m)) - math.log(m),
            float(scipy.special.polygamma(1, m)),
        )
    else:
        # psi(m) - ln m and psi1(m) by their series (Abramowitz and Stegun 6.3.18, 6.4.12): the
        # difference of the two near equals would lose digits as m grows.
        r = 1 / m**2
        excess = -1 / (2 * m) - r * (1 / 12 - r * (1 / 120 - r * (1 / 252 - r / 240)))
        trigamma = 1 / m + r / 2 + r / m * (1 / 6 - r * (1 / 30 - r * (1 / 42 - r / 30)))
    mean = 2 * m * (excess + float(np.euler_gamma))
    return mean, 4 * m * (math.pi**2 / 6 - m * trigamma)
