"""Audit a data set: hold any batches in this format to a configuration, whoever made them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fleetsim.base.chances import p_text
from fleetsim.base.errors import InputError
from fleetsim.base.storage import folders_with, is_remote, require, sizes, told
from fleetsim.base.tables import Table, number
from fleetsim.base.verdict import Verdict
from fleetsim.batch.companies import read_companies
from fleetsim.batch.dataset import COMPANIES_NAME, data_folder, events_folders
from fleetsim.batch.meta import META_NAME
from fleetsim.generate.config import Config
from fleetsim.generate.defects import DEFECT_KINDS
from fleetsim.generate.model import type_law
from fleetsim.stats.answers import answers_line
from fleetsim.stats.battery import without_roster
from fleetsim.stats.defects import added, defect_test
from fleetsim.stats.effects import law_of
from fleetsim.stats.judged import Test, judge_tests, make_tests, record_test
from fleetsim.stats.sample import Sample
from fleetsim.stats.where import Names
from fleetsim.tally.batches import Tally, tally_batches
from fleetsim.tally.faults import Cause, Fault, FaultKind, Faults, faults_table, kinds_of
from fleetsim.tally.folder import is_batch, time_or_none
from fleetsim.tally.partitions import Partition, is_partition, partitions
from fleetsim.tally.reading import Mapper


@dataclass(frozen=True)
class Group:
    """The tests on consecutive batches with one roster of drivers.

    Attributes
    ----------
    batch_ids : tuple of str
    events : int
        Those that count in the tests.
    unplaced : int
        Lines that do not: they could not be read, or name somebody who is not in the roster.
    drivers : int or None
        None where there is no roster.
    tests : tuple of Test
    sample : Sample or None
        What they look at, for plots.
    """

    batch_ids: tuple[str, ...]
    events: int
    drivers: int | None
    tests: tuple[Test, ...]
    unplaced: int
    sample: Sample | None = None


@dataclass(frozen=True)
class KindCount:
    """One kind of injected defects.

    Attributes
    ----------
    kind : str
    entries : int
        Those of the ledgers.
    found : int
        Entries whose line stands there, with its bytes and its defect.
    tested : int
        Those of them that the test counts: late records of batches that are not at hand are left
        out.
    n : int
        Records among which they are counted (see `DefectCounts`).
    expected : float
        n times the probability of each.
    p_value : float or None
        Of the exact two-sided binomial test, not adjusted.
    """

    kind: str
    entries: int
    found: int
    tested: int
    n: int
    expected: float
    p_value: float | None


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
        The first of each cause.
    fault_counts : dict
        How many there are of each kind.
    causes : dict
        How many there are of each cause.
    examined : dict
        Of each kind, what was asked for faults of it, and how many there are to ask.
    groups : tuple of Group
        Several where companies joined between the batches; none where nothing could be read.
    roster : str
        Who the drivers are held to: "companies", or "none" where there is no companies file that
        can be read or none was wanted.
    left_out : tuple of str
        Tests that need a roster, where there is none.
    expected : str
        What a data set looks like, where none was found.
    read : str or None
        The query by which the events were read, if any.
    explained : tuple of KindCount, optional
        Of each kind of injected defects, what the ledgers explain; None without ledgers.
    defects : bool
        Whether the configuration injects defects.
    """

    data: Path
    alpha: float
    batch_ids: tuple[str, ...]
    lines: int
    faults: tuple[Fault, ...]
    fault_counts: dict[FaultKind, int]
    causes: dict[Cause, int]
    examined: dict[FaultKind, tuple[int, int]]
    groups: tuple[Group, ...]
    roster: str = "companies"
    left_out: tuple[str, ...] = ()
    expected: str = ""
    read: str | None = None
    explained: tuple[KindCount, ...] | None = None
    defects: bool = False

    @property
    def findings(self) -> tuple[str, ...]:
        """What is wrong, a sentence each; empty where nothing is."""
        found = [str(fault) for fault in self.faults]
        more = sum(self.fault_counts.values()) - len(found)
        if more > 0:
            found.append(f"and {more} more faults of the same kinds")
        for group in self.groups:
            found += [
                f"{_span(group)}: {test.name} fails ({p_text(test.p_value, test.p_holm)}). "
                f"{test.question} No{where_text(test)}."
                for test in group.tests
                if test.verdict == Verdict.FAIL and test.p_value is not None
            ]
        return tuple(found)

    def as_dict(self) -> dict[str, Any]:
        """Return the audit as plain data, for ``--json``."""
        return {
            "alpha": self.alpha,
            "batch_ids": list(self.batch_ids),
            "event_count": self.lines,
            "read": self.read,
            "roster": self.roster,
            "left_out": list(self.left_out),
            "expected": self.expected or None,
            "findings": list(self.findings),
            "faults": [
                {
                    "kind": fault.kind.value,
                    "cause": fault.cause or fault.kind.words,
                    "where": fault.where,
                    "message": fault.message,
                }
                for fault in self.faults
            ],
            "causes": [
                {"kind": kind.value, "cause": cause or kind.words, "number": number}
                for (kind, cause), number in self.causes.items()
            ],
            "examined": {
                kind.value: dict(
                    zip(("number", "of"), self.examined.get(kind, (0, 0)), strict=True)
                )
                for kind in kinds_of(self.examined)
            },
            "fault_counts": {
                kind.value: self.fault_counts.get(kind, 0) for kind in kinds_of(self.examined)
            },
            **self._ledger_dict(),
            "groups": [
                {
                    "batch_ids": list(group.batch_ids),
                    "event_count": group.events,
                    "lines_left_out": group.unplaced,
                    "drivers": group.drivers,
                    "tests": msgspec.to_builtins(group.tests),
                }
                for group in self.groups
            ],
        }

    def _ledger_dict(self) -> dict[str, Any]:
        """Return what the ledgers explain; nothing where none were asked for."""
        if self.explained is None:
            return {}
        return {"explained": [asdict(row) for row in self.explained]}


