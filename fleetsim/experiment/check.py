"""Hold an experiment to its own model before anything runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import msgspec

from fleetsim.base.chances import percent
from fleetsim.base.tables import Table
from fleetsim.experiment.criterion import Criterion, CriterionKind
from fleetsim.experiment.expectation import (
    PASS_WANTED,
    Expectation,
    Remedy,
    expected_line_bytes,
    remedies,
)
from fleetsim.experiment.prospects import Prospect, events_text
from fleetsim.experiment.spec import Experiment

IMPOSSIBLE = (
    0.01  # a fault-free run passes so rarely that claim and configuration exclude each other
)
FEW = 5  # expected lines of a kind of defects, below which next to nothing is seen of it
DOUBTFUL = 0.9  # below this, one fault-free run in ten or more fails


@dataclass(frozen=True)
class CriterionCheck:
    """One criterion's chance: `a_priori` is None where the machine decides, not the model.

    `prospect` says what passes, and what becomes of a generator that is off; it is empty for
    criteria of structure, and where a fault-free run cannot reach the stated range at all.
    """

    criterion: Criterion
    kind: CriterionKind
    a_priori: float | None
    prospect: Prospect = field(default_factory=Prospect)

    @property
    def outlook(self) -> str:
        """What to expect, in a word or two."""
        if self.a_priori is None:
            return "measured"
        if self.a_priori < IMPOSSIBLE:
            return "cannot pass"
        return "doubtful" if self.a_priori < DOUBTFUL else "should pass"


@dataclass(frozen=True)
class Check:
    """What was found before a run.

    Attributes
    ----------
    expectation : Expectation
    criteria : tuple of CriterionCheck
    findings : tuple of str
        What does not add up, a sentence each; empty for a sound experiment.
    remedies : dict
        By criterion id, what would reconcile each parameter with the criterion.
    warnings : tuple of str
        Where a criterion sees next to nothing, or will hardly reach a verdict; a sentence each.
        The experiment is sound all the same: a warning is no finding.
    defects : dict
        Expected lines of each kind of injected defects; empty without any.
    """

    expectation: Expectation
    criteria: tuple[CriterionCheck, ...]
    findings: tuple[str, ...]
    remedies: dict[str, list[Remedy]]
    warnings: tuple[str, ...] = ()
    defects: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the check as plain data, for ``--json``."""
        return {
            "mean": self.expectation.mean,
            "standard_deviation": self.expectation.standard_deviation,
            "line_bytes": expected_line_bytes(self.expectation.config),
            "alpha": self.expectation.alpha,
            "family": self.expectation.family,
            "criteria": [
                {
                    "id": c.criterion.id,
                    "a_priori": c.a_priori,
                    "outlook": c.outlook,
                    "accepts": c.prospect.accepts,
                    "power": msgspec.to_builtins(c.prospect.power),
                }
                for c in self.criteria
            ],
            "findings": list(self.findings),
            "warnings": list(self.warnings),
            "remedies": {
                name: [
                    {
                        "parameter": r.parameter,
                        "current": r.current,
                        "nearest": r.nearest,
                        "smallest": r.smallest,
                    }
                    for r in rows
                ]
                for name, rows in self.remedies.items()
            },
            **({"defects": self.defects} if self.defects else {}),
        }


def check_experiment(experiment: Experiment) -> Check:
    """Return each criterion's chance and prospect, contradictions, remedies, and warnings."""
    expectation, known = experiment.kind.expect(experiment), experiment.kind.criteria()
    rows = tuple(
        _check_criterion(criterion, known[criterion.kind], expectation)
        for criterion in experiment.criteria
    )
    windows = {
        row.criterion.id: window(row.criterion, expectation)
        for row in rows
        if (window := row.kind.window) is not None
    }
    findings = [_chance_finding(row, expectation, windows) for row in rows]
    findings += [_lack(row, expectation) for row in rows]
    findings.append(_exclusions(windows))
    mended = {
        row.criterion.id: _remedies(row, expectation)
        for row in rows
        if row.a_priori is not None
        and row.a_priori < DOUBTFUL
        and row.kind.stated_range
        and math.isfinite(windows[row.criterion.id][1])
    }
    warnings = tuple(
        f"{row.criterion.id}: {warning}" for row in rows for warning in row.prospect.warnings
    )
    warnings += _rare_kinds(expectation)
    found = tuple(finding for finding in findings if finding)
    return Check(expectation, rows, found, mended, warnings, expectation.defects)


