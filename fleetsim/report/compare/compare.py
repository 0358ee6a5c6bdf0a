"""Compare two runs: what differs in them, by how much, and what is worse.

A is the baseline, B the run held against it. Data are read back from both runs' files; times,
memory and verdicts are those of the records.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fleetsim.base.errors import InputError, found
from fleetsim.report.compare.again import OPTION, Again, again_notes, again_rows, can_be_again
from fleetsim.report.compare.differences import (
    Difference,
    VerdictChange,
    differences,
    not_comparable,
    verdict_changes,
)
from fleetsim.report.compare.readback import WholeRun, read_back
from fleetsim.report.compare.rows import (
    TOLERANCE,
    Row,
    cost_rows,
    data_rows,
    judge_rows,
    other_work,
)
from fleetsim.stats.result import TestResult


@dataclass(frozen=True)
class Comparison:
    """What came of comparing two runs.

    Attributes
    ----------
    a, b : WholeRun
    alpha : float
        Level of all tests together.
    tolerance : float
        Fraction by which times and memory may grow before the gate closes.
    differences : tuple of Difference
    notes : tuple of str
        What is to be known of the comparison as a whole.
    rows : tuple of Row
    verdicts : tuple of VerdictChange
    findings : tuple of str
        What is worse in B, a sentence each; none keeps the gate open.
    again : Again or None
        Both runs measured again in turn; its figures stand in place of the records'.
    """

    a: WholeRun
    b: WholeRun
    alpha: float
    tolerance: float
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    rows: tuple[Row, ...]
    verdicts: tuple[VerdictChange, ...]
    findings: tuple[str, ...]
    again: Again | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as plain data, for ``--json``."""
        return {
            "a": _side(self.a),
            "b": _side(self.b),
            "alpha": self.alpha,
            "tolerance": self.tolerance,
            "differences": [
                {"group": d.group, "name": d.name, "a": d.a, "b": d.b} for d in self.differences
            ],
            "notes": list(self.notes),
            "rows": [_row(row) for row in self.rows],
            "verdicts": [
                {
                    "criterion": change.criterion,
                    "a": change.a or None,
                    "b": change.b or None,
                    "worse": change.worse,
                }
                for change in self.verdicts
            ],
            "findings": list(self.findings),
            "measured_again": self.again
            and {**self.again.as_dict(), "notes": list(self.notes_again)},
        }

    @property
    def notes_again(self) -> tuple[str, ...]:
        """What is to be known of figures that were measured again."""
        if self.again is None:
            return ()
        return tuple(again_notes(self.a.record, self.b.record, self.again))


def _side(run: WholeRun) -> dict[str, Any]:
    return {
        "experiment": run.record.experiment,
        "run_id": run.record.run_id,
        "status": run.record.status,
        "event_count": None if run.data is None else run.data.events,
    }


