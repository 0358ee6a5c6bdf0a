"""What the evidence says of a claim: words that records, tables and lists of runs share."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """What the evidence says of a criterion or a test; `NONE` where nothing was judged."""

    PASS = "pass"  # noqa: S105 (no password)
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NONE = ""


#: The verdicts of what was judged, in the order of all tables.
VERDICTS = (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)
