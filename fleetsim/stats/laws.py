"""Laws that the tests need, from SciPy where it has them in the precision that is wanted.

Written here: the Anderson-Darling law of a fully specified uniform, which SciPy lacks; the far
lower tail of the gamma law at shapes above 10**5, where `scipy.special.gammainc` stops its series
early; and the noncentral t law, where `scipy.stats.nct` gives NaN at large noncentrality. Plain
functions of numbers, without checks of their input.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import scipy  # its parts are loaded where they are used

from fleetsim.stats.arguments import Floats

_LARGE_SHAPE = 1e5
# From this shape on a standardised gamma differs from the normal law by less than 1e-5.
_NORMAL_SHAPE = 1e9
# The fitted correction of the Anderson-Darling law is good to 1e-4 from this many offsets on.
_EXACT_EDGE = 16


@cache
def _quadrature(n_nodes: int) -> tuple[Floats, Floats]:
    """Return nodes and weights of the Gauss-Legendre rule on [-1, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(n_nodes)
    return nodes, weights


def _log1p_minus(x: Floats) -> Floats:
    """Return log(1 + x) - x without cancellation near 0."""
    near = np.abs(x) < 0.01
    small = np.where(near, x, 0.0)
    # The series -x**2/2 + x**3/3 - ..., by Horner's rule; the first term left out is x**11/11.
    series = np.zeros_like(small)
    for power in range(10, 1, -1):
        series = series * small + (-1.0) ** (power + 1) / power
    return np.where(near, series * small**2, np.log1p(np.where(near, 0.0, x)) - x)


def gamma_cdf(shape: float, x: float) -> float:
    """Return P(X <= x) for the gamma law of scale 1, good in the far lower tail at any shape."""
    if shape <= _LARGE_SHAPE or not shape / 2 < x < shape - 4 * math.sqrt(shape):
        return float(scipy.special.gammainc(shape, x))
    # Here SciPy's power series ends after 2000 terms, too few (at shape 10**9 and 5 standard
    # deviations it is 70 % low). P = x**a exp(-x) / Gamma(a + 1) * a * int_0^1 (1 - v)**(a - 1)
    # exp(x v) dv: the factor by Stirling's series, the integral by Gauss-Legendre quadrature over
    # the part where the integrand, which falls at least as fast as exp(-slope v), exceeds e**-45.
    slope = shape - 1 - x
    end = min(1.0, 45 / slope)
    nodes, node_weights = _quadrature(100)
    v = end * (nodes + 1) / 2
    integrand = np.exp((shape - 1) * _log1p_minus(-v) - slope * v)
    integral = end / 2 * float(np.sum(node_weights * integrand))
    deviation = float(_log1p_minus(np.array([(x - shape) / shape]))[0])
    log_factor = shape * deviation - 1 / (12 * shape) + math.log(shape) / 2
    return math.exp(log_factor) * integral / math.sqrt(2 * math.pi)


def gamma_sf(shape: float, x: float) -> float:
    """Return P(X > x) for the gamma law of scale 1."""
    return float(scipy.special.gammaincc(shape, x))


def gamma_quantile(shape: float, p: float) -> float:
    """Return the x with P(X <= x) = p for the gamma law of scale 1."""
    x = float(scipy.special.gammaincinv(shape, p))
    if shape <= _LARGE_SHAPE or p > 1e-5:
        return x
    from scipy.optimize import brentq

    # SciPy inverts its own faulty tail (see gamma_cdf).
    sd = math.sqrt(shape)
    low, high = shape - 12 * sd, shape - 4.1 * sd
    return float(brentq(lambda x: math.log(gamma_cdf(shape, x) / p), low, high, rtol=1e-15))


def gamma_tails(
    value: float, mean: float, variance: float, skewness: float, half_step: float = 0.0
) -> tuple[float, float]:
    """Return P(X <= value) and P(X >= value) for a shifted gamma with these three moments.

    Pearson's type III: X = mean + sd (G - a) / sqrt(a) with G ~ gamma(a), a = 4 / skewness**2,
    mirrored where the skewness is negative. Skewness 2 sd / mean is the gamma without a shift, and
    so the chi-square law where the moments are its own.

    Parameters
    ----------
    value, mean, variance, skewness : float
    half_step : float
        Half the distance of neighbouring values of a discrete statistic (continuity correction).

    References
    ----------
    Pearson (1895), Phil. Trans. R. Soc. A 186, 343. doi:10.1098/rsta.1895.0010
    """
    sd = math.sqrt(variance)
    below = _standard_cdf((value + half_step - mean) / sd, skewness)
    above = _standard_cdf((mean - value + half_step) / sd, -skewness)
    return below, above


def student_tails(
    value: float, variance: float, kurtosis: float, half_step: float = 0.0
) -> tuple[float, float]:
    """Return P(X <= value) and P(X >= value) for a scaled Student's t of mean 0.

    With 4 + 6 / kurtosis degrees of freedom it has this excess kurtosis, > 0.

    Parameters
    ----------
    value, variance, kurtosis : float
    half_step : float
        Half the distance of neighbouring values of a discrete statistic (continuity correction).
    """
    df = 4 + 6 / kurtosis
    scale = math.sqrt(df / (df - 2) / variance)
    below = scipy.special.stdtr(df, (value + half_step) * scale)
    above = scipy.special.stdtr(df, (half_step - value) * scale)
    return float(below), float(above)


def _standard_cdf(z: float, skewness: float) -> float:
    """Return P(Z <= z) for the type III law with mean 0 and variance 1."""
    if skewness == 0 or 4 / skewness**2 > _NORMAL_SHAPE:
        return float(scipy.special.ndtr(z))
    shape = 4 / skewness**2
    if skewness > 0:
        x = shape + z * math.sqrt(shape)
        return gamma_cdf(shape, x) if x > 0 else 0.0
    x = shape - z * math.sqrt(shape)
    return gamma_sf(shape, x) if x > 0 else 1.0


def poisson_cdf(count: int, mean: float) -> float:
    """Return P(X <= count) for X ~ Poisson(mean)."""
    return gamma_sf(count + 1.0, mean)


def poisson_sf(count: int, mean: float) -> float:
    """Return P(X >= count), the count itself included, for X ~ Poisson(mean)."""
    return 1.0 if count == 0 else gamma_cdf(float(count), mean)


def chi2_sf(statistic: float, df: int) -> float:
    """Return P(chi2_df > statistic)."""
    return gamma_sf(df / 2, statistic / 2)


def anderson_darling_sf(statistic: float, n: int) -> float:
    """Return P(A2 > statistic) for n uniforms."""
    if n == 1:
        # A2 = -1 - ln(u (1 - u)) can be solved for u; x / (1 + sqrt(1 - x)) is 1 - sqrt(1 - x).
        x = min(1.0, 4 * math.exp(-1 - statistic))
        return x / (1 + math.sqrt(1 - x))
    if n < _EXACT_EDGE and statistic < 9:
        # Below 16 offsets the correction is off by up to 0.01, and the tail formula by 4e-4.
        return min(1.0, max(0.0, 1 - _anderson_darling_small_cdf(statistic, n)))
    if statistic > 6:
        # Leading term of the limiting law; exact enough, and free of 1 - cdf.
        return math.sqrt(3) * chi2_sf(2 * statistic, 1)
    limit = _anderson_darling_limit_cdf(statistic)
    return min(1.0, max(0.0, 1 - limit - _anderson_darling_correction(limit, n)))


def _anderson_darling_limit_cdf(z: float) -> float:
    """Return the limit for many observations of P(A2 < z); error below 1e-10 up to z = 6.

    Anderson and Darling (1952), doi:10.1214/aoms/1177729437: with t = (4 j + 1)**2 pi**2 / (8 z),
    P = sqrt(2 pi) / z sum_j binom(-1/2, j) (4 j + 1) exp(-t)
    int_0^inf exp(z / (8 (w**2 + 1)) - t w**2) dw, the integral by quadrature.
    """
    if z < 0.01:
        return 0.0
    nodes, node_weights = _quadrature(200)
    total, factor = 0.0, 1.0
    for j in range(100):
        t = (4 * j + 1) ** 2 * math.pi**2 / (8 * z)
        if t > 700:
            break
        end = math.sqrt(40 / t)  # exp(-40) of the peak and less is left out
        w = end * (nodes + 1) / 2
        values = np.exp(z / (8 * (w**2 + 1)) - t * w**2)
        integral = end / 2 * float(np.sum(node_weights * values))
        total += factor * (4 * j + 1) * math.exp(-t) * integral
        factor *= -(j + 0.5) / (j + 1)
    return math.sqrt(2 * math.pi) / z * total


def _anderson_darling_small_cdf(z: float, n: int) -> float:
    """Return P(A2 < z) for n from 2 to 15 uniforms; error below 1e-5 (n = 2: 3e-5).

    A2 + n is a sum of functions h_i of the ordered u_i, so that
    E exp(-p A2) = n! int_(u_1 < ... < u_n) prod exp(-p (h_i(u_i) - 1)) du is one running integral
    after another. It is inverted by the Euler method of Abate and Whitt (1995), ORSA J. Comput. 7,
    36, doi:10.1287/ijoc.7.1.36.
    """
    if z < 0.05:
        return 0.0
    # The density jumps at its lower end for n = 2: the series converges slowly there.
    n_terms, step = (100, 0.01) if n == 2 else (40, 0.03)
    n_averaged = 15
    k = np.arange(n_terms + n_averaged)
    p = (22 + 2j * math.pi * k[:, None]) / (2 * z)
    # The grid is even in logit(u), du = u (1 - u) dlogit: both ends are then far away and smooth.
    logit = np.arange(-25, 25, step)
    log_u, log_v = -np.logaddexp(0, -logit), -np.logaddexp(0, logit)
    running = np.ones((k.size, logit.size), dtype=np.complex128)
    for i in range(1, n + 1):
        h = -((2 * i - 1) * log_u + (2 * n + 1 - 2 * i) * log_v) / n
        f = i * step * running * np.exp(log_u + log_v - p * (h - 1))
        # Cubic through four neighbours; nothing happens in the outermost steps.
        parts = (13 * (f[:, 1:-2] + f[:, 2:-1]) - f[:, :-3] - f[:, 3:]) / 24
        running = np.zeros_like(f)
        running[:, 2:-1] = np.cumsum(parts, axis=1)
        running[:, -1] = running[:, -2]
    terms = (-1.0) ** k * (running[:, -1] / p[:, 0]).real
    terms[0] /= 2
    averages = scipy.special.binom(n_averaged - 1, np.arange(n_averaged)) / 2 ** (n_averaged - 1)
    return math.exp(11) / z * float(np.dot(averages, np.cumsum(terms)[-n_averaged:]))


def _anderson_darling_correction(x: float, n: int) -> float:
    """Return what to add to the limiting P(A2 < z) = x for n observations.

    The polynomials fitted by Marsaglia and Marsaglia (2004), doi:10.18637/jss.v009.i02.
    """
    if x > 0.8:
        c = (-130.2137, 745.2337, -1705.091, 1950.646, -1116.360, 255.7844)
        return float(np.polynomial.polynomial.polyval(x, c)) / n
    edge = 0.01265 + 0.1757 / n
    if x < edge:
        t = x / edge
        shape = math.sqrt(t) * (1 - t) * (49 * t - 102)
        return shape * (0.0037 / n**2 + 0.00078 / n + 0.00006) / n
    t = (x - edge) / (0.8 - edge)
    c = (-0.00022633, 6.54034, -14.6538, 14.458, -8.259, 1.91864)
    return float(np.polynomial.polynomial.polyval(t, c)) * (0.04213 + 0.01365 / n) / n


def noncentral_t_cdf(t: float, df: int, shift: float) -> float:
    """Return P(T <= t), t > 0, for T = (Z + shift) / W, Z normal, W**2 = chi2_df / df.

    scipy.stats.nct gives NaN at large noncentrality, so the defining integral is done here, over
    whichever of Z and W is the wider in units of the other; the inner law is then smooth.
    """
    nodes, node_weights = _quadrature(300)
    if 2 * df < t * t:
        # Over Z: P(W >= (Z + shift) / t), which is 1 where Z < -shift.
        low, high = max(-shift, -15.0), 15.0
        z = (high - low) / 2 * nodes + (high + low) / 2
        density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi) * (high - low) / 2
        inner = scipy.special.gammaincc(df / 2, df / 2 * ((z + shift) / t) ** 2)
        return float(scipy.special.ndtr(-shift)) + float(np.sum(node_weights * density * inner))
    # Over W: P(Z <= t W - shift). The density is scaled to sum 1, so its constant drops out.
    low = math.sqrt(2 * float(scipy.special.gammaincinv(df / 2, 1e-35)) / df)
    high = math.sqrt(2 * float(scipy.special.gammainccinv(df / 2, 1e-35)) / df)
    w = (high - low) / 2 * nodes + (high + low) / 2
    logs = (df - 1) * np.log(w) - df * (w - 1) * (w + 1) / 2
    density = node_weights * np.exp(logs - logs.max())
    return float(np.sum(density * scipy.special.ndtr(t * w - shift)) / np.sum(density))