def _row(row: Row) -> dict[str, Any]:
    result = row.result or TestResult("")
    low, high = result.interval or (None, None)
    return {
        "name": row.name,
        "kind": row.kind,
        "a": row.a,
        "b": row.b,
        "outcome": row.outcome,
        "worse": row.worse,
        "test": result.name or None,
        "statistic": result.statistic,
        "df": result.df,
        "n": result.n,
        "p_value": result.p_value,
        "p_holm": row.p_holm,
        "estimate": _finite(result.estimate),
        "interval": None if result.interval is None else [_finite(low), _finite(high)],
        "effect": row.effect,
        "sentence": row.sentence,
        "note": result.note,
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else value


def compare_runs(
    a: Path,
    b: Path,
    *,
    alpha: float = 0.05,
    tolerance: float = TOLERANCE,
    again: Again | None = None,
) -> Comparison:
    """Compare two runs.

    Parameters
    ----------
    a, b : Path
        Folders of the baseline, and of the run that is held against it.
    alpha : float
        Level of all tests together (Holm).
    tolerance : float
        Fraction by which times and memory may grow: they count as worse where their test rejects
        and the whole interval of B / A lies above 1 + tolerance.
    again : Again, optional
        Times and memory of both, measured again in turn; the records' own by default.

    Raises
    ------
    InputError
        Where a record cannot be read, or alpha or tolerance is not allowed.
    """
    if not 0 < alpha < 1:
        raise InputError("alpha", f"found {found(alpha)}; allowed: a number between 0 and 1")
    if not 0 <= tolerance < float("inf"):
        raise InputError("tolerance", f"found {found(tolerance)}; allowed: a number from 0")
    runs = read_back(a), read_back(b)
    return compare_whole(*runs, alpha=alpha, tolerance=tolerance, again=again)


def compare_whole(
    a: WholeRun,
    b: WholeRun,
    *,
    alpha: float = 0.05,
    tolerance: float = TOLERANCE,
    again: Again | None = None,
) -> Comparison:
    """Compare two runs that were read; see `compare_runs`."""
    one_run = a.folder.resolve() == b.folder.resolve()
    costs = again_rows(a, b, again) if again else cost_rows(a, b, one_run=one_run)
    rows = judge_rows([*data_rows(a, b), *costs], alpha, tolerance)
    changes = verdict_changes(a.record, b.record)
    return Comparison(
        a=a,
        b=b,
        alpha=alpha,
        tolerance=tolerance,
        differences=tuple(differences(a.record, b.record)),
        notes=tuple(_notes(a, b, one_run, again)),
        rows=tuple(rows),
        verdicts=tuple(changes),
        findings=tuple(_findings(a, b, rows, changes)),
        again=again,
    )


def _notes(a: WholeRun, b: WholeRun, one_run: bool, again: Again | None) -> Iterator[str]:
    if one_run:
        yield "A and B are one and the same run."
        return
    if a.record.experiment != b.record.experiment:
        yield "The runs are of different experiments; only criteria that both have are compared."
    yield from _cost_notes(a, b, again)
    if a.data is None or b.data is None:
        return
    one, other = a.data.config, b.data.config
    if one.seed == other.seed and one != other:
        yield (
            f"Both runs draw from seed {one.seed}, so their data share draws and are more alike "
            "than independent data: p-values of the data are too large rather than too small, and "
            "a difference that is not shown may still be there. Another seed for B makes a test."
        )


def _cost_notes(a: WholeRun, b: WholeRun, again: Again | None) -> Iterator[str]:
    """Return what is to be known of the times and the memory that the records hold."""
    if again is not None or a.record.measurements is None or b.record.measurements is None:
        return
    if apart := not_comparable(a.record, b.record):
        both = can_be_again(a.record) and can_be_again(b.record)
        option = f", or both in turn on this one by {OPTION}" if both else ""
        yield f"Times are not compared: {apart}. Run both again on one quiet machine{option}."
    elif not other_work(a, b):
        yield (
            "The tests of times and memory take the repeats as independent. Those of one run were "
            "made one after another under the same load, so a small difference may be the load's."
        )


def _findings(
    a: WholeRun, b: WholeRun, rows: list[Row], changes: list[VerdictChange]
) -> Iterator[str]:
    """Return what is worse in B."""
    if a.record.completed and not b.record.completed:
        error = b.record.error
        yield f"status: A completed, B failed{f' ({error.kind})' if error else ''}."
    # What a machine decided says nothing where the machines or their loads differ.
    left_out = {
        row.id
        for row in a.record.criteria
        if row.a_priori is None
        and not_comparable(a.record, b.record, times="memory" not in row.kind)
    }
    for change in changes:
        if change.worse and change.criterion not in left_out:
            now = f"{change.b} ({change.observed_b})" if change.b else "not judged"
            yield f"{change.criterion}: pass in A, {now} in B."
    for row in rows:
        if row.worse:
            yield f"{row.name}: {row.sentence}"
