"""In what the records of two runs differ: what was asked for, what made it, what was judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fleetsim.base.tables import number, with_unit
from fleetsim.base.verdict import Verdict
from fleetsim.experiment.record import CriterionRecord, Record

#: What the configuration does not hold, and a run's data or verdicts depend on.
_DESCRIBED = ("interval", "batches", "alpha", "notebook")
_MACHINE = ("system", "cpu_model", "cores", "governor")
#: Load average for each core at a run's start, from which its times say little.
BUSY = 1.0
_MADE_BY = ("source_sha256", "source_dirty", *_MACHINE, "load_average")


@dataclass(frozen=True)
class Difference:
    """One thing in which two runs differ; a value that a run has not is None."""

    group: str
    name: str
    a: Any
    b: Any


@dataclass(frozen=True)
class VerdictChange:
    """A criterion whose verdict differs; `NONE` where a run has no verdict of it."""

    criterion: str
    a: Verdict
    b: Verdict
    observed_a: str
    observed_b: str

    @property
    def worse(self) -> bool:
        """Whether it passed in A and did not in B."""
        return self.a == Verdict.PASS != self.b


def differences(a: Record, b: Record) -> list[Difference]:
    """Return in what two runs differ, what was asked for first.

    Configuration, the other parameters, the limits of the criteria, versions, sources, machine.
    """
    parameters = [
        {k: v for k, v in record.parameters.items() if k not in record.config} for record in (a, b)
    ]
    described = [{k: getattr(r.description, k) for k in _DESCRIBED} for r in (a, b)]
    versions = [r.provenance.get("versions", {}) for r in (a, b)]
    made_by = [{k: r.provenance.get(k) for k in _MADE_BY} for r in (a, b)]
    return [
        *_differing("configuration", a.config, b.config),
        *_differing("parameter", *parameters),
        *_differing("experiment", *described),
        *(d for d in _differing("criterion", _limits(a), _limits(b)) if d.a and d.b),
        *_differing("version", *versions),
        *_differing("made by", *made_by),
    ]


def _differing(group: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Difference]:
    for name in dict.fromkeys([*a, *b]):
        if a.get(name) != b.get(name):
            yield Difference(group, name, a.get(name), b.get(name))


def _limits(record: Record) -> dict[str, str]:
    """Return what each criterion asks for; limits that follow the configuration are rounded."""
    return {
        c.id: f"{c.kind}, {number(c.low)} to {with_unit(c.high, c.unit)}"
        for c in record.criteria
        if c.verdict
    }


def not_comparable(a: Record, b: Record, *, times: bool = True) -> str:
    """Return why what was measured in two runs cannot be compared, as a clause; "" where it can.

    It was measured on machines that differ or, which matters to `times` alone, beside other work.
    """
    other = [name for name in _MACHINE if a.provenance.get(name) != b.provenance.get(name)]
    if other:
        return f"the runs were measured on different machines ({', '.join(other)})"
    for letter, record in (("A", a), ("B", b)) if times else ():
        load, cores = record.provenance.get("load_average"), record.provenance.get("cores") or 1
        if load is not None and load > BUSY * cores:
            return (
                f"{letter} was measured beside other work (load average {load:g} on {cores} cores "
                f"when it began; {BUSY * cores:g} is the limit)"
            )
    return ""


def verdict_changes(a: Record, b: Record) -> list[VerdictChange]:
    """Return the criteria whose verdicts differ between two runs.

    Of different experiments, or where a run has no verdicts at all, only those that both have.
    """
    rows_a, rows_b = ({c.id: c for c in r.criteria if c.verdict} for r in (a, b))
    one_experiment = a.experiment == b.experiment and rows_a and rows_b
    in_both = rows_a.keys() & rows_b.keys()
    ids = [name for name in {**rows_a, **rows_b} if one_experiment or name in in_both]
    changes = []
    for name in ids:
        first, second = rows_a.get(name), rows_b.get(name)
        change = VerdictChange(
            name,
            first.verdict if first else Verdict.NONE,
            second.verdict if second else Verdict.NONE,
            _observed(first),
            _observed(second),
        )
        if change.a != change.b:
            changes.append(change)
    return changes


def _observed(row: CriterionRecord | None) -> str:
    return "" if row is None else with_unit(row.observed, row.unit)
