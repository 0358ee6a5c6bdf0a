"""Audit a data set: hold any batches in this format to a configuration, whoever made them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from fleetsim.batch import META_NAME
from fleetsim.battery import judge_tests, make_tests
from fleetsim.config import Config
from fleetsim.effects import law_of
from fleetsim.errors import InputError
from fleetsim.evidence import Test, record_test
from fleetsim.faults import Fault, FaultKind, Faults
from fleetsim.formats import FORMATS
from fleetsim.tally import tally_batches
from fleetsim.verify import COMPANIES_NAME

__all__ = ["Audit", "Group", "audit_data"]


@dataclass(frozen=True)
class Group:
    """The tests on consecutive batches with one roster of drivers.

    Attributes
    ----------
    batch_ids : tuple of str
    events, drivers : int
    tests : tuple of Test
    """

    batch_ids: tuple[str, ...]
    events: int
    drivers: int
    tests: tuple[Test, ...]


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes
    ----------
    data : Path
    alpha : float
        Level of all tests together.
    batch_ids : tuple of str
    lines : int
        Lines in the events files.
    faults : tuple of Fault
        The first of each kind.
    fault_counts : dict
        How many there are of each kind.
    groups : tuple of Group
        Several where companies joined between the batches; none where nothing could be read.
    """

    data: Path
    alpha: float
    batch_ids: tuple[str, ...]
    lines: int
    faults: tuple[Fault, ...]
    fault_counts: dict[FaultKind, int]
    groups: tuple[Group, ...]

    @property
    def findings(self) -> tuple[str, ...]:
        """What is wrong, a sentence each; empty where nothing is."""
        found = [str(fault) for fault in self.faults]
        more = sum(self.fault_counts.values()) - len(found)
        if more > 0:
            found.append(f"and {more} more faults of the same kinds")
        for group in self.groups:
            found += [
                f"{_span(group)}: {test.name} fails (p = {test.p_value:.3g}{_adjusted(test)}). "
                f"{test.question} No."
                for test in group.tests
                if test.verdict == "fail"
            ]
        return tuple(found)

    def as_dict(self) -> dict[str, Any]:
        """Return the audit as plain data, for ``--json``."""
        return {
            "alpha": self.alpha,
            "batch_ids": list(self.batch_ids),
            "event_count": self.lines,
            "findings": list(self.findings),
            "faults": [
                {"kind": fault.kind.value, "where": fault.where, "message": fault.message}
                for fault in self.faults
            ],
            "fault_counts": {kind.value: self.fault_counts.get(kind, 0) for kind in FaultKind},
            "groups": [
                {
                    "batch_ids": list(group.batch_ids),
                    "event_count": group.events,
                    "drivers": group.drivers,
                    "tests": msgspec.to_builtins(group.tests),
                }
                for group in self.groups
            ],
        }


def _adjusted(test: Test) -> str:
    return "" if test.p_holm is None else f", {test.p_holm:.3g} after Holm's adjustment"


def _span(group: Group) -> str:
    first, last = group.batch_ids[0], group.batch_ids[-1]
    return first if len(group.batch_ids) == 1 else f"{first} .. {last}"


def audit_data(
    config: Config,
    data: Path,
    companies: Path | None = None,
    *,
    alpha: float = 0.05,
    progress: Callable[[int], object] | None = None,
) -> Audit:
    """Hold the batches of a data set to a configuration: structure first, then the whole battery.

    Parameters
    ----------
    config : Config
        What the data are said to follow; its seed does not matter.
    data : Path
        A data set (``companies.jsonl`` and ``events/``), a run, a folder of batches or a batch.
    companies : Path, optional
        The companies file; by default the data set's own.
    alpha : float
        Level of all tests together.
    progress : callable, optional
        Called with numbers of bytes as they are read.

    Raises
    ------
    InputError
        Where there is no such folder, or the companies file that was named cannot be read. What is
        wrong inside of the folder is a finding.
    """
    if not data.is_dir():
        what = "not a folder" if data.exists() else "no such folder"
        raise InputError(str(data), f"{what}; expected a data set, a folder of batches or a batch")
    faults = Faults()
    place = _locate(data)
    if place is None:
        message = "not a data set: neither events/ nor a batch stands here"
        faults.add(FaultKind.FOLDER, data.name or str(data), message)
        return _nothing_read(data, alpha, faults)
    for name in place.strays:
        faults.add(
            FaultKind.FOLDER, f"{place.events.name}/{name}", "does not belong here: no batch"
        )
    if not place.batches:
        faults.add(FaultKind.FOLDER, place.events.name, "there is no batch here")
        return _nothing_read(data, alpha, faults)
    roster = companies or place.companies
    try:
        tally = tally_batches(
            config, roster, place.batches, any_seed=True, faults=faults, progress=progress
        )
    except InputError as error:
        if companies is not None:
            raise
        kind = FaultKind.MEMBER if roster.is_file() else FaultKind.FOLDER
        for fault in error.faults:
            faults.add(kind, roster.name, fault)
        return _nothing_read(data, alpha, faults)
    law = law_of(config)
    made = [make_tests(sample, law) for sample in tally.samples]
    rows = iter(judge_tests([test for tests in made for test in tests], law, alpha=alpha))
    groups = tuple(
        Group(
            tally.batch_ids[first:end],
            sample.n_events,
            sample.n_drivers,
            tuple(record_test(next(rows)) for _ in tests),
        )
        for sample, (first, end), tests in zip(tally.samples, tally.spans, made, strict=True)
    )
    return Audit(
        data=data,
        alpha=alpha,
        batch_ids=tally.batch_ids,
        lines=tally.lines,
        faults=tally.faults,
        fault_counts=tally.fault_counts,
        groups=groups,
    )


def _nothing_read(data: Path, alpha: float, faults: Faults) -> Audit:
    return Audit(data, alpha, (), 0, tuple(faults.kept), dict(faults.counts), ())


@dataclass(frozen=True)
class _Place:
    """Where batches and companies stand, and what else stands among the batches."""

    events: Path
    companies: Path
    batches: list[Path]
    strays: list[str]


def _locate(data: Path) -> _Place | None:
    if _is_batch(data):
        return _Place(data.parent, data.resolve().parent.parent / COMPANIES_NAME, [data], [])
    for events in (data / "data" / "raw" / "events", data / "events"):
        if events.is_dir():
            return _place(events, events.parent / COMPANIES_NAME)
    inside = [path for path in data.iterdir() if path.is_dir()]
    if any(_is_batch(path) for path in inside):
        return _place(data, data.resolve().parent / COMPANIES_NAME)
    return None


def _is_batch(path: Path) -> bool:
    names = (META_NAME, *(form.events_name for form in FORMATS.values()))
    return any((path / name).exists() for name in names)


def _place(events: Path, companies: Path) -> _Place:
    seen = [path for path in sorted(events.iterdir()) if not path.name.startswith(".")]
    batches = [path for path in seen if path.is_dir()]
    return _Place(events, companies, batches, [path.name for path in seen if not path.is_dir()])
