"""The results document: planned with blanks, or filled in from a record and from nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from statistics import median
from typing import Any

import jinja2
import yaml

from fleetsim.base.chances import percent
from fleetsim.base.errors import InputError
from fleetsim.base.tables import Table, number, with_unit
from fleetsim.base.verdict import Verdict
from fleetsim.experiment.check import Check, CriterionCheck, check_experiment, remedy_text
from fleetsim.experiment.kind import find_kind
from fleetsim.experiment.prospects import GATE_LEVEL, Power
from fleetsim.experiment.record import (
    CriterionRecord,
    Description,
    Expected,
    Foresight,
    Record,
    overall_line,
)
from fleetsim.experiment.results import RECORD_NAME, Status
from fleetsim.experiment.spec import Experiment
from fleetsim.stats.answers import answer, answers_line


def planned_record(experiment: Experiment, check: Check | None = None) -> Record:
    """Return the record of an experiment that has not run: what is claimed and expected."""
    check = check or check_experiment(experiment)
    return Record(
        experiment=experiment.id,
        run_id="",
        key="",
        status=Status.PLANNED,
        error=None,
        started="",
        finished="",
        parameters=experiment.parameters,
        config=experiment.config.as_dict(),
        description=Description(
            title=experiment.title,
            date=experiment.date,
            feature=experiment.feature,
            question=experiment.question,
            hypothesis=experiment.hypothesis,
            config_file=experiment.config_file,
            interval=experiment.interval or "",
            batches=experiment.batches,
            alpha=experiment.alpha,
            notebook=experiment.notebook,
            kind=experiment.kind.name,
            hypothesis_rests_on=list(experiment.hypothesis_rests_on),
            own=experiment.kind.describe(experiment),
        ),
        expected=_expected(check),
        batch_ids=[],
        criteria=[_planned(row, check, experiment.is_moved) for row in check.criteria],
        tests=[],
        measurements=None,
        provenance={},
    )


def _expected(check: Check) -> Expected:
    """Return what the model says of an experiment, as its record holds it."""
    expectation = check.as_dict()
    return Expected(
        mean=expectation["mean"],
        standard_deviation=expectation["standard_deviation"],
        line_bytes=expectation["line_bytes"],
        findings=list(check.findings),
        remedies=[
            f"{name}: {remedy_text(remedy)}."
            for name, rows in check.remedies.items()
            for remedy in rows
        ],
        foresight=[
            Foresight(
                criterion=row.criterion.id,
                accepts=row.prospect.accepts,
                power=list(row.prospect.power),
            )
            for row in check.criteria
            if row.prospect.power
        ],
        warnings=list(check.warnings),
    )


def _planned(row: CriterionCheck, check: Check, is_moved: bool) -> CriterionRecord:
    """Return a criterion that was not judged yet."""
    here = row.kind.here if is_moved else None
    return CriterionRecord(
        id=row.criterion.id,
        kind=row.criterion.kind,
        title=row.criterion.title,
        stated=row.criterion.stated,
        low=row.criterion.low,
        high=row.criterion.high,
        observed=None,
        unit=row.criterion.unit,
        verdict=Verdict.NONE,
        a_priori=row.a_priori,
        tests=[],
        method=row.criterion.method,
        note="",
        here="" if here is None else here(row.criterion, check.expectation),
    )


def render_document(record: Record) -> str:
    """Return the text of ``experiment.md`` for a record.

    Raises
    ------
    InputError
        Where the record lacks what the document of its kind shows.
    """
    interval = record.description.interval
    now = interval == "now"
    measured = record.measurements
    seconds: list[float] = []
    if measured is not None:
        seconds = measured.stated_generation_seconds if now else measured.generation_seconds
    values = dict(
        record=record,
        head=_head(record),
        short_id=_short_id(record.experiment),
        command=record.provenance.get("commands", [f"fleetsim run {record.experiment}"])[0],
        planned=record.status == Status.PLANNED,
        e=record.expected,
        configuration=_yaml(record),
        at="" if now else f" --at {interval}",
        when="--now" if now else f"--interval-start {interval}",
        batches=f" --batches {record.description.batches}"
        if record.description.batches > 1
        else "",
        seconds=seconds,
        formula="(generation_time - interval_start)" if now else "(generation_seconds)",
        overall=overall_line(record.criteria),
        by_chance=by_chance(record),
        answer=answer,
        answers_line=answers_line(record.tests),
        percent=percent,
        number=number,
        with_unit=with_unit,
        median=median,
        power_table=power_table,
        power_words=POWER_WORDS,
        hardly_words=HARDLY_WORDS,
    )
    try:
        text = template(record.description.kind).render(values)
    except (jinja2.UndefinedError, TypeError, ValueError, LookupError) as error:
        raise InputError(RECORD_NAME, f"not what its document needs: {error}") from error
    return text.rstrip() + "\n"


def _head(record: Record) -> list[tuple[str, str]]:
    """Return the lines below the title, as Markdown; what was not given is left out."""
    described = record.description
    rows = [("Date", _markdown(described.date)), ("Feature", _markdown(described.feature))]
    if record.status != Status.PLANNED:
        run = f"`{record.experiment}/{record.run_id}`, {record.started} to {record.finished}"
        rows.append(("Run", run))
    return [row for row in rows if row[1]]


def by_chance(record: Record) -> str:
    """Return how often chance alone shows a fault: over all criteria, and as much as this run.

    The probability of all criteria together is at most the sum of theirs; Holm's smallest adjusted
    p is below x in a fault-free run with a probability of at most x. "" where the model says
    nothing of any criterion and there was no test.
    """
    said = []
    odds = [c.a_priori for c in record.criteria if c.a_priori is not None and c.a_priori > 0.5]
    if odds:
        wrong = min(1.0, sum(1 - p for p in odds))
        what = f"at least one of {len(odds)} criteria" if len(odds) > 1 else "the one criterion"
        said.append(
            f"By chance alone a fault-free run does not pass {what} that it should pass, with "
            f"probability {percent(wrong)} at most."
        )
    adjusted = [test.p_holm for test in record.tests if test.p_holm is not None]
    if adjusted:
        least = min(adjusted)
        said.append(
            f"Of the {len(adjusted)} tests of this run that count together the smallest adjusted "
            f"p is {number(least, 2)}: a fault-free run has one as small with that probability at "
            "most."
        )
    return " ".join(said)


def verdict_table(record: Record) -> Table:
    """Return the verdicts alone, narrow enough for a terminal."""
    rows = tuple(row[:4] for row in record.table().rows)
    return Table(("criterion", "stated", "observed", "verdict"), rows)


#: What stands before warnings, which leave an experiment sound.
HARDLY_WORDS = "What these criteria hardly see or decide"
#: What the tables of power show.
POWER_WORDS = (
    "If the truth were another: the probability that the test alone rejects, at the level at which "
    "it decides (for a test of the family the first step of Holm's procedure) and at "
    f"{GATE_LEVEL:g}, the hard limit for gates; and that the criterion fails, or is inconclusive."
)


def power_table(rows: Sequence[Power]) -> Table:
    """Return what becomes of alternatives, one a line: its test at each level, then the verdict.

    The verdict's probabilities are those of the first level, at which the criterion decides.
    """
    levels = list(dict.fromkeys(row.level for row in rows if row.level is not None))
    header = ("if the truth were", *(f"at {level:.2g}" for level in levels))
    by_alternative: dict[str, list[Power]] = {}
    for row in rows:
        by_alternative.setdefault(row.alternative, []).append(row)
    table = tuple(
        (
            name,
            *(percent(row.power) for row in entries if row.power is not None),
            percent(entries[0].fails),
            percent(entries[0].inconclusive),
        )
        for name, entries in by_alternative.items()
    )
    return Table((*header, "fails", "inconclusive"), table)


def _short_id(experiment: str) -> str:
    """Return the number of an experiment, ``001`` of ``001-baseline``, or an id without one."""
    number, _, _ = experiment.partition("-")
    return number if number.isdecimal() else experiment


def _yaml(record: Record) -> str:
    return yaml.safe_dump(record.config, sort_keys=False, allow_unicode=True)


@cache
def template(kind: str) -> jinja2.Template:
    """Return the document of a kind of experiment.

    Raises
    ------
    InputError
        Where there is no such kind.
    """
    path = find_kind(kind).document()
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fleetsim.experiment", "."),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 (that would be for HTML; `finalize` is for Markdown)
        finalize=_without_html,
    )
    environment.filters["md"] = _markdown
    environment.filters["grid"] = _grid
    environment.filters["fenced"] = _fenced
    return environment.from_string(path.read_text(encoding="utf-8"))


def _grid(table: Table) -> str:
    """Return a table of a notebook as one of Markdown."""
    lines = [[name.capitalize() for name in table.header], *table.rows]
    grid = ["| " + " | ".join(map(_markdown, line)) + " |" for line in lines]
    return "\n".join([grid[0], "|" + "---|" * len(table.header), *grid[1:]])


class _Literal(str):
    """A text that stands in a block of code, where nothing is read as HTML."""


def _markdown(text: Any) -> str:
    """Keep a text from being read as HTML, as emphasis, or as the edge of a table's cell."""
    return re.sub(r"([|<\\`*])", r"\\\1", " ".join(str(text).split()))


def _fenced(text: str, language: str) -> _Literal:
    """Return a block of code that no line of the text ends."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return _Literal(f"{fence}{language}\n{text}{fence}")


def _without_html(value: Any) -> Any:
    """Keep whatever a template puts in from being read as HTML, or as a link.

    Every value passes here, whatever filters it had; what is escaped already stays as it is.
    """
    if not isinstance(value, str) or isinstance(value, _Literal):
        return value
    # A character is escaped where an odd number of backslashes stands before it; a last backslash
    # must not escape what the template, or the next value, goes on with.
    return re.sub(r"(?<!\\)((?:\\\\)*)(<|\](?=[(:\[])|\\\Z)", r"\1\\\2", value)
