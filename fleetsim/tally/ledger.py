"""Hold the lines of a file to the ledger of its injected defects.

A ledger names lines by number and by the hash of their bytes. What it names and what stands there
with those bytes is explained: it leaves the statistics, and its faults are counted by kind. Of each
entry some 60 bytes are kept while its file is read, in arrays, and of each file what `Explained`
holds.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from fleetsim.base.errors import InputError, found
from fleetsim.batch.dataset import ledger_name
from fleetsim.batch.ledger import read_ledger
from fleetsim.batch.meta import META_NAME, BatchMeta
from fleetsim.generate.config import Config
from fleetsim.generate.defects import DEFECT_KINDS, defect_rates
from fleetsim.stats.effects import COPIES
from fleetsim.stats.sample import LATE, DefectCounts
from fleetsim.tally.faults import Cause, FaultKind, Faults
from fleetsim.tally.partial import LineFault

Ints: TypeAlias = npt.NDArray[np.int64]
Bytes: TypeAlias = npt.NDArray[np.uint8]

KINDS = tuple(DEFECT_KINDS)
_NUMBER = {kind: number for number, kind in enumerate(KINDS)}
_NO_COPIES = np.array([kind not in COPIES for kind in KINDS])
_DIGEST = hashlib.sha256().digest_size


class State(IntEnum):
    """What became of an entry."""

    MISSING = 0  # there is no such line
    OTHER_BYTES = 1  # the line is another one
    EXPLAINED = 2
    OTHER_KIND = 3  # the line has the bytes, but not the defect


class LedgerFile(msgspec.Struct, frozen=True):
    """Where the ledger of a file stands, and what is said of it.

    Attributes
    ----------
    path : str
        Path or URL.
    sha256 : str or None
        Its hash as the record has it, where there is one.
    required : bool
        Whether there has to be one: the configuration injects defects, or the record names it.
    """

    path: str
    sha256: str | None
    required: bool


@dataclass(eq=False)
class Marks:
    """The entries of a ledger, in the order of their lines, and what becomes of each.

    Attributes
    ----------
    line : int64 array (n,)
        Ascending.
    digest : uint8 array (n, 32)
    kind : uint8 array (n,)
        Positions in `KINDS`.
    event_id : uint64 array (n, 2)
    origin : int32 array (n,)
        Position in `origins` of the batch of a late record; -1 for others.
    origins : tuple of str
    state : uint8 array (n,)
        Values of `State`.
    """

    line: Ints
    digest: Bytes
    kind: Bytes
    event_id: npt.NDArray[np.uint64]
    origin: npt.NDArray[np.int32]
    origins: tuple[str, ...]
    state: Bytes = field(init=False)

    def __post_init__(self) -> None:
        self.state = np.zeros(len(self.line), np.uint8)

    def __len__(self) -> int:
        return len(self.line)

    def between(self, first: int, last: int) -> slice:
        """Return which entries name lines from `first` to `last`."""
        low, high = np.searchsorted(self.line, [first, last + 1]).tolist()
        return slice(low, high)

    def unread(self, number: int) -> None:
        """Take note that a line could not be compared: it is none that was ever written."""
        self.state[self.between(number, number)] = State.OTHER_BYTES

    def compare(
        self, view: memoryview, starts: Ints, ends: Ints, first: int
    ) -> npt.NDArray[np.bool_]:
        """Return which of consecutive lines are explained, and note it.

        Parameters
        ----------
        view : memoryview
            The bytes of the lines.
        starts, ends : int64 array (n,)
            Where each line begins, and where it ends behind its line feed.
        first : int
            Number of the first line.
        """
        explained = np.zeros(len(starts), np.bool_)
        mine = self.between(first, first + len(starts) - 1)
        if mine.start == mine.stop:
            return explained
        at = self.line[mine] - first
        places = zip(starts[at].tolist(), (ends[at] - 1).tolist(), strict=True)
        sha256 = hashlib.sha256
        seen = b"".join([sha256(view[start:end]).digest() for start, end in places])
        digests = np.frombuffer(seen, np.uint8).reshape(-1, _DIGEST)
        same = (digests == self.digest[mine]).all(axis=1)
        self.state[mine] = np.where(same, State.EXPLAINED, State.OTHER_BYTES)
        explained[at[same]] = True
        return explained

    def reject(self, numbers: Iterable[int]) -> None:
        """Take note of explained lines that do not have the defect of their entry."""
        self.state[np.searchsorted(self.line, list(numbers))] = State.OTHER_KIND

    def kinds_of(self, numbers: Ints) -> Bytes:
        """Return the kinds of entries by the numbers of their lines."""
        return self.kind[np.searchsorted(self.line, numbers)]

    def own_ids(self) -> tuple[Ints, npt.NDArray[np.uint64]]:
        """Return lines and event ids of explained records that stand once: all but copies."""
        once = (self.state == State.EXPLAINED) & _NO_COPIES[self.kind]
        return self.line[once], self.event_id[once]

    def faults(self, file: int, most: int) -> tuple[list[LineFault], Counter[Cause]]:
        """Return the first entries that are not borne out, of each cause, and how many there are.

        Parameters
        ----------
        file : int
            Number of the file.
        most : int
            How many of each cause are returned at most.
        """
        faults, causes = [], Counter[Cause]()
        for state, (cause, text) in _FAULTS.items():
            there = np.flatnonzero(self.state == state)
            if len(there):
                causes[FaultKind.LEDGER, cause] = len(there)
            for i in there[:most].tolist():
                message = text.format(KINDS[self.kind[i]])
                faults.append(LineFault(file, int(self.line[i]), FaultKind.LEDGER, cause, message))
        return faults, causes

    def finish(self) -> Explained:
        """Return what is known of the file when all of it was read."""
        good = self.state == State.EXPLAINED
        late = self.origin[good & (self.kind == _NUMBER[LATE])]
        by_origin = np.bincount(late[late >= 0], minlength=len(self.origins)).tolist()
        return Explained(
            entries=_counter(self.kind),
            found=_counter(self.kind[good]),
            late=Counter(dict(zip(self.origins, by_origin, strict=True))),
            lines=int(((self.state == State.EXPLAINED) | (self.state == State.OTHER_KIND)).sum()),
        )


def _counter(kind: Bytes) -> Counter[str]:
    numbers = np.bincount(kind, minlength=len(KINDS)).tolist()
    return Counter({name: number for name, number in zip(KINDS, numbers, strict=True) if number})


_FAULTS = {
    State.MISSING: ("line of the ledger missing", "the ledger has {} here: there is no such line"),
    State.OTHER_BYTES: (
        "line of the ledger differs",
        "the ledger has {} here, and a line of other bytes",
    ),
    State.OTHER_KIND: (
        "another defect than the ledger's",
        "the ledger has {} here, which is not what the line has",
    ),
}


@dataclass(frozen=True)
class Explained:
    """What the ledgers of adjacent files explain; the sum of several is that of their batch.

    Attributes
    ----------
    entries, found : Counter
        Entries by kind, and those that the lines bear out.
    late : Counter
        Late records that were found, by the id of the batch that they are of.
    lines : int
        Lines that leave the statistics.
    unusable : str
        Why a ledger is of no use, in words; empty where all are.
    """

    entries: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)
    lines: int = 0
    unusable: str = ""

    def __add__(self, other: Explained) -> Explained:
        return Explained(
            self.entries + other.entries,
            self.found + other.found,
            self.late + other.late,
            self.lines + other.lines,
            self.unusable or other.unusable,
        )

    def records(self, lines: int) -> int:
        """Return how many records of a batch stand in it, of so many lines: no copy, no late one.

        A line that an entry names, and that has other bytes, is taken for a record.
        """
        return lines - sum(self.found[kind] for kind in (*COPIES, LATE))


def read_marks(file: LedgerFile, path: Path) -> Marks | Explained:
    """Return the entries of a ledger, or why it is of no use.

    A ledger that need not be there and is not has no entries.
    """
    line, kind, origin = array("q"), array("B"), array("i")
    digest, event_id = bytearray(), bytearray()
    origins: dict[str | None, int] = {}
    try:
        if not file.required and not path.is_file():
            return Explained()
        for entry in read_ledger(path, file.sha256):
            try:
                own, of_event = bytes.fromhex(entry.sha256), bytes.fromhex(_hex(entry.event_id))
            except ValueError:
                own = of_event = b""
            if len(own) != _DIGEST or len(of_event) != 16:
                value = entry.event_id if len(own) == _DIGEST else entry.sha256
                raise InputError(str(path), f"damaged: found {found(value)}; allowed: a hash or id")
            line.append(entry.line)
            kind.append(_NUMBER[entry.kind])
            digest += own
            event_id += of_event
            late = entry.from_batch is not None
            origin.append(origins.setdefault(entry.from_batch, len(origins)) if late else -1)
    except InputError as error:
        why = f"{error.where}: {error.faults[0]}"
        return Explained(unusable=why.removeprefix(f"{path}: "))
    return Marks(
        np.array(line, np.int64),
        np.frombuffer(bytes(digest), np.uint8).reshape(-1, _DIGEST),
        np.array(kind, np.uint8),
        np.frombuffer(bytes(event_id), ">u8").astype(np.uint64).reshape(-1, 2),
        np.array(origin, np.int32),
        tuple(str(name) for name in origins),
    )


def _hex(event_id: str) -> str:
    return event_id.replace("-", "")


# --- what the ledgers of batches say together


@dataclass(frozen=True)
class Ledger:
    """A folder of ledgers, and what the configuration says of them."""

    folder: Path
    config: Config

    def file_of(self, batch: str, meta: BatchMeta | None, part: str | None) -> LedgerFile:
        """Return the ledger of a batch, or of a part of it by its name."""
        folder = self.folder if part is None else self.folder / batch
        sha256 = meta.ledgers.get(part) if meta else None
        path = folder / ledger_name(batch, part)
        return LedgerFile(str(path), sha256, bool(self.config.defects or sha256))


def check_rates(meta: BatchMeta, batch: str, config: Config, faults: Faults) -> None:
    """Hold what a record says of its defects to the configuration."""
    where = f"{batch}/{META_NAME}"
    if not meta.defects:
        if config.defects:
            why = "it names no ledger; the configuration injects defects"
            faults.add(FaultKind.LEDGER, where, why, "no ledger in the record")
        return
    rates, expected = meta.defects.rates, defect_rates(config)
    if rates != expected:
        why = f"defects.rates is {found(rates)}; the configuration gives {found(expected)}"
        faults.add(FaultKind.META, where, why, "defects.rates")


def count_defects(
    batches: list[tuple[str, int, Explained]], carriers: list[Explained | None]
) -> DefectCounts:
    """Return the defects of batches.

    Parameters
    ----------
    batches : list of (str, int, Explained)
        Id of each batch, its lines, and what its ledgers explain.
    carriers : list of Explained or None
        For each of them, of the batch that brings its late records, where that is at hand.
    """
    found: Counter[str] = Counter()
    records = seen = 0
    for (name, lines, own), carrier in zip(batches, carriers, strict=True):
        here = own.records(lines)
        records += here
        found.update({kind: n for kind, n in own.found.items() if kind != LATE})
        if carrier is not None:
            seen += here + carrier.late[name]
            found[LATE] += carrier.late[name]
    used = [own for _, _, own in batches] + [carrier for carrier in carriers if carrier]
    unusable = next((row.unusable for row in used if row.unusable), "")
    return DefectCounts(dict(found), records, seen, unusable and "a ledger is of no use")
