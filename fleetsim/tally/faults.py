"""Faults of files: what they are faults of, and how they are collected."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

EXAMPLES = 20  # faults of one kind that are kept with their text; all are counted


class FaultKind(Enum):
    """What a fault is a fault of."""

    FOLDER = "folder"  # the data set, the batch folder and its files
    LINE = "line"  # JSON, keys, types, form, order
    MEMBER = "member"  # companies, drivers and trucks that are not in the roster; unknown types
    DUPLICATE = "duplicate"  # an event id that stands twice
    TIME = "time"  # a timestamp outside [start, end)
    META = "meta"  # the record and the file disagree

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
}


@dataclass(frozen=True)
class Fault:
    """One fault: its kind, where it stands and what it is."""

    kind: FaultKind
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass
class Faults:
    """Collects faults: all are counted, the first of each kind are kept."""

    kept: list[Fault] = field(default_factory=list)
    counts: Counter[FaultKind] = field(default_factory=Counter)

    def room(self, kind: FaultKind) -> int:
        """Return how many more faults of a kind are kept."""
        return max(0, EXAMPLES - self.counts[kind])

    def add(self, kind: FaultKind, where: str, message: str) -> None:
        """Take a fault."""
        if self.room(kind):
            self.kept.append(Fault(kind, where, message))
        self.counts[kind] += 1

    def add_unnamed(self, kind: FaultKind, more: int) -> None:
        """Count faults for whose text there is no room."""
        if more > 0:
            self.counts[kind] += more

    def extend(self, others: Faults) -> None:
        """Take all that another one collected."""
        kept = Counter(fault.kind for fault in others.kept)
        for fault in others.kept:
            self.add(fault.kind, fault.where, fault.message)
        for kind, number in others.counts.items():
            self.add_unnamed(kind, number - kept[kind])
