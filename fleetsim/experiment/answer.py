"""The answer of a run: what its verdicts say of the hypothesis, in a sentence or two."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from fleetsim.base.verdict import Verdict

_LISTED = 3  # criteria that are told one by one


class Outlook(StrEnum):
    """What becomes of a hypothesis."""

    SUPPORTED = "supported"
    NOT_SUPPORTED = "not supported"
    PARTLY = "partly"
    OPEN = "open"


#: How a text begins that tells it.
_FIRST_WORDS = {
    Outlook.SUPPORTED: "Supported.",
    Outlook.NOT_SUPPORTED: "Not supported.",
    Outlook.PARTLY: "Partly supported.",
    Outlook.OPEN: "Open.",
}
_SAID = {Verdict.PASS: "yes", Verdict.FAIL: "no", Verdict.INCONCLUSIVE: "not decided"}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a run says of its hypothesis.

    Attributes
    ----------
    verdict : Outlook
    text : str
        The reasons, in a sentence or two.
    """

    verdict: Outlook
    text: str

    @property
    def first_words(self) -> str:
        """The verdict as a sentence."""
        return _FIRST_WORDS[self.verdict]

    def __str__(self) -> str:
        return f"{self.first_words} {self.text}".rstrip()


class Judged(Protocol):
    """A criterion with its verdict."""

    @property
    def id(self) -> str:
        """Its unique name."""
        ...

    @property
    def title(self) -> str:
        """What it is about."""
        ...

    @property
    def verdict(self) -> Verdict:
        """What became of it."""
        ...

    @property
    def brief(self) -> str:
        """Its reason as a phrase; "" where yes or no says it all."""
        ...


def outlook(verdicts: Sequence[Verdict]) -> Outlook:
    """Return what becomes of a hypothesis that rests on criteria with these verdicts.

    It is supported where all of them pass, and not where at least one fails and none passes; where
    some pass and some fail, it is so in part. Otherwise it is open.
    """
    passed, failed = Verdict.PASS in verdicts, Verdict.FAIL in verdicts
    if passed and failed:
        return Outlook.PARTLY
    if failed:
        return Outlook.NOT_SUPPORTED
    if passed and Verdict.INCONCLUSIVE not in verdicts:
        return Outlook.SUPPORTED
    return Outlook.OPEN


def answer_of(criteria: Sequence[Judged], rests_on: Sequence[str] = (), text: str = "") -> Answer:
    """Return the answer of a run.

    Parameters
    ----------
    criteria : sequence of Judged
        All of the run.
    rests_on : sequence of str
        Ids of those that the hypothesis rests on; empty for all.
    text : str
        The reasons, where the kind of experiment has better words than the criteria.
    """
    rows = [row for row in criteria if not rests_on or row.id in rests_on]
    return Answer(verdict=outlook([row.verdict for row in rows]), text=text or _reasons(rows))


def known_answer(
    answer: Answer | None, criteria: Sequence[Judged], completed: bool
) -> Answer | None:
    """Return the answer of a run; a record of before there were answers has it in its verdicts."""
    return answer_of(criteria) if answer is None and completed else answer


def _reasons(rows: Sequence[Judged]) -> str:
    """Return the reasons: each of a few criteria, or of many those that did not pass."""
    if len(rows) <= _LISTED:
        return " ".join(map(_reason, rows))
    passed = [row for row in rows if row.verdict == Verdict.PASS]
    if len(passed) == len(rows):
        return f"All {len(rows)} claims hold."
    # A failed one says more than one that was not decided.
    others = sorted((row for row in rows if row not in passed), key=_not_failed)
    said = [f"{len(passed)} of {len(rows)} claims hold.", *map(_reason, others[:_LISTED])]
    if (more := len(others) - _LISTED) > 0:
        said.append(f"{more} more do not hold or are not decided.")
    return " ".join(said)


def _not_failed(row: Judged) -> bool:
    return row.verdict != Verdict.FAIL


def _reason(row: Judged) -> str:
    brief = f", {row.brief}" if row.brief else ""
    return f"{row.title}: {_SAID.get(row.verdict, 'not judged')}{brief}."
