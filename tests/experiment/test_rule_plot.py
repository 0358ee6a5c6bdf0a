"""The pictures of how criteria decide: one for every kind, and true to how it decides."""

from __future__ import annotations

import pytest

from fleetsim.base.verdict import Verdict
from fleetsim.experiment import rule_plot
from fleetsim.experiment.criterion import CriterionKind, Rule, by_intervals
from fleetsim.experiment.kind import kinds
from fleetsim.experiment.rule_plot import rule_figure

CRITERIA = {
    f"{kind}.{name}": (name, found)
    for kind, experiment in kinds().items()
    for name, found in experiment.criteria().items()
}


@pytest.mark.parametrize("name", CRITERIA)
def test_every_kind_of_criterion_has_a_rule_that_fits_its_limits(name: str) -> None:
    """A rule speaks of limits that the kind has, and of no others."""
    _, kind = CRITERIA[name]
    assert kind.rule is not None
    limits = {*kind.limits, *kind.optional}
    for limit in ("low", "high", "tolerance"):
        if f"`{limit}`" in kind.rule:
            assert limit in limits
    if kind.rule in (Rule.WITHIN, Rule.INTERVAL_HOLDS_ONE):
        assert limits == {"low", "high"}


@pytest.mark.parametrize("rule", Rule)
def test_every_rule_has_a_picture_with_what_passes_and_what_fails(rule: Rule) -> None:
    """Cases without another reason lie where the rule puts them."""
    scene = rule_plot._SCENES[rule]
    verdicts = {case.verdict for case in scene.cases}
    assert {Verdict.PASS, Verdict.FAIL} <= verdicts
    assert (Verdict.INCONCLUSIVE in verdicts) == ("inconclusive" in rule)
    low = float("-inf") if scene.low is None else scene.low
    high = float("inf") if scene.high is None else scene.high
    for case in scene.cases:
        if case.text or rule is Rule.LIMIT_ABOVE:
            continue
        if case.reach:
            ends = [(case.at - case.reach, case.at + case.reach)]
            assert by_intervals(ends, low=scene.low, high=scene.high)[0] == case.verdict
        else:
            assert (low <= case.at <= high) == (case.verdict == Verdict.PASS)


def test_a_picture_says_in_words_what_it_shows() -> None:
    """The alt text has the rule and every case; the axis has the unit."""
    name, kind = CRITERIA["baseline.memory_peak"]
    figure, alt = rule_figure(name, kind)
    assert str(kind.rule) in alt
    assert "pass at 0.35" in alt
    (ax,) = figure.axes
    assert ax.get_xlabel() == "worst value [MB]"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["pass", "fail"]


def test_a_kind_with_a_rule_of_its_own_has_no_picture() -> None:
    """A kind from outside need not have one of these rules."""
    own = CriterionKind("it is so", (), lambda c, e: None, lambda c, e: None)
    with pytest.raises(ValueError, match="a rule of its own"):
        rule_figure("mine", own)
