"""The picture of how a kind of criterion decides: what passes, what fails, what is left open."""

from __future__ import annotations

from dataclasses import dataclass, replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fleetsim.base.verdict import Verdict
from fleetsim.experiment.criterion import CriterionKind, Rule
from fleetsim.experiment.figures import DARK, LIGHT, SIGNAL, titled_figure

_SIZE = (6.4, 2.1)  # inches
_MARKS = {Verdict.PASS: ("o", DARK), Verdict.INCONCLUSIVE: ("D", DARK), Verdict.FAIL: ("X", SIGNAL)}


@dataclass(frozen=True)
class _Case:
    """One outcome: a value, the ends of its interval if it has one, and what follows."""

    verdict: Verdict
    at: float
    reach: float = 0.0
    text: str = ""


@dataclass(frozen=True)
class _Scene:
    """What a rule looks like on an axis from 0 to 1: the range that passes, its ends, cases."""

    low: float | None
    high: float | None
    names: tuple[str, ...]
    cases: tuple[_Case, ...]
    axis: str


_P, _F, _I = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
_COUNTED = (
    _Case(_P, 0.06),
    _Case(_I, 0.5, text="nothing was looked at"),
    _Case(_F, 0.62, text="some are wrong"),
)
_TOLERANCE = ("expected − tolerance", "expected + tolerance")
_SCENES: dict[Rule, _Scene] = {
    Rule.NONE_WRONG: _Scene(None, 0.12, ("0",), _COUNTED, "what is wrong"),
    Rule.FEW_WRONG: _Scene(None, 0.25, ("high",), _COUNTED, "what is wrong"),
    Rule.BELOW: _Scene(None, 0.6, ("high",), (_Case(_P, 0.35), _Case(_F, 0.8)), "worst value"),
    Rule.ABOVE: _Scene(0.6, None, ("low",), (_Case(_P, 0.8), _Case(_F, 0.35)), "observed"),
    Rule.WITHIN: _Scene(0.3, 0.7, ("low", "high"), (_Case(_P, 0.5), _Case(_F, 0.85)), "observed"),
    Rule.TOLERANCE: _Scene(0.3, 0.7, _TOLERANCE, (_Case(_P, 0.5), _Case(_F, 0.85)), "observed"),
    Rule.COUNT_TEST: _Scene(
        0.3,
        0.7,
        _TOLERANCE,
        (
            _Case(_P, 0.5),
            _Case(_F, 0.62, text="inside, but the exact test rejects"),
            _Case(_F, 0.85),
        ),
        "observed",
    ),
    Rule.SHARES_TEST: _Scene(
        0.3,
        0.7,
        ("weight − tolerance", "weight + tolerance"),
        (
            _Case(_P, 0.52, 0.1, "90 % interval of the share"),
            _Case(_I, 0.62, 0.16, "the interval reaches out"),
            _Case(_F, 0.6, 0.06, "inside, but chi-square rejects"),
        ),
        "share of a type",
    ),
    Rule.TESTS: _Scene(
        0.25,
        None,
        ("alpha",),
        (
            _Case(_P, 0.6, text="of every test"),
            _Case(_I, 0.6, text="of those made; one could not be made"),
            _Case(_F, 0.12, text="of at least one"),
        ),
        "smallest adjusted p",
    ),
    Rule.INTERVAL_BELOW: _Scene(
        None,
        0.6,
        ("high",),
        (_Case(_P, 0.4, 0.12), _Case(_I, 0.56, 0.12), _Case(_F, 0.8, 0.12)),
        "observed, with its interval",
    ),
    Rule.INTERVAL_ABOVE: _Scene(
        0.4,
        None,
        ("low",),
        (_Case(_P, 0.6, 0.12), _Case(_I, 0.44, 0.12), _Case(_F, 0.2, 0.12)),
        "observed, with its interval",
    ),
    Rule.LIMIT_ABOVE: _Scene(
        0.4,
        None,
        ("low",),
        (_Case(_P, 0.6, 0.12), _Case(_F, 0.44, 0.12), _Case(_F, 0.2, 0.12)),
        "observed, with its interval",
    ),
    Rule.INTERVAL_WITHIN: _Scene(
        0.3,
        0.7,
        ("low", "high"),
        (_Case(_P, 0.48, 0.12), _Case(_I, 0.66, 0.12), _Case(_F, 0.86, 0.1)),
        "observed, with its interval",
    ),
    Rule.INTERVAL_HOLDS_ONE: _Scene(
        0.3,
        0.7,
        ("low", "high"),
        (
            _Case(_P, 0.52, 0.1, "holds 1"),
            _Case(_I, 0.6, 0.16, "holds 1, reaches out"),
            _Case(_F, 0.62, 0.06, "does not hold 1"),
        ),
        "variance/mean, with its interval",
    ),
}


def rule_figure(name: str, kind: CriterionKind) -> tuple[Figure, str]:
    """Return the picture of how a kind of criterion decides, and its alt text.

    Places on the axis are examples: no figure stands for a limit of an experiment.

    Parameters
    ----------
    name : str
        Of the kind of criterion.
    kind : CriterionKind

    Raises
    ------
    ValueError
        Where it has a rule of its own.
    """
    if kind.rule is None:
        raise ValueError(f"{name} has a rule of its own, of which there is no picture")
    scene = _SCENES[kind.rule]
    if kind.rule is Rule.INTERVAL_WITHIN and "tolerance" in kind.limits:
        scene = replace(scene, names=("1 − tolerance", "1 + tolerance"))

    def fill(figure: Figure) -> str:
        _draw(figure.subplots(), scene, kind)
        told = ", ".join(
            f"{case.verdict} {'at' if not case.reach else 'with an interval around'} {case.at:g}"
            + (f" ({case.text})" if case.text else "")
            for case in scene.cases
        )
        return f"How {name} decides. {kind.rule} Examples on an axis from 0 to 1: {told}."

    return titled_figure(name, _SIZE, fill)


def _draw(ax: Axes, scene: _Scene, kind: CriterionKind) -> None:
    """Draw the range that passes, its limits, and a line for each case."""
    low = 0.0 if scene.low is None else scene.low
    high = 1.0 if scene.high is None else scene.high
    ax.axvspan(low, high, color=LIGHT, lw=0)
    ends = [end for end in (scene.low, scene.high) if end is not None]
    for end in ends:
        ax.axvline(end, color=DARK, lw=1)
    if kind.rule is Rule.INTERVAL_HOLDS_ONE:
        ax.axvline(0.5, color=DARK, lw=1, ls="--")
        ends, names = [*ends, 0.5], [*scene.names, "1"]
    else:
        names = [*scene.names]
    for row, case in enumerate(scene.cases):
        mark, colour = _MARKS[case.verdict]
        if case.reach:
            ax.plot([case.at - case.reach, case.at + case.reach], [row, row], color=colour, lw=2)
        if case.text != "nothing was looked at":
            ax.plot([case.at], [row], mark, color=colour, ms=7)
        beside = case.at + max(case.reach, 0.01) + 0.02
        ax.text(beside, row, case.text, va="center", fontsize=8.5)
    rows = range(len(scene.cases))
    ax.set_yticks(list(rows), [str(case.verdict) for case in scene.cases])
    ax.set(ylim=(len(scene.cases) - 0.5, -0.5), xlim=(0, 1.3))
    ax.set_xticks(ends, names)
    own = kind.rule in (Rule.TESTS, Rule.INTERVAL_HOLDS_ONE)  # their axis is no observation
    unit = f" [{kind.unit}]" if kind.unit and not own else ""
    ax.set_xlabel(f"{scene.axis}{unit}")
