"""What a criterion is: a claim with its limits, and what is found when it is judged."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ["Criterion", "Judgement", "Verdict"]


class Verdict(StrEnum):
    """What the evidence says of a criterion."""

    PASS = "pass"  # noqa: S105 (no password)
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


_TEXT = {"allowed": "text"}
Text = Annotated[str, Meta(min_length=1, extra=_TEXT)]
Limit = Annotated[float | None, Meta(extra={"allowed": "a number"})]


class Criterion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One claim of an experiment.

    `low` and `high` are limits in `unit`; `tolerance` is a fraction of what the model expects;
    `stated` is the expectation as the source words it; `method` says how it is measured.
    """

    id: Text
    kind: Text
    title: Text
    stated: Text
    low: Limit = None
    high: Limit = None
    tolerance: Limit = None
    unit: Annotated[str, Meta(extra=_TEXT)] = ""
    method: Text


@dataclass(frozen=True)
class Judgement:
    """What was observed, between which limits it should lie, and what follows."""

    observed: float | bool | None
    verdict: Verdict
    note: str
    low: float | None = None
    high: float | None = None
