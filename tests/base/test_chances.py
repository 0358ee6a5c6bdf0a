"""Probabilities as words: never 0, never 1 minus something, always a percentage."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetsim.base.chances import p_figure, p_text, percent


@pytest.mark.parametrize(
    ("probability", "text"),
    [
        (0.0, "< 1 in a million"),
        (3.7e-59, "< 1 in a million"),
        (9.99e-7, "< 1 in a million"),
        (1e-6, "0.0001 %"),
        (0.0312, "3.12 %"),
        (0.5, "50 %"),
        (0.9989, "99.89 %"),
        (0.99998, "99.9980 %"),
        (1 - 3.6e-9, "> 99.9999 %"),
        (1.0, "100 %"),
    ],
)
def test_a_probability_is_a_percentage(probability: float, text: str) -> None:
    """What lacks to certainty keeps two digits."""
    assert percent(probability) == text


@given(st.floats(0, 1))
def test_no_near_certainty_is_rounded_to_one(probability: float) -> None:
    """Nor is a rare one rounded to nothing, and none is in scientific notation."""
    text = percent(probability)
    assert (text == "100 %") == (probability == 1)
    assert "e-" not in text
    assert re.fullmatch(r"(> |)[0-9.]+ %|< 1 in a million", text)
    assert not re.fullmatch(r"0(\.0*)? %", text)


def test_a_p_value_in_a_sentence_and_in_a_table() -> None:
    """A sentence says that it is small; a table of figures has the figure."""
    assert p_text(0.0312) == "p = 0.0312"
    assert p_text(1e-12, 3e-11) == "p < 1 in a million, adjusted p (Holm) < 1 in a million"
    assert [p_figure(p) for p in (None, 0.0, 1e-12, 0.5)] == ["–", "< 1e-300", "1e-12", "0.5"]
