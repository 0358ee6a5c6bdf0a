"""What a criterion is: a claim with its limits, and what is found when it is judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta

from fleetsim.base.strict import text
from fleetsim.base.tables import number, with_unit
from fleetsim.base.verdict import Verdict as Verdict  # kinds from outside take it from here
from fleetsim.experiment.expectation import Expectation
from fleetsim.experiment.prospects import Prospect

MB = 1e6  # bytes
CLAIMED = "; claimed "  # between what was observed and its limits


def _limit(what: str) -> Meta:
    return Meta(description=what, extra={"allowed": "a number"})


def _word(what: str) -> Meta:
    return Meta(description=what, extra={"allowed": "text"})


class Criterion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One claim of an experiment.

    `low` and `high` are limits in `unit`; `tolerance` is a fraction of what the model expects;
    `stated` is the expectation as the source words it; `method` says how it is measured. `defect`
    and `quantity` narrow down what some kinds of criteria look at. What is not given, its kind has
    words for (`worded`).
    """

    id: Annotated[str, text("unique name")]
    kind: Annotated[str, text("what is claimed; see the table of kinds")]
    title: Annotated[str, text("heading in the report; by default what its kind claims")] = ""
    stated: Annotated[
        str, text("the expectation as its source words it; by default the limits")
    ] = ""
    low: Annotated[float | None, _limit("lower limit")] = None
    high: Annotated[float | None, _limit("upper limit")] = None
    tolerance: Annotated[float | None, _limit("fraction of what the model expects")] = None
    defect: Annotated[str | None, _word("the only kind of injected defects to look at")] = None
    quantity: Annotated[str | None, _word("what grows: time, cpu or memory")] = None
    unit: Annotated[
        str,
        Meta(
            description="of limits and observation; by default that of its kind",
            extra={"allowed": "text"},
        ),
    ] = ""
    method: Annotated[str, text("how it is measured; by default as its kind says")] = ""


@dataclass(frozen=True)
class Judgement:
    """What was observed, between which limits it should lie, and what follows.

    `note` says why in full sentences, `brief` in a phrase of some ten words; by default that is
    what was observed beside its limits.
    """

    observed: float | bool | None
    verdict: Verdict
    note: str
    low: float | None = None
    high: float | None = None
    brief: str = ""


def brief_of(judgement: Judgement, unit: str) -> str:
    """Return why a criterion has its verdict, as a phrase; "" where yes or no says it all."""
    observed, low, high = judgement.observed, judgement.low, judgement.high
    if judgement.brief or observed is None or isinstance(observed, bool):
        return judgement.brief
    found = with_unit(observed, unit, digits=3)
    if low and high is not None:
        return f"{found}{CLAIMED}{number(low)} to {number(high)}"
    if high:
        return f"{found}{CLAIMED}below {number(high)}"
    return f"{found}{CLAIMED}above {number(low)}" if low else found


def undecided(why: str, low: float | None, high: float | None) -> Judgement:
    """Return a judgement that says why there is no verdict."""
    return Judgement(None, Verdict.INCONCLUSIVE, f"No verdict: {why}.", low, high)


def by_intervals(
    intervals: Iterable[tuple[float, float]],
    *,
    low: float | None = None,
    high: float | None = None,
    missing: str = "",
) -> tuple[Verdict, str]:
    """Decide a claim about estimates, which is one about their confidence intervals.

    It fails where a whole interval lies beyond a limit, whatever else there is, and passes where
    all of them lie between the limits and nothing is missing.

    Parameters
    ----------
    intervals : iterable of (float, float)
        The ends of each interval.
    low, high : float, optional
        Limits; without one, that side is open.
    missing : str
        A sentence of what was not measured.

    Returns
    -------
    Verdict
    str
        The sentence, with a space before it, that says why there is neither pass nor fail.
    """
    ends = list(intervals)
    least = float("-inf") if low is None else low
    most = float("inf") if high is None else high
    if any(below > most or above < least for below, above in ends):
        return Verdict.FAIL, ""
    if missing:
        return Verdict.INCONCLUSIVE, f" {missing}"
    if all(least < below and above < most for below, above in ends):
        return Verdict.PASS, ""
    if low is not None and high is not None:
        return Verdict.INCONCLUSIVE, f" An interval reaches out of {low:g} to {high:g}."
    beyond = f"above {high:g}" if high is not None else f"below {low:g}"
    return Verdict.INCONCLUSIVE, f" The interval reaches {beyond}."