def where_text(test: Test) -> str:
    """Return where the data depart most, after a "No"; "" where no part stands out."""
    return f": most at {test.where[0]}" if test.where else ""


def _span(group: Group) -> str:
    first, last = group.batch_ids[0], group.batch_ids[-1]
    return first if len(group.batch_ids) == 1 else f"{first} .. {last}"


def audit_data(
    config: Config,
    data: Path,
    companies: Path | None = None,
    *,
    from_events: bool = False,
    read: str | None = None,
    start_us: int | None = None,
    batches: int | None = None,
    ledger: Path | None = None,
    alpha: float = 0.05,
    mapper: Mapper | None = None,
    progress: Callable[[int], object] | None = None,
) -> Audit:
    """Hold the batches of a data set to a configuration: structure first, then the whole battery.

    Parameters
    ----------
    config : Config
        What the data are said to follow; its seed does not matter.
    data : Path
        A data set (``companies.jsonl`` and ``events/``), a run, a folder of batches or a batch,
        here or on a storage. There, a batch is what has a record; all else is nothing.
    companies : Path, optional
        The companies file; by default the data set's own.
    from_events : bool
        Whether there is no roster: no companies file is read, all companies and drivers that events
        name are taken for real, and the tests that need to know who they are are left out.
    read : str, optional
        A query that DuckDB reads the data with (see `query.Query`); then nothing is said of files.
    start_us : int, optional
        With `read`, the start of the first interval.
    batches : int, optional
        With `read`, how many intervals there are.
    ledger : Path, optional
        The folder of the batches' ledgers. What they explain is no finding, and the tests look at
        the other lines; what they do not explain is one, and so is an entry that no line bears out.
        Not with `read`, whose rows have no numbers.
    alpha : float
        Level of all tests together.
    mapper : Mapper, optional
        Reads the files somewhere else (see `tally.tally_batches`); the audit is the same.
    progress : callable, optional
        Called with numbers of bytes as they are read.

    Raises
    ------
    InputError
        Where there is no such folder, or the companies file that was named cannot be read, or
        ledgers are asked for together with a query. What is wrong inside of a folder is a finding.
    FleetsimError
        Where a storage or a worker fails.
    """
    faults = Faults()
    if ledger is not None:
        _require_ledgers(ledger)
        if read is not None:
            raise InputError("ledger", "found a ledger and a query; allowed: one of them")
    if read is not None:
        from fleetsim.tally.query import Query  # where it is asked for

        with Query(read, data, config, start_us=start_us, batches=batches) as query:
            place = _Place(data, data / COMPANIES_NAME, [*query.sources()], [])
            made = _audited(
                config, data, place, companies, from_events, faults, alpha, None, None, progress
            )
        return replace(made, read=read)
    located = _located(data, config, faults)
    if located is None:
        return _nothing_read(data, alpha, faults)
    return _audited(
        config, data, located, companies, from_events, faults, alpha, ledger, mapper, progress
    )