def _rare_kinds(expectation: Expectation) -> tuple[str, ...]:
    """Warn of kinds of injected defects that a run hardly sees."""
    warnings = []
    for kind, lines in expectation.defects.items():
        defect = expectation.config.defects[kind]
        if lines >= FEW:
            continue
        more = ""
        if expectation.batches <= defect.batches:
            more = (
                f"; they come {defect.batches} batches later, and there are {expectation.batches}"
            )
        warnings.append(f"defects: hardly sees {kind}: {lines:.2g} lines expected{more}.")
    return tuple(warnings)


def defects_table(check: Check) -> Table:
    """Return the expected lines of each kind of injected defects as a table."""
    rows = tuple(
        (kind, f"{check.expectation.config.defects[kind].rate:g}", f"{lines:.4g}")
        for kind, lines in check.defects.items()
    )
    return Table(("defects", "rate", "lines expected"), rows)


def _check_criterion(
    criterion: Criterion, kind: CriterionKind, expectation: Expectation
) -> CriterionCheck:
    chance = kind.a_priori(criterion, expectation)
    out_of_reach = kind.stated_range and chance is not None and chance < IMPOSSIBLE
    if kind.prospect is None or out_of_reach:
        return CriterionCheck(criterion, kind, chance)
    return CriterionCheck(criterion, kind, chance, kind.prospect(criterion, expectation))


def _remedies(row: CriterionCheck, expectation: Expectation) -> list[Remedy]:
    criterion, kind = row.criterion, row.kind

    def chance(changed: Expectation) -> float:
        return kind.a_priori(criterion, changed) or 0.0

    def window(changed: Expectation) -> tuple[float, float]:
        return kind.window(criterion, changed) if kind.window else (0.0, math.inf)

    return remedies(expectation, chance, window)


def _chance_finding(
    row: CriterionCheck, expectation: Expectation, windows: dict[str, tuple[float, float]]
) -> str | None:
    if row.a_priori is None or row.a_priori >= DOUBTFUL:
        return None
    name = row.criterion.id
    chance = f"a fault-free run passes with probability {percent(row.a_priori)}"
    if name not in windows:
        return f"{name}: {row.outlook}; {chance}."
    low, high = windows[name]
    asked = events_text(low, high)
    if row.kind.window_text is not None:
        asked += f" ({row.kind.window_text(low, high, expectation)})"
    return (
        f"{name}: {row.outlook}; it asks for {asked}, the configuration makes "
        f"{expectation.mean:g} ± {expectation.standard_deviation:.0f}: {chance}."
    )


def _lack(row: CriterionCheck, expectation: Expectation) -> str | None:
    """Say what the experiment lacks, so that a criterion cannot be decided."""
    missing = row.kind.fault(row.criterion, expectation) if row.kind.fault else ""
    return f"{row.criterion.id}: it cannot be decided; {missing}." if missing else None


def _exclusions(windows: dict[str, tuple[float, float]]) -> str | None:
    """Say which criteria no count of events satisfies together."""
    pairs = [
        f"{one} with {other}"
        for (one, (low, high)), (other, (low_other, high_other)) in combinations(windows.items(), 2)
        if low > high_other or low_other > high
    ]
    if not pairs:
        return None
    ranges = "; ".join(
        f"{name} asks for {events_text(*window)}" for name, window in windows.items()
    )
    return f"No number of events satisfies both of these at once: {'; '.join(pairs)}. {ranges}."


def remedy_text(remedy: Remedy) -> str:
    """Return a remedy as a phrase."""
    if remedy.nearest is None:
        return f"{remedy.parameter} {remedy.current:.12g}: no allowed value reaches the range"
    smallest = (
        f"smallest change that passes with probability >= {PASS_WANTED:g}: {remedy.smallest:.12g}"
        if remedy.smallest is not None
        else f"no value passes with probability >= {PASS_WANTED:g}"
    )
    return (
        f"{remedy.parameter} {remedy.current:.12g} -> {remedy.nearest:.12g} has its mean nearest "
        f"the middle; {smallest}"
    )