class ReadBack(Protocol):
    """A batch that was read back, beside what its record and its streams say of it."""

    @property
    def as_recorded(self) -> bool:
        """Whether it is what its record says."""
        ...

    @property
    def counted(self) -> int:
        """The events that its streams give."""
        ...

    @property
    def lines(self) -> int:
        """Its lines."""
        ...

    @property
    def sha256(self) -> str:
        """The hash of its content."""
        ...


def by_contents(batches: Sequence[tuple[Hashable, str, ReadBack]], well: str) -> Judgement:
    """Decide whether batches are as recorded, with no event too few, and alike where they must be.

    Parameters
    ----------
    batches : sequence of (hashable, str, ReadBack)
        Each with what it has in common with those of the same content, and its name.
    well : str
        What to say where all is well.
    """
    if not batches:
        return undecided("nothing ran", None, None)
    first: dict[Hashable, str] = {}
    faults = []
    for group, name, batch in batches:
        if not batch.as_recorded:
            faults.append(f"{name} is not what its record says")
        elif batch.lines != batch.counted:
            faults.append(f"{name} has {batch.lines} lines, the streams give {batch.counted}")
        elif batch.sha256 != first.setdefault(group, batch.sha256):
            faults.append(f"{name} has other bytes than the first")
    if faults:
        note = f"{len(faults)} of {len(batches)} batches: {faults[0]}."
        return Judgement(float(len(faults)), Verdict.FAIL, note, None, 0.0)
    return Judgement(0.0, Verdict.PASS, well, None, 0.0)


class Rule(StrEnum):
    """How a kind of criterion decides: what passes, what fails, and what is left open.

    Its value says it in a sentence, with the names of the limits.
    """

    NONE_WRONG = (
        "What is wrong is counted. It passes where nothing is, and is inconclusive where there was "
        "nothing to look at, or too little."
    )
    FEW_WRONG = (
        "What is wrong is counted. It passes up to `high`, which is 0 where it is not given, and "
        "is inconclusive where there was nothing to look at."
    )
    BELOW = "The worst measured value passes below `high`, and fails above it."
    ABOVE = "The observed value passes from `low` on, and fails below it."
    WITHIN = "The observed value passes from `low` to `high`, and fails outside."
    TOLERANCE = (
        "The observed value passes within `tolerance` of what the configuration expects, and fails "
        "outside."
    )
    COUNT_TEST = (
        "The observed count passes within `tolerance` of what the configuration expects, where the "
        "exact test does not reject either; else it fails."
    )
    SHARES_TEST = (
        "It fails where chi-square rejects. It passes where it does not and the 90 % interval of "
        "every share lies within `tolerance` of its weight, and is inconclusive where one reaches "
        "out."
    )
    TESTS = (
        "It fails where any test has an adjusted p below the level of all of them (Holm), and is "
        "inconclusive where none does but some could not be made."
    )
    INTERVAL_BELOW = (
        "The interval decides, not the value: it passes wholly below `high`, fails wholly above "
        "it, and is inconclusive where it reaches across."
    )
    INTERVAL_ABOVE = (
        "The interval decides, not the value: it passes wholly above `low`, fails wholly below it, "
        "and is inconclusive where it reaches across."
    )
    LIMIT_ABOVE = "The lower end of the interval passes above `low`; else it fails."
    INTERVAL_WITHIN = (
        "The interval decides, not the value: it passes wholly between the limits, fails wholly "
        "outside, and is inconclusive where it reaches out."
    )
    INTERVAL_HOLDS_ONE = (
        "It fails where the 95 % interval does not hold 1. It passes where it does and lies wholly "
        "between the limits, and is inconclusive where it reaches out."
    )