def _require_ledgers(folder: Path) -> None:
    """Refuse a folder of ledgers that is not there."""
    if is_remote(folder):
        require(folder)
        return
    with told(folder):
        there = folder.is_dir()
    if not there:
        raise InputError(str(folder), "no such folder; expected the ledgers of the batches")


def _audited(
    config: Config,
    data: Path,
    place: _Place,
    companies: Path | None,
    from_events: bool,
    faults: Faults,
    alpha: float,
    ledger: Path | None,
    mapper: Mapper | None,
    progress: Callable[[int], object] | None,
) -> Audit:
    """Return the audit of batches that were found."""
    roster = None if from_events else companies or place.companies

    def tallied(roster: Path | None) -> Tally:
        return tally_batches(
            config,
            roster,
            place.batches,
            any_seed=True,
            lenient=True,
            faults=faults,
            ledger=ledger,
            mapper=mapper,
            progress=progress,
        )

    try:
        tally = tallied(roster)
    except InputError as error:
        if companies is not None or roster is None:
            raise
        # Without companies that can be read, what the events say by themselves can be looked at.
        kind = FaultKind.MEMBER if roster.is_file() else FaultKind.FOLDER
        for fault in error.faults:
            faults.add(kind, roster.name, fault, "companies file")
        tally = tallied(None)
    listed = all(sample.has_roster for sample in tally.samples)
    most = max(end - first for first, end in tally.spans)
    return Audit(
        data=data,
        alpha=alpha,
        batch_ids=tally.batch_ids,
        lines=tally.lines,
        faults=tally.faults,
        fault_counts=tally.fault_counts,
        causes=tally.causes,
        examined=tally.examined,
        groups=_groups(config, tally, alpha, roster),
        roster="companies" if listed else "from-events" if from_events else "none",
        left_out=() if listed else without_roster(most),
        explained=kind_counts(config, tally),
        defects=bool(config.defects),
    )


def _groups(config: Config, tally: Tally, alpha: float, roster: Path | None) -> tuple[Group, ...]:
    """Return the tests on the batches of each roster, judged together."""
    law = law_of(config, ledger=tally.explained is not None)
    made = [make_tests(sample, law) for sample in tally.samples]
    rows = iter(judge_tests([test for tests in made for test in tests], law, alpha=alpha))
    groups = []
    for sample, (first, end), tests in zip(tally.samples, tally.spans, made, strict=True):
        batch_ids = tally.batch_ids[first:end]
        names = names_of(config, batch_ids, roster)  # it reads the companies once at most
        groups.append(
            Group(
                batch_ids,
                sample.n_events,
                sample.n_drivers if sample.has_roster else None,
                tuple(record_test(next(rows), names) for _ in tests),
                sample.unplaced,
                sample,
            )
        )
    return tuple(groups)


def names_of(config: Config, batch_ids: Sequence[str], companies: Path | None) -> Names:
    """Return what the parts of consecutive batches with one roster are called.

    The companies file is read again only where a company has to be named.
    """
    types = type_law(config).names
    start_us = time_or_none(batch_ids[0])
    if companies is None or start_us is None or not companies.is_file():
        return Names(batches=batch_ids, types=types)

    @cache
    def ids() -> Any:
        fleet = read_companies(companies, bad=lambda fault: None)
        return fleet.ids_of(np.flatnonzero(fleet.eligible(start_us)))

    def company(at: int) -> str:
        there = ids()
        return there[at].tobytes().decode() if at < len(there) else f"company {at + 1}"

    return Names(
        batches=batch_ids,
        types=types,
        drivers_per_company=config.drivers_per_company,
        company=company,
    )


