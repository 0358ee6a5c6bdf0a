"""Lines of events as columns by the kernel: what it has to know of them, and a call of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fleetsim.generate.config import Config
from fleetsim.generate.encode import driver_digits
from fleetsim.generate.kernel.interface import PART_COLUMNS, SLACK, Part
from fleetsim.generate.kernel.machine import kept_kernels
from fleetsim.generate.model import Field, FieldKind, choice_law, escaped

_MOST_DIGITS = 9  # of a driver's number, as the data model has them
_ENDS = 1 << 14  # of lines that are found at once
_COLUMNS = 3  # in front of the drawn values: position, driver, company
_DRIVERS = (FieldKind.DRIVER, FieldKind.COMPANY, FieldKind.TRUCK)
_MARKS = {FieldKind.DRIVER: b"DRV-", FieldKind.TRUCK: b"TRK-"}

Words = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]


class GoodLines(NamedTuple):
    """Lines in canonical form whose members and choices are all known.

    line : int64 (n,), their positions among the lines that were read, from 0; driver, company :
    int64 (n,), as `tally.lines.Rows` has them; drawn : by field name, as there.
    """

    line: Numbers
    driver: Numbers
    company: Numbers
    drawn: dict[str, npt.NDArray[Any]]


class LineKernel:
    """Reads lines by the kernel.

    Parameters
    ----------
    kernels : LoadedKernels
    config : Config
    fields : sequence of Field
        What a line consists of; drivers, companies and trucks stand together.
    companies : bytes array (n,) or None
        The sorted ids; None where there is no roster.
    order : int64 array (n,)
        The position in the fleet of each of them.
    longest : int
        Bytes that a good line has at most.
    """

    def __init__(
        self,
        kernels: Any,
        config: Config,
        fields: Sequence[Field],
        companies: npt.NDArray[np.bytes_] | None,
        order: Numbers,
        longest: int,
    ) -> None:
        self._read, self._find = kernels.read_lines, kernels.find_ends
        self._limit = longest
        self._columns: dict[str, tuple[FieldKind, int]] = {}
        self._width = _COLUMNS
        self._fixed = bytearray()
        self._names: list[tuple[int, int, int, int]] = []
        self._parts = np.array(self._layout(config, fields), np.uint64)
        self._text = np.frombuffer(bytes(self._fixed) + bytes(SLACK), np.uint8)
        self._words = np.array(self._names, np.uint64).reshape(-1, 4)
        ids = b"" if companies is None else companies.tobytes()
        self._ids = np.frombuffer(ids + bytes(SLACK), np.uint8)
        self._order = order.astype(np.uint64)
        self._roster = (companies is not None, config.drivers_per_company, driver_digits(config))

    def _put(self, text: bytes) -> tuple[int, int]:
        """Keep a text; return its place and length."""
        self._fixed += text
        return len(self._fixed) - len(text), len(text)

    def _layout(self, config: Config, fields: Sequence[Field]) -> list[list[int]]:
        """Return what a line consists of, as rows of numbers."""
        rows: list[list[int]] = []
        text, driver = b"", [int(Part.DRIVER)]

        def add(*row: int) -> None:
            rows.append([*row, *[0] * (PART_COLUMNS - len(row))])

        for i, field in enumerate(fields):
            text += b'%b"%b":"' % (b"," if i else b"{", field.name.encode())
            text += _MARKS.get(field.kind, b"")
            if field.kind in _DRIVERS[1:]:
                driver += self._put(text)
                if field.kind is _DRIVERS[-1]:
                    add(*driver)
                text = b'"'
                continue
            add(Part.TEXT, *self._put(text))
            text = b'"'
            if field.kind is FieldKind.DRIVER:
                continue
            column = self._width
            self._columns[field.name] = (field.kind, column)
            self._width += 2 if field.kind is FieldKind.UUID else 1
            if field.kind is FieldKind.UUID:
                add(Part.UUID, column)
            elif field.kind is FieldKind.TIME:
                add(Part.TIME, column)
            else:
                names = choice_law(config, field.key or field.name).names
                add(Part.CHOICE, column, len(self._names), len(names))
                self._names += [self._name(escaped(name) + b'"') for name in names]
        add(Part.TEXT, *self._put(text + b"}\n"))
        return rows

    def _name(self, text: bytes) -> tuple[int, int, int, int]:
        """Return what is compared first of a name with its quote, and where it stands."""
        head, mask = text[:8], b"\xff" * min(8, len(text))
        word, bits = (int.from_bytes(part, "little") for part in (head, mask))
        return word, bits, *self._put(text)

    def ends(self, text: npt.NDArray[np.uint8], start: int, stop: int) -> Numbers:
        """Return where the lines between two places end, behind their line feeds.

        There is `SLACK` behind the last place.
        """
        if stop + SLACK > len(text):
            raise ValueError(f"found {len(text) - stop} bytes behind the lines; allowed: {SLACK}")
        found: list[Numbers] = []
        while start < stop:
            room = np.empty(_ENDS, np.int64)
            n, start = self._find(text, start, stop, room)
            found.append(room[:n])
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def read(
        self,
        text: npt.NDArray[np.uint8],
        start: int,
        ends: Numbers,
        eligible: npt.NDArray[np.bool_],
    ) -> GoodLines:
        """Read consecutive lines.

        Parameters
        ----------
        text : uint8 array
            Has `SLACK` behind the last line.
        start : int
            Where the first line begins.
        ends : int64 array (n,)
            Where each one ends, behind its line feed.
        eligible : bool array (n_companies,)
            Which companies of the fleet may have events.
        """
        out = np.empty((self._width, len(ends)), np.uint64)
        n = self._read(
            text, ends, start, self._limit, self._parts, self._text, self._words,
            (self._ids, self._order, eligible), self._roster, out,
        )  # fmt: skip
        if 2 * n < len(ends):  # the room of the others is better used by who reads them
            out = out[:, :n].copy()
        line, driver, company = out[:_COLUMNS, :n].view(np.int64)
        drawn: dict[str, npt.NDArray[Any]] = {}
        for name, (kind, column) in self._columns.items():
            if kind is FieldKind.UUID:
                drawn[name] = out[column : column + 2, :n].T
            else:
                drawn[name] = out[column, :n].view(np.int64)
        return GoodLines(line, driver, company, drawn)


def line_kernel(
    config: Config,
    fields: Sequence[Field],
    companies: npt.NDArray[np.bytes_] | None,
    order: Numbers,
    longest: int,
) -> LineKernel | None:
    """Return the kernel that reads lines, see `LineKernel`.

    None where there is no machine code yet, since compiling it takes longer than reading most
    files, or where it does not know such lines.
    """
    kinds = tuple(field.kind for field in fields if field.kind in _DRIVERS)
    first = next((i for i, field in enumerate(fields) if field.kind in _DRIVERS), 0)
    together = tuple(field.kind for field in fields[first : first + len(_DRIVERS)])
    known = kinds == together == _DRIVERS
    if not known or driver_digits(config) > _MOST_DIGITS:
        return None
    kernels = kept_kernels()
    if kernels is None:
        return None
    return LineKernel(kernels, config, fields, companies, order, longest)
