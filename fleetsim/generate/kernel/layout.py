"""What a line of events consists of, as the arrays from which the kernel writes it.

Everything follows from `EVENT_FIELDS`, so that the data model stays in one place.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fleetsim.generate.config import Config
from fleetsim.generate.kernel.interface import SLACK
from fleetsim.generate.model import EVENT_FIELDS, Field, FieldKind, choice_law, escaped

_SLACK = bytes(SLACK)  # that a copy by the kernel may read
_LINE_KINDS = {FieldKind.UUID: 1, FieldKind.CHOICE: 2, FieldKind.TIME: 3}  # compiled.Op, 0 text
_DRIVER_KINDS = {
    FieldKind.COMPANY: 1,
    FieldKind.DRIVER: 2,
    FieldKind.TRUCK: 3,
}  # 0 is constant text

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Layout:
    """A line of events, as the arrays that `compiled.draw` and `compiled.encode` take.

    fields : drawn fields with their operation, purpose and first column, uint64 (n,) each;
    spans, table, order : where a field's law stands in the tables, its thresholds, and the
    positions of the names in sampling order;
    ops, places, parts, text, names, name_spans : see `compiled.encode`;
    columns : how many columns the events are drawn into; segments : of a driver's text.
    """

    draw_ops: Words
    purposes: Words
    draw_columns: Words
    spans: Words
    table: Words
    order: Words
    ops: Words
    places: Words
    parts: Words
    text: npt.NDArray[np.uint8]
    names: Words
    name_spans: Words
    columns: int
    segments: int
    fields: tuple[Field, ...]


@dataclass
class _Builder:
    """Collects a line from left to right."""

    text: bytearray = field(default_factory=bytearray)
    ops: list[tuple[int, int]] = field(default_factory=list)
    parts: list[tuple[int, int, int, int]] = field(default_factory=list)
    segments: int = 0

    def put(self, text: bytes) -> tuple[int, int]:
        """Keep a text and return its span."""
        self.text += text
        return len(self.text) - len(text), len(text)

    def part(self, kind: int, text: bytes = b"") -> None:
        """Add what is the same for all events of a driver."""
        if not self.ops or self.ops[-1][0]:
            self.ops.append((0, self.segments))
            self.segments += 1
        self.parts.append((self.segments - 1, kind, *self.put(text)))


def event_layout(config: Config) -> Layout | None:
    """Return the layout of a configuration's events; None where the kernel cannot write a field."""
    if any(f.kind not in (*_LINE_KINDS, *_DRIVER_KINDS) for f in EVENT_FIELDS):
        return None
    line = _Builder()
    names: list[tuple[int, int]] = []
    name_spans: dict[int, tuple[int, int]] = {}
    drawn: list[tuple[int, int, int]] = []
    spans: list[tuple[int, int]] = []
    table: list[int] = []
    order: list[int] = []
    columns = 1  # the first is the driver
    for number, row in enumerate(EVENT_FIELDS):
        line.part(0, f'{"," if number else "{"}"{row.name}":"'.encode())
        if row.kind in _DRIVER_KINDS:
            if row.kind is FieldKind.TRUCK:
                line.part(0, b"TRK-")
            elif row.kind is FieldKind.DRIVER:
                line.part(0, b"DRV-")
                line.part(_DRIVER_KINDS[FieldKind.COMPANY])
                line.part(0, b"-")
            line.part(_DRIVER_KINDS[row.kind])
        else:
            assert row.purpose is not None  # noqa: S101 - the model says so of drawn kinds
            kind = _LINE_KINDS[row.kind]
            span = (0, 0)
            if row.kind is FieldKind.CHOICE:
                law = choice_law(config, row.key or row.name)
                span = (len(table), len(law.thresholds))
                # One place more than names, so that each choice has one of its own.
                room = len(law.names) + 1
                table += [*law.thresholds, *[0] * (room - len(law.thresholds))]
                order += [*law.sampling_order, 0]
                name_spans[len(line.ops)] = (len(names), len(law.names))
                names += [line.put(escaped(name)) for name in law.names]
            drawn.append((kind, int(row.purpose), columns))
            spans.append(span)
            line.ops.append((kind, columns))
            columns += 2 if row.kind is FieldKind.UUID else 1
        line.part(0, b'"')
    line.part(0, b"}\n")
    return Layout(
        draw_ops=_words([d[0] for d in drawn]),
        purposes=_words([d[1] for d in drawn]),
        draw_columns=_words([d[2] for d in drawn]),
        spans=_words(spans, 2),
        table=_words(table),
        order=_words(order),
        ops=_words([op for op, _ in line.ops]),
        places=_words([place for _, place in line.ops]),
        parts=_words(line.parts, 4),
        text=np.frombuffer(bytes(line.text) + _SLACK, np.uint8),
        names=_words(names, 2),
        name_spans=_words([name_spans.get(k, (0, 0)) for k in range(len(line.ops))], 2),
        columns=columns,
        segments=line.segments,
        fields=tuple(f for f in EVENT_FIELDS if f.purpose is not None),
    )


def _words(values: object, width: int | None = None) -> Words:
    words = np.array(values, np.uint64)
    return words if width is None else words.reshape(-1, width)
