"""Faults of files: what they are faults of, and how they are collected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from fleetsim.base.tables import Table

EXAMPLES = 20  # faults of one cause that are kept with their text; all are counted


class FaultKind(Enum):
    """What a fault is a fault of."""

    FOLDER = "folder"  # the data set, the batch folder and its files
    LINE = "line"  # JSON, keys, types, form, order
    MEMBER = "member"  # companies, drivers and trucks that are not in the roster; unknown types
    DUPLICATE = "duplicate"  # an event id that stands twice
    TIME = "time"  # a timestamp outside [start, end)
    META = "meta"  # the record and the file disagree
    LEDGER = "ledger"  # a ledger of defects and the lines disagree; only where one is given

    @property
    def words(self) -> str:
        """What it is, for a table."""
        return _WORDS[self]


_WORDS = {
    FaultKind.FOLDER: "batch folder",
    FaultKind.LINE: "form or order of a line",
    FaultKind.MEMBER: "unknown company, driver, truck or type",
    FaultKind.DUPLICATE: "event_id twice",
    FaultKind.TIME: "timestamp outside the interval",
    FaultKind.META: "record against files and configuration",
    FaultKind.LEDGER: "ledger of defects against the lines",
}


#: What a fault is counted by: its kind, and what caused it in a few fixed words, such as
#: "missing key truck_id". A rare cause is shown however frequent another one of its kind is.
Cause: TypeAlias = tuple[FaultKind, str]


@dataclass(frozen=True)
class Fault:
    """One fault: its kind, where it stands, what it is, and its cause within the kind."""

    kind: FaultKind
    where: str
    message: str
    cause: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass
class Faults:
    """Collects faults: all are counted, the first of each cause are kept."""

    kept: list[Fault] = field(default_factory=list)
    causes: Counter[Cause] = field(default_factory=Counter)

    @property
    def counts(self) -> Counter[FaultKind]:
        """How many there are of each kind that occurs."""
        return counts_of(self.causes)

    def room(self, kind: FaultKind, cause: str, most: int = EXAMPLES) -> int:
        """Return how many more faults of a cause are kept."""
        return max(0, most - self.causes[kind, cause])

    def add(
        self, kind: FaultKind, where: str, message: str, cause: str = "", *, most: int = EXAMPLES
    ) -> None:
        """Take a fault; it is kept with its text where fewer than `most` came before it."""
        if self.room(kind, cause, most):
            self.kept.append(Fault(kind, where, message, cause))
        self.causes[kind, cause] += 1

    def add_unnamed(self, kind: FaultKind, cause: str, more: int) -> None:
        """Count faults for whose text there is no room."""
        if more > 0:
            self.causes[kind, cause] += more

    def extend(self, others: Faults) -> None:
        """Take all that another one collected."""
        kept = Counter((fault.kind, fault.cause) for fault in others.kept)
        for fault in others.kept:
            self.add(fault.kind, fault.where, fault.message, fault.cause)
        for (kind, cause), number in others.causes.items():
            self.add_unnamed(kind, cause, number - kept[kind, cause])


def faults_table(
    faults: Sequence[Fault],
    counts: Mapping[FaultKind, int],
    examined: Mapping[FaultKind, tuple[int, int]],
    caption: str = "",
) -> Table:
    """Return how many faults there are of each kind, what was asked for them, and the first.

    Parameters
    ----------
    faults : sequence of Fault
    counts : mapping
        How many there are of each kind.
    examined : mapping
        Of each kind, what was asked, and how many there are to ask.
    caption : str, optional
    """
    rows = []
    for kind in kinds_of(examined):
        asked, there = examined.get(kind, (0, 0))
        first = next((str(fault) for fault in faults if fault.kind is kind), None)
        if first is None:
            unit = _UNITS.get(kind, "lines")
            if asked == there and there:
                first = f"none found in {there} {unit}"
            elif asked:
                first = f"none found in {asked} of {there} {unit}; the others were not examined"
            else:
                first = f"0 of {there} {unit} examined"
        number = str(counts.get(kind, 0)) if asked or counts.get(kind) else "–"
        rows.append((kind.words, number, f"{asked} of {there}", first))
    header = ("faults", "number", "examined", "the first")
    return Table(header, tuple(rows), caption)


_UNITS = {FaultKind.FOLDER: "batches", FaultKind.META: "batches", FaultKind.LEDGER: "entries"}


def kinds_of(examined: Mapping[FaultKind, tuple[int, int]]) -> list[FaultKind]:
    """Return the kinds that may occur: those of a ledger only where there is one."""
    return [kind for kind in FaultKind if kind is not FaultKind.LEDGER or kind in examined]


def counts_of(causes: Mapping[Cause, int]) -> Counter[FaultKind]:
    """Return how many faults there are of each kind that occurs."""
    counts: Counter[FaultKind] = Counter()
    for (kind, _), number in causes.items():
        counts[kind] += number
    return counts
