"""What a criterion is: a claim with its limits, and what is found when it is judged."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

__all__ = ["Criterion", "Judgement", "Verdict"]


class Verdict(StrEnum):
    """What the evidence says of a criterion."""

    PASS = "pass"  # noqa: S105 (no password)
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


_TEXT = {"allowed": "text"}
_NUMBER = {"allowed": "a number"}


def _text(what: str) -> Any:
    return Annotated[str, Meta(min_length=1, description=what, extra=_TEXT)]


def _limit(what: str) -> Any:
    return Annotated[float | None, Meta(description=what, extra=_NUMBER)]


class Criterion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One claim of an experiment.

    `low` and `high` are limits in `unit`; `tolerance` is a fraction of what the model expects;
    `stated` is the expectation as the source words it; `method` says how it is measured.
    """

    id: _text("unique name")  # type: ignore[valid-type]
    kind: _text("what is claimed; see the table of kinds")  # type: ignore[valid-type]
    title: _text("heading in the report")  # type: ignore[valid-type]
    stated: _text("the expectation as its source words it")  # type: ignore[valid-type]
    low: _limit("lower limit") = None  # type: ignore[valid-type]
    high: _limit("upper limit") = None  # type: ignore[valid-type]
    tolerance: _limit("fraction of what the model expects") = None  # type: ignore[valid-type]
    unit: Annotated[str, Meta(description="of limits and observation", extra=_TEXT)] = ""
    method: _text("how it is measured")  # type: ignore[valid-type]


@dataclass(frozen=True)
class Judgement:
    """What was observed, between which limits it should lie, and what follows."""

    observed: float | bool | None
    verdict: Verdict
    note: str
    low: float | None = None
    high: float | None = None
