"""What a reconciliation finds: figures, the balance of lines, and the first wrong lines."""

from __future__ import annotations

from typing import Any

import msgspec

#: The outcomes of a line, in the order of the report.
OUTCOMES = (
    "accepted",
    "accepted twice",
    "altered",
    "rejected",
    "accepted and rejected",
    "unaccounted",
)
#: What stands in `WrongLine.outcome` for rows that belong to no line.
UNEXPECTED, SURPLUS = "unexpected", "surplus rejection"
#: The name of lines without a defect in figures by kind.
CLEAN = "clean"
#: The kind of a cut line at the end of a delivery.
FRAGMENT = "fragment"

#: The six values of an accepted row, by name; times are in UTC.
Came = dict[str, str | None]


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """Delivered lines by what became of them; the four sum to the lines that were delivered.

    Attributes
    ----------
    accepted : int
        Lines that an accepted row stands for.
    deduplicated : int
        Lines whose bytes were accepted or refused once already.
    rejected : int
        Lines that a refusal stands for.
    unaccounted : int
        Lines that nothing stands for.
    doubles : int
        Accepted rows beyond the lines of their bytes.
    unexpected : int
        Accepted rows of no delivered record.
    surplus_rejections : int
        Refusals beyond the lines of their bytes, or of no delivered line.
    """

    accepted: int
    deduplicated: int
    rejected: int
    unaccounted: int
    doubles: int
    unexpected: int
    surplus_rejections: int


class WrongLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line with a wrong outcome, or a row of no line.

    Attributes
    ----------
    batch_id : str or None
        None, as `delivery` and `line`, for rows of no line.
    delivery, line : int or None
        From 1.
    event_id : str or None
        Of the record as it would have been.
    kind : str or None
        The defect; None for a clean line.
    expect : str or None
        What a right ingestion does with the line.
    outcome : str
        One of `OUTCOMES`, `UNEXPECTED` or `SURPLUS`.
    reason : str or None
        As the pipeline gave it.
    text : str or None
        The line, cut at 500 bytes, other bytes than printable ASCII escaped by a backslash.
    field, original, injected : JSON value
        From the ledger.
    came_out : dict or None
        The accepted row's six values.
    """

    batch_id: str | None
    delivery: int | None
    line: int | None
    event_id: str | None
    kind: str | None
    expect: str | None
    outcome: str
    reason: str | None = None
    text: str | None = None
    field: str | None = None
    original: str | None = None
    injected: Any = None
    came_out: Came | None = None


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """What a pipeline made of the delivered lines.

    Attributes
    ----------
    delivered : int
        Lines, fragments among them.
    accepted_rows : int
    rejected_rows : int or None
        None where the pipeline reports no refusals.
    balance : Balance
    lost : int
        Records to be accepted that are in no accepted row.
    unexpected : int
        Accepted rows of no delivered record.
    duplicated : int
        Records that are accepted too often.
    altered : int
        Accepted rows whose values differ from the record's.
    must_reject : dict
        Lines that must be refused, by kind.
    refused : dict
        Those of them that were: refused and not accepted, or not accepted where the pipeline
        reports no refusals.
    refusals_right, refusals_all : int
        Refusals of lines that had to be refused, and all of them; those of lines with the
        expectation ``either``, of fragments and of copies of an accepted line are in neither.
    unaccounted : int
        Lines neither accepted nor refused, without those with the expectation ``either``.
    matrix : dict
        Lines by kind (``clean`` for none) and outcome.
    wrong : list of WrongLine
        The first ten of each kind and outcome that is wrong, in the order of their lines; then
        unexpected rows and surplus refusals.
    """

    delivered: int
    accepted_rows: int
    rejected_rows: int | None
    balance: Balance
    lost: int
    unexpected: int
    duplicated: int
    altered: int
    must_reject: dict[str, int]
    refused: dict[str, int]
    refusals_right: int
    refusals_all: int
    unaccounted: int
    matrix: dict[str, dict[str, int]]
    wrong: list[WrongLine]
