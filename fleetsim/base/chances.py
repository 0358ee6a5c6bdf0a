"""Probabilities as words: one rule for every page, message and terminal.

Below one in a million the size says nothing to a reader that "less than one in a million" does not;
the figure itself stands in the record and in the folded tables of figures.
"""

from __future__ import annotations

RARE = 1e-6
_RARE_WORDS = "< 1 in a million"


def percent(probability: float) -> str:
    """Return a probability as a percentage: 3.1 %, 99.98 %, < 1 in a million, > 99.9999 %."""
    if probability == 1:
        return "100 %"
    if probability < RARE:
        return _RARE_WORDS
    if probability > 1 - RARE:
        return "> 99.9999 %"
    if probability > 0.99:  # what lacks to certainty has two digits
        lacking = f"{100 * (1 - probability):.1e}"
        decimals = 1 - int(lacking.partition("e")[2])
        return f"{100 * probability:.{max(decimals, 0)}f} %"
    return f"{100 * probability:.3g} %"


def p_text(p_value: float, holm: float | None = None) -> str:
    """Return a p-value in a sentence, with that after Holm's adjustment where there is one."""
    said = f"p {_related(p_value)}"
    return said if holm is None else f"{said}, adjusted p (Holm) {_related(holm)}"


def _related(p_value: float) -> str:
    return _RARE_WORDS if p_value < RARE else f"= {p_value:.3g}"


def p_figure(p_value: float | None) -> str:
    """Return a p-value in a table of figures, which never shows 0."""
    if p_value is None:
        return "–"
    return f"{p_value:.3g}" if p_value >= 1e-300 else "< 1e-300"
