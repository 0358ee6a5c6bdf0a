"""A check as a terminal shows it: what cannot pass and why, its remedy, what is not seen."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from fleetsim.cli.shared import wrapped
from fleetsim.experiment.check import Check, defects_table, remedy_text
from fleetsim.experiment.document import HARDLY_WORDS, POWER_WORDS, power_table
from fleetsim.experiment.expectation import Remedy
from fleetsim.experiment.steps import check_table


def whole_text(check: Check) -> str:
    """Return everything: each criterion, the findings with all remedies, warnings, the power."""
    parts = [str(check_table(check))]
    if check.defects:
        parts.append(str(defects_table(check)))
    parts += map(wrapped, check.findings)
    for name, rows in check.remedies.items():
        listed = [_item(remedy_text(remedy)) for remedy in rows]
        parts.append("\n".join([f"To reconcile {name}:", *listed]))
    if not check.findings:
        parts.append("Nothing contradicts.")
    if check.warnings:
        parts.append("\n".join([f"{HARDLY_WORDS}:", *map(_item, check.warnings)]))
    seen = [row for row in check.criteria if row.prospect.power]
    if seen:
        parts.append(wrapped(POWER_WORDS))
    for row in seen:
        table = textwrap.indent(str(power_table(row.prospect.power)), "  ")
        parts.append(f"{wrapped(f'{row.criterion.id}: {row.prospect.accepts}.')}\n{table}")
    return "\n\n".join(parts)


def short_text(check: Check, experiment: str) -> str:
    """Return what a reader has to know before a run, in some twenty lines."""
    parts = [_counts(check)]
    parts.append("\n".join(_findings(check)) or "Nothing contradicts.")
    if check.warnings:
        rows = [_item(warning.partition(". ")[0].rstrip(".") + ".") for warning in check.warnings]
        parts.append("\n".join([f"{HARDLY_WORDS}:", *rows]))
    parts.append(
        f"fleetsim check {experiment} --all shows every criterion, all remedies and the power."
    )
    return "\n\n".join(parts)


def _counts(check: Check) -> str:
    """Return how many criteria have which outlook."""
    outlooks = [row.outlook for row in check.criteria]
    said = [f"{outlooks.count(word)} {word}" for word in dict.fromkeys(sorted(outlooks, key=_rank))]
    many = "criterion" if len(outlooks) == 1 else "criteria"
    return f"{len(outlooks)} {many}: {', '.join(said)}."


def _rank(outlook: str) -> int:
    return ("cannot pass", "doubtful", "should pass", "measured").index(outlook)


def _findings(check: Check) -> Iterator[str]:
    """Yield each finding, with the nearest remedy below that of a criterion."""
    for finding in check.findings:
        yield _item(finding)
        name = finding.partition(":")[0]
        if nearest := _nearest(check.remedies.get(name, [])):
            yield wrapped(f"nearest remedy: {nearest}", "    ")


def _nearest(remedies: list[Remedy]) -> str:
    """Return the settings that would reconcile a criterion, one parameter each."""
    ways = [f"-p {row.parameter} {row.nearest:.12g}" for row in remedies if row.nearest is not None]
    return " or ".join(ways)


def _item(text: str) -> str:
    return wrapped(f"- {text}")