def kind_counts(config: Config, tally: Tally) -> tuple[KindCount, ...] | None:
    """Return what the ledgers explain of each kind, held to its law over all batches."""
    if tally.explained is None:
        return None
    own, rates = tally.explained, law_of(config, ledger=True).defects
    counts = added([sample.defects for sample in tally.samples if sample.defects is not None])
    rows = []
    for kind in DEFECT_KINDS:
        if not (rates.get(kind) or own.entries[kind]):
            continue
        result = defect_test(counts, kind, rates)
        number, n, chance = counts.of(kind, rates)
        rows.append(
            KindCount(
                kind=kind,
                entries=own.entries[kind],
                found=own.found[kind],
                tested=number,
                n=n,
                expected=n * chance,
                p_value=result.p_value,
            )
        )
    return tuple(rows)


def _nothing_read(data: Path, alpha: float, faults: Faults) -> Audit:
    found = tuple(faults.kept), dict(faults.counts), dict(faults.causes)
    return Audit(data, alpha, (), 0, *found, {}, (), expected=EXPECTED)


#: What a data set looks like.
EXPECTED = f"""\
An audit reads one of these (a run, a data set, its events/, or a batch alone):

    DATA_DIR/
      {COMPANIES_NAME}                     one company a line; without it: --roster from-events
      events/
        20251108T120000Z/                 a batch: the id is the start of its interval
          {META_NAME}                 its record
          events.jsonl                    or events.jsonl.gz, events.jsonl.zst, events.parquet,
        20251108T121500Z/                 or parts: part-000000.jsonl, part-000001.jsonl, ...
        date=2025-11-08/hour=12/          or folders named key=value, with such files of any name

Other tables and files: --read "SELECT ... FROM read_csv('{{data}}/*.csv')"."""  # noqa: S608


@dataclass(frozen=True)
class _Place:
    """Where batches and companies stand, and what else stands among the batches."""

    events: Path
    companies: Path
    batches: list[Path | Partition]
    strays: list[str]


def _located(data: Path, config: Config, faults: Faults) -> _Place | None:
    """Return where batches stand, and add what does not belong there; None where there is none.

    Raises
    ------
    InputError
        Where there is no such folder.
    """
    if is_remote(data):
        require(data)
    with told(data):
        what = None if data.is_dir() else "not a folder" if data.exists() else "no such folder"
    if what:
        raise InputError(str(data), f"{what}; expected a data set, a folder of batches or a batch")
    with told(data):
        place = _locate(data, config, faults)
    if place is None:
        message = "not a data set: neither events/ nor a batch stands here"
        faults.add(FaultKind.FOLDER, data.name or str(data), message, "no data set")
        return None
    for name in place.strays:
        faults.add(
            FaultKind.FOLDER,
            f"{place.events.name}/{name}",
            "does not belong here: no batch",
            "stray file",
        )
    if not place.batches:
        faults.add(FaultKind.FOLDER, place.events.name, "there is no batch here", "no batch")
        return None
    return place


def _locate(data: Path, config: Config, faults: Faults) -> _Place | None:
    if is_batch(data):
        return _Place(data.parent, data_folder(data) / COMPANIES_NAME, [data], [])
    for events in events_folders(data):
        if events.is_dir():
            return _place(events, events.parent / COMPANIES_NAME, config, faults)
    if is_remote(data):
        found = bool(folders_with(data, META_NAME))
    else:
        folders = [path for path in data.iterdir() if path.is_dir()]
        if any(is_partition(path.name) for path in folders):
            # The folder of the batches, or a data set that has no folder of them.
            own = data / COMPANIES_NAME
            companies = own if own.is_file() else data.resolve().parent / COMPANIES_NAME
            return _place(data, companies, config, faults, {COMPANIES_NAME})
        found = any(is_batch(path) for path in folders)
    if found:
        parent = data if is_remote(data) else data.resolve()
        return _place(data, parent.parent / COMPANIES_NAME, config, faults)
    return None


def _place(
    events: Path,
    companies: Path,
    config: Config,
    faults: Faults,
    known: AbstractSet[str] = frozenset(),
) -> _Place:
    if is_remote(events):
        strays = [name for name in sorted(sizes(events)) if not name.startswith(".")]
        return _Place(events, companies, [*folders_with(events, META_NAME)], strays)
    seen = [path for path in sorted(events.iterdir()) if not path.name.startswith(".")]
    batches: list[Path | Partition] = [
        path for path in seen if path.is_dir() and not is_partition(path.name)
    ]
    if any(path.is_dir() and is_partition(path.name) for path in seen):
        batches += partitions(events, config, faults)
        known = known | {"_SUCCESS"}
    strays = [path.name for path in seen if not path.is_dir() and path.name not in known]
    return _Place(events, companies, batches, strays)


