"""Reconciliation of a pipeline that runs elsewhere, with the deliveries of a landing folder."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from fleetsim.base.errors import FleetsimError, InputError
from fleetsim.base.files import make_folder, write_file
from fleetsim.base.tables import Stack, Table, with_unit
from fleetsim.batch.meta import EVENTS_NAME
from fleetsim.delivery.arrivals import arrivals_of
from fleetsim.delivery.feed import (
    Batches,
    batches_of,
    config_of_feed,
    read_deliveries_of,
    read_plan,
)
from fleetsim.delivery.landing import half_of
from fleetsim.delivery.plan import CUT, Delivery
from fleetsim.experiment.criterion import Criterion, Judgement
from fleetsim.kinds.pipeline.criteria import CRITERIA
from fleetsim.kinds.pipeline.evidence import Evidence
from fleetsim.kinds.pipeline.words import (
    answer,
    balance_table,
    expects_of,
    matrix_table,
    wrong_table,
)
from fleetsim.reconcile.outcome import reconcile
from fleetsim.reconcile.outputs import Queries, check_queries
from fleetsim.reconcile.result import Reconciliation

#: What is judged without an experiment.
JUDGED = ("lost", "unexpected", "duplicated", "altered", "recall", "precision", "unaccounted")
#: The criteria whose failure is a finding: exit code 3.
FINDINGS = JUDGED[:4]


@dataclass(frozen=True)
class Elsewhere:
    """What was found, with its verdicts by criterion."""

    found: Reconciliation
    answer: str
    judged: dict[str, tuple[Criterion, Judgement]]
    expects: dict[str, str]

    @property
    def is_wrong(self) -> bool:
        """Whether anything is lost, unexpected, duplicated or altered."""
        return any(getattr(self.found, name) for name in FINDINGS)

    @property
    def tables(self) -> tuple[Table, ...]:
        """Verdicts, balance, outcomes, and the first wrong lines."""
        rows = tuple(
            (name, with_unit(judgement.observed, criterion.unit), judgement.verdict, judgement.note)
            for name, (criterion, judgement) in self.judged.items()
        )
        tables = [
            Table(("criterion", "observed", "verdict", "why"), rows),
            balance_table(self.found),
            matrix_table(self.found, self.expects),
        ]
        return tuple([*tables, wrong_table(self.found)] if self.found.wrong else tables)

    def text(self) -> str:
        """Return all of it as text."""
        return "\n\n".join([self.answer, *map(str, self.tables)])

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "answer": self.answer,
            "criteria": {
                name: {
                    "observed": judgement.observed,
                    "verdict": str(judgement.verdict),
                    "note": judgement.note,
                }
                for name, (_, judgement) in self.judged.items()
            },
            **msgspec.to_builtins(self.found),
        }


def reconcile_landing(
    landing: Path,
    accepted: str,
    rejected: str | None,
    *,
    output: Path | None = None,
    outcome: Path | None = None,
) -> Elsewhere:
    """Hold what came out against what was delivered into a landing folder.

    The delivered lines are made again from the folder's own plan and held to the recorded hashes:
    a pipeline may have moved or deleted the files.

    Parameters
    ----------
    landing : Path
        A folder or storage that `fleetsim deliver` has filled.
    accepted, rejected : str
        Queries; ``rejected`` may be None.
    output : Path, optional
        The only folder that they may read; all of this machine by default.
    outcome : Path, optional
        Where one row for each line is written.

    Raises
    ------
    InputError
        Where the folder is none, nothing was delivered, or a query is wrong.
    """
    plan = read_plan(landing)
    rows = read_deliveries_of(landing)
    if plan is None or not rows:
        raise InputError(
            str(landing), "no delivery is complete there", next_step="fleetsim deliver fills it"
        )
    _check_output(output, accepted, rejected)
    queries, options = Queries(accepted, rejected), ("--accepted", "--rejected")
    check_queries(queries, accepted=options[0], rejected=options[1])
    config = config_of_feed(plan)
    deliveries = [Delivery(row.batch, row.form) for row in rows]
    with batches_of(config, plan.interval) as batches, tempfile.TemporaryDirectory() as scratch:
        made = _made_again(batches, deliveries)
        arrivals = arrivals_of(deliveries, made)
        _check_hashes(rows, made)
        kept = Path(scratch, "outcome.parquet")
        found = reconcile(
            arrivals,
            queries,
            (output or Path("/")).absolute(),
            outcome=kept,
            accepted=options[0],
            rejected=options[1],
        )
        if outcome is not None:
            make_folder(outcome.parent)
            write_file(outcome, _chunks(kept))
    evidence = Evidence(config, None, reconciliation=found)  # type: ignore[arg-type]
    judged = {name: _judged(name, evidence) for name in JUDGED}
    return Elsewhere(found, answer(evidence), judged, expects_of(config))


def _check_output(output: Path | None, accepted: str, rejected: str | None) -> None:
    """Refuse a folder that is not there: all lines would be lost, for a slip of the pen."""
    if output is not None:
        os.stat(output)
        if not output.is_dir():
            raise InputError(str(output), "no folder; allowed: the folder of the output")
        return
    for option, query in (("--accepted", accepted), ("--rejected", rejected)):
        if "{output}" in (query or ""):
            raise InputError(
                option,
                "found {output}, and nothing says which folder that is",
                next_step="--output DIR names it",
            )


def _chunks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk


def _made_again(batches: Batches, deliveries: list[Delivery]) -> dict[int, Path]:
    """Return the batches that were delivered, by ordinal."""
    wanted = {delivery.batch for delivery in deliveries}
    return {ordinal: batches.make(ordinal) for ordinal in sorted(wanted)}


def _check_hashes(rows: list[Any], made: dict[int, Path]) -> None:
    """Refuse to reconcile with other lines than those that were delivered."""
    for row in rows:
        path = made[row.batch] / EVENTS_NAME
        content = half_of(path) if row.form == CUT else path.read_bytes()
        if hashlib.sha256(content).hexdigest() != row.sha256:
            raise FleetsimError(
                f"delivery {row.step}, {row.batch_id}: made again it is another one; this fleetsim "
                "makes other data than the one that delivered"
            )


def _judged(name: str, evidence: Evidence) -> tuple[Criterion, Judgement]:
    low = 1.0 if name in ("recall", "precision") else None
    criterion = Criterion(id=name, kind=name, title=name, stated="", low=low, method="")
    return criterion, CRITERIA[name].judge(criterion, evidence)


def page_of(result: Elsewhere) -> str:
    """Return a page of HTML that needs nothing beside it."""
    from html import escape

    body = Stack(result.tables)._repr_html_()
    return _PAGE.format(answer=escape(result.answer), body=body)


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Reconciliation</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; }}
body {{ padding: 0 1rem; }}
table {{ border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }}
th, td {{ padding: .25rem .7rem; border-bottom: 1px solid #8885; text-align: left; }}
.answer {{ font-size: 1.25rem; }}
</style>
</head>
<body>
<h1>Reconciliation</h1>
<p class="answer">{answer}</p>
{body}
</body>
</html>
"""