@dataclass(frozen=True)
class CriterionKind:
    """A kind of criterion.

    Attributes
    ----------
    claim : str
        What a criterion of this kind claims, in a phrase.
    limits, optional : tuple of str
        Which of low, high and tolerance a criterion of this kind gives, and may give.
    unit, method : str
        Of a criterion that does not say its own.
    judge : callable
        Decides a criterion on the evidence of a run.
    rule : Rule or None
        How it decides, in the words and the picture of the documentation; None: by a rule of its
        own, which `method` says.
    a_priori : callable
        Probability that a fault-free generator passes; None where the machine decides.
    tests : tuple of str
        Tests that the verdict rests on.
    window : callable or None
        The range of event counts [events] that the criterion asks for, where it asks for one.
    window_text : callable or None
        The range in another unit, as a phrase, where the criterion states it in one.
    stated_range : bool
        Whether the claim itself states that range, so that another configuration could meet it.
    choices : mapping of str to tuple of str
        What a criterion of this kind may name besides, ``defect`` or ``quantity``, with the values.
    here : callable or None
        The claim in the figures of a configuration, as a phrase, where it depends on one.
    fault : callable or None
        What the experiment lacks for this criterion, as a phrase; "" where nothing is missing.
    prospect : callable or None
        What the criterion makes of the standard alternatives, and what to beware of; see
        `fleetsim.experiment.prospects`.
    """

    claim: str
    limits: tuple[str, ...]
    judge: Callable[[Criterion, Any], Judgement]
    a_priori: Callable[[Criterion, Expectation], float | None]
    tests: tuple[str, ...] = ()
    window: Callable[[Criterion, Expectation], tuple[float, float]] | None = None
    window_text: Callable[[float, float, Expectation], str] | None = None
    stated_range: bool = False
    unit: str = ""
    method: str = ""
    optional: tuple[str, ...] = ()
    rule: Rule | None = None
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    here: Callable[[Criterion, Expectation], str] | None = None
    fault: Callable[[Criterion, Any], str] | None = None
    prospect: Callable[[Criterion, Any], Prospect] | None = None


def worded(criterion: Criterion, kind: CriterionKind) -> Criterion:
    """Return a criterion with the words of its kind where it has none of its own."""
    unit = criterion.unit or kind.unit
    return msgspec.structs.replace(
        criterion,
        title=criterion.title or kind.claim[:1].upper() + kind.claim[1:],
        stated=criterion.stated or _limits_text(criterion, unit),
        unit=unit,
        method=criterion.method or kind.method or kind.claim,
    )


def _limits_text(criterion: Criterion, unit: str) -> str:
    """Return what a criterion expects, by its limits alone."""
    low, high, tolerance = criterion.low, criterion.high, criterion.tolerance
    if tolerance is not None:
        return f"within ±{100 * tolerance:g} % of what the configuration expects"
    if low is not None and high is not None:
        return f"{number(low)} to {with_unit(high, unit)}"
    if low is not None:
        return f"at least {with_unit(low, unit)}"
    return "yes" if high is None else f"at most {with_unit(high, unit)}"


def certain(criterion: Criterion, expectation: Expectation) -> float:
    """Return the chance of what a fault-free run always passes."""
    return 1.0


def measured(criterion: Criterion, expectation: Expectation) -> None:
    """Return the chance of what the machine decides and no model says."""
    return None


def limits_of(criterion: Criterion) -> tuple[float, float]:
    """Return the lower and the upper limit; a missing one is 0 or infinite."""
    return criterion.low or 0.0, math.inf if criterion.high is None else criterion.high