def bytes_to_read(data: Path) -> int:
    """Return the size of the files with events in a folder, for a progress bar.

    Of a storage that would take as many requests as all of the batches; there it is 0.
    """
    if is_remote(data):
        return 0
    names = ("*.jsonl", "*.jsonl.gz", "*.jsonl.zst", "*.parquet")
    files = (
        path
        for name in names
        for path in data.rglob(name)
        if path.is_file() and path.name != COMPANIES_NAME
    )
    return sum(path.stat().st_size for path in files)


def audit_text(audit: Audit) -> str:
    """Return an audit as a terminal shows it."""
    n_batches = len(audit.batch_ids)
    parts = [
        f"{audit.data}: {n_batches} batch{'' if n_batches == 1 else 'es'}, {audit.lines} lines"
    ]
    parts.append(str(faults_table(audit.faults, audit.fault_counts, audit.examined)))
    if len(audit.causes) > 1:
        parts.append(str(_causes_table(audit)))
    if audit.explained is not None:
        parts.append(_explained_text(audit.explained))
    elif audit.defects:
        parts.append(
            "The configuration injects defects, and each is a finding here; --ledger DIR tells "
            "those that the ledger explains from the others."
        )
    parts += [_group_text(group) for group in audit.groups]
    if audit.read is not None:
        parts.append(
            "Read by a query: its rows are the lines. Nothing is said of files, the form and order "
            "of lines, or records."
        )
    if audit.left_out:
        parts.append(
            "There is no roster: companies, drivers and trucks are taken as the events name them; "
            "only types and the numbers of drivers are held to the configuration. "
            f"{len(audit.left_out)} tests need to know who the drivers are and are left out: "
            f"{', '.join(audit.left_out)}."
        )
    if not audit.findings:
        parts.append(
            f"Nothing found. Of fault-free data, {100 * audit.alpha:g} % fail some test by chance."
        )
    else:
        parts.append("\n".join(["Findings:", *(f"- {finding}" for finding in audit.findings)]))
    if audit.expected:
        parts.append(audit.expected)
    return "\n\n".join(parts)


def _explained_text(kinds: tuple[KindCount, ...]) -> str:
    """Return what the ledgers explain as text."""
    text = f"Explained by the ledger; these lines count in no other test:\n\n{kinds_table(kinds)}"
    away = sum(row.found - row.tested for row in kinds)
    if away:
        text += (
            f"\n{away} late records are of batches that are not at hand, and are not among those "
            "that the test expects."
        )
    return text


def kinds_table(kinds: tuple[KindCount, ...]) -> Table:
    """Return what the ledgers explain of each kind as a table."""
    rows = tuple(
        (
            row.kind,
            str(row.entries),
            str(row.found),
            number(row.expected, 4) if row.n else "–",
            number(row.p_value, 3),
        )
        for row in kinds
    )
    header = ("kind", "entries", "found", "expected", "p")
    return Table(header, rows, "explained by the ledger")


def _causes_table(audit: Audit) -> Table:
    """Return the causes of all faults: a rare one has its row beside a frequent one."""
    first: dict[Cause, str] = {}
    for fault in audit.faults:
        first.setdefault((fault.kind, fault.cause), str(fault))
    rows = tuple(
        (cause[1] or cause[0].words, str(number), first.get(cause, ""))
        for cause, number in audit.causes.items()
    )
    return Table(("cause", "number", "the first"), rows)


def _group_text(group: Group) -> str:
    header = ("test", "p", "p (Holm)", "verdict", "what it sees in 9 of 10 runs")
    rows = tuple(
        (
            test.name,
            number(test.p_value, 3),
            number(test.p_holm, 3),
            test.verdict,
            test.caught or (test.note or "").removeprefix("no test: "),
        )
        for test in group.tests
    )
    batches = f"{len(group.batch_ids)} batches" if len(group.batch_ids) > 1 else group.batch_ids[0]
    drivers = "" if group.drivers is None else f" of {group.drivers} drivers"
    title = f"{batches}, {group.events} events{drivers}"
    if group.unplaced:
        title += f"; {group.unplaced} lines are no events of the roster and count in no test"
    return f"{title}\n{answers_line(group.tests)}\n\n{Table(header, rows)}"
