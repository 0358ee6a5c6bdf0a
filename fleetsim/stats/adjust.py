"""Adjusted p-values of a family of tests."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fleetsim.stats.arguments import Floats, floats


def _p_values(values: npt.ArrayLike) -> Floats:
    """Return `values` as a float64 array of probabilities; it may be empty."""
    array = np.asarray(values)
    if array.ndim == 1 and array.size == 0:
        return np.zeros(0)
    p = floats("p_values", array)
    bad = np.flatnonzero((p < 0) | (p > 1))
    if bad.size:
        raise ValueError(f"p_values: value {bad[0]} is {p[bad[0]]}, must be from 0 to 1")
    return p


def holm(p_values: npt.ArrayLike) -> Floats:
    """Return Holm's adjusted p-values: those below alpha reject with familywise error alpha.

    Parameters
    ----------
    p_values : float array (n,)
        Raw p-values of one family, from 0 to 1; it may be empty.

    Returns
    -------
    float64 array (n,)
        Adjusted p-values in the order given.

    Raises
    ------
    ValueError
        If a value is NaN or outside [0, 1].

    References
    ----------
    Holm (1979), Scand. J. Stat. 6, 65. https://www.jstor.org/stable/4615733
    """
    p = _p_values(p_values)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    return np.minimum(adjusted, 1.0)


def benjamini_hochberg(p_values: npt.ArrayLike) -> Floats:
    """Return Benjamini and Hochberg's adjusted p-values, which bound the false discovery rate.

    Parameters
    ----------
    p_values : float array (n,)
        Raw p-values of one family, from 0 to 1; it may be empty.

    Returns
    -------
    float64 array (n,)
        Adjusted p-values in the order given.

    Raises
    ------
    ValueError
        If a value is NaN or outside [0, 1].

    References
    ----------
    Benjamini and Hochberg (1995), J. R. Stat. Soc. B 57, 289.
    doi:10.1111/j.2517-6161.1995.tb02031.x
    """
    from scipy.stats import false_discovery_control  # slow to import, and needed here only

    p = _p_values(p_values)
    adjusted: Floats = false_discovery_control(p) if p.size else p
    return adjusted
