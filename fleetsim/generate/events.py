"""The generating process: from a configuration and a fleet's size to columns of events.

Blocks of `BLOCK` drivers run over all lines of the fleet. The words of a driver stand at an address
that depends on nobody else's eligibility: events of drivers that are not eligible are drawn and
dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from fleetsim.generate.config import Config
from fleetsim.generate.model import EVENT_FIELDS, FieldKind, Purpose, choice_law, count_law
from fleetsim.generate.streams import BLOCK, choose, scale, uuid_words, words

#: Events drawn at once. It bounds the memory of a batch and has no influence on its content.
CHUNK_EVENTS = 1 << 15


class EventColumns(msgspec.Struct, frozen=True):
    """Consecutive events in the order of a batch: by driver, then by offset.

    Rows that defects touch may stand elsewhere, and have times outside of the interval.

    Attributes
    ----------
    driver : int64 (n,)
        Position in the whole fleet, from 0.
    drawn : dict
        By field name, what the field's stream gave: uint64 (n, 2) for a UUID, int64 (n,)
        positions in the law's names for a choice, int64 (n,) microseconds since the start of the
        interval for a time.
    replaced : tuple
        What stands in place of a value: row, field's name, and the text, or None for null.
    """

    driver: npt.NDArray[np.int64]
    drawn: dict[str, npt.NDArray[np.uint64] | npt.NDArray[np.int64]]
    replaced: tuple[tuple[int, str, str | None], ...] = ()

    def __len__(self) -> int:
        return len(self.driver)

    def part(self, start: int, end: int) -> EventColumns:
        """Return the events from one place to another, without a copy."""
        drawn = {name: values[start:end] for name, values in self.drawn.items()}
        replaced = tuple(
            (row - start, name, text) for row, name, text in self.replaced if start <= row < end
        )
        return EventColumns(self.driver[start:end], drawn, replaced)

    def take(self, rows: npt.NDArray[np.int64]) -> EventColumns:
        """Return a copy of some rows, in the order asked for; none of them has a replaced value."""
        drawn = {name: values[rows] for name, values in self.drawn.items()}
        return EventColumns(self.driver[rows], drawn)

    def copy(self) -> EventColumns:
        """Return a copy of everything."""
        drawn = {name: values.copy() for name, values in self.drawn.items()}
        return EventColumns(self.driver.copy(), drawn, self.replaced)

    @staticmethod
    def joined(parts: Sequence[EventColumns]) -> EventColumns:
        """Return the events of all parts, in their order."""
        if not parts:
            return EventColumns(np.zeros(0, np.int64), _nothing())
        drawn = {
            name: np.concatenate([part.drawn[name] for part in parts]) for name in parts[0].drawn
        }
        replaced: list[tuple[int, str, str | None]] = []
        before = 0
        for part in parts:
            replaced += [(row + before, name, text) for row, name, text in part.replaced]
            before += len(part)
        driver = np.concatenate([part.driver for part in parts])
        return EventColumns(driver, drawn, tuple(replaced))


def _nothing() -> dict[str, npt.NDArray[np.uint64] | npt.NDArray[np.int64]]:
    """Return the drawn columns of no event."""
    return {
        field.name: np.zeros((0, 2), np.uint64)
        if field.kind is FieldKind.UUID
        else np.zeros(0, np.int64)
        for field in EVENT_FIELDS
        if field.purpose is not None
    }


def count_block(config: Config, ordinal: int, block: int, drivers: int) -> npt.NDArray[np.int64]:
    """Return the number of events of each driver of a block, int64 (up to BLOCK,).

    `drivers` is the size of the whole fleet, eligible or not, or where a part of it ends.
    """
    n = min(BLOCK, drivers - block * BLOCK)
    raw = words(config.seed, Purpose.EVENT_COUNT, ordinal, block, 0, n)
    return choose(raw, count_law(config).thresholds)


def count_events(config: Config, eligible: npt.NDArray[np.bool_], ordinal: int = 0) -> int:
    """Return how many events a batch holds, without drawing them.

    Parameters
    ----------
    config : Config
    eligible : bool array (n_companies,)
        Which companies of the fleet produce events.
    ordinal : int
        Number of the batch among the batches of its seed.
    """
    drivers = len(eligible) * config.drivers_per_company
    total = 0
    for block, keep in eligible_blocks(config, eligible, range(drivers), 0):
        total += int(count_block(config, ordinal, block, drivers)[keep].sum())
    return total


def draw_events(
    config: Config,
    eligible: npt.NDArray[np.bool_],
    ordinal: int = 0,
    drivers: range | None = None,
    first_company: int = 0,
) -> Iterator[EventColumns]:
    """Yield the events of a batch in order, some ten thousand at a time.

    Parameters
    ----------
    config, eligible, ordinal
        As in `count_events`.
    drivers : range, optional
        Only these, by their positions in the whole fleet; it starts with a block.
    first_company : int
        Which company `eligible` begins with.
    """
    if drivers is None:
        drivers = range(len(eligible) * config.drivers_per_company)
    for block, keep in eligible_blocks(config, eligible, drivers, first_company):
        counts = count_block(config, ordinal, block, drivers.stop)
        for part, start in slices_of(counts):
            if (keep[part] & (counts[part] > 0)).any():
                yield _draw_drivers(
                    config, ordinal, block, part.start, start, counts[part], keep[part]
                )


def slices_of(counts: npt.NDArray[np.int64]) -> Iterator[tuple[slice, int]]:
    """Yield slices of whole drivers of a block with about CHUNK_EVENTS events.

    Each comes with the number of the block's events before it.
    """
    ends = np.cumsum(counts)
    first = 0
    while first < len(counts):
        start = int(ends[first - 1]) if first else 0
        last = max(int(np.searchsorted(ends, start + CHUNK_EVENTS, side="right")), first + 1)
        yield slice(first, last), start
        first = last


def eligible_blocks(
    config: Config, eligible: npt.NDArray[np.bool_], drivers: range, first_company: int
) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
    """Yield each block that has an eligible driver, and which of its drivers are."""
    for block in range(drivers.start // BLOCK, -(-drivers.stop // BLOCK)):
        positions = np.arange(block * BLOCK, min((block + 1) * BLOCK, drivers.stop))
        keep = eligible[positions // config.drivers_per_company - first_company]
        if keep.any():
            yield block, keep


class Places(NamedTuple):
    """A few events of consecutive drivers of a block.

    Attributes
    ----------
    block : int
    first, start : int
        The first driver within the block, and the block's events before it.
    counts : int64 array (n_drivers,)
    places : int64 array (n,)
        Which events, ascending, from 0 at the first driver's first.
    """

    block: int
    first: int
    start: int
    counts: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]


#: Words (n, per_event) of a purpose, for events of the drivers of some places.
WordsAt = Callable[[Places, Purpose, int, npt.NDArray[np.int64]], npt.NDArray[np.uint64]]


def _words_of(
    config: Config, ordinal: int, block: int, start: int, n: int
) -> Callable[..., npt.NDArray[np.uint64]]:
    """Return what draws the words of n events of a block, one or more of a purpose for each."""

    def raw(purpose: Purpose, per_event: int = 1) -> npt.NDArray[np.uint64]:
        return words(config.seed, purpose, ordinal, block, per_event * start, per_event * n)

    return raw


def _draw_drivers(
    config: Config,
    ordinal: int,
    block: int,
    first: int,
    start: int,
    counts: npt.NDArray[np.int64],
    keep: npt.NDArray[np.bool_],
) -> EventColumns:
    """Draw the events of consecutive drivers of a block; `start` events of it come before them."""
    local = np.repeat(np.arange(len(counts)), counts)
    kept = keep[local]
    raw = _words_of(config, ordinal, block, start, len(local))

    drawn: dict[str, npt.NDArray[np.uint64] | npt.NDArray[np.int64]] = {}
    for field in EVENT_FIELDS:
        if field.purpose is None:
            continue
        if field.kind is FieldKind.UUID:
            drawn[field.name] = uuid_words(raw(field.purpose, 2))[kept]
        elif field.kind is FieldKind.TIME:
            drawn[field.name] = _sorted_offsets(local, raw(field.purpose), config.interval_us)[kept]
        else:
            law = choice_law(config, field.key or field.name)
            position = choose(raw(field.purpose), law.thresholds)
            drawn[field.name] = np.array(law.sampling_order)[position][kept]
    return EventColumns(driver=block * BLOCK + first + local[kept], drawn=drawn)


def draw_places(
    config: Config, ordinal: int, parts: Sequence[Places], words_at: WordsAt | None = None
) -> EventColumns:
    """Draw a few of the events of each of some parts of a batch, in their order.

    Parameters
    ----------
    config, ordinal
    parts : sequence of Places
        One or more.
    words_at : callable, optional
        Returns the words (n, per_event) of a purpose for events of the drivers of one part; by
        default all of the part are drawn, and these are taken.
    """

    def drawn_all(
        part: Places, purpose: Purpose, per_event: int, which: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.uint64]:
        n = int(part.counts.sum())
        raw = _words_of(config, ordinal, part.block, part.start, n)
        return raw(purpose, per_event).reshape(-1, per_event)[which]

    found = [_neighbours(part, number) for number, part in enumerate(parts)]
    take = words_at or drawn_all

    def words_of(purpose: Purpose, per_event: int) -> npt.NDArray[np.uint64]:
        return np.concatenate([take(part, purpose, per_event, part.places) for part in parts])

    drawn: dict[str, npt.NDArray[np.uint64] | npt.NDArray[np.int64]] = {}
    for field in EVENT_FIELDS:
        if field.purpose is None:
            continue
        if field.kind is FieldKind.UUID:
            drawn[field.name] = uuid_words(words_of(field.purpose, 2))
        elif field.kind is FieldKind.TIME:  # sorted within each driver, so all of theirs are needed
            raw = [
                take(part, field.purpose, 1, all_theirs)[:, 0]
                for part, (_, _, all_theirs, _) in zip(parts, found, strict=True)
            ]
            local = np.concatenate([of_whom for _, of_whom, _, _ in found])
            offsets = _sorted_offsets(local, np.concatenate(raw), config.interval_us)
            before = np.cumsum([0, *(len(words) for words in raw)])
            rows = [row + n for (_, _, _, row), n in zip(found, before[:-1], strict=True)]
            drawn[field.name] = offsets[np.concatenate(rows)]
        else:
            law = choice_law(config, field.key or field.name)
            position = choose(words_of(field.purpose, 1)[:, 0], law.thresholds)
            drawn[field.name] = np.array(law.sampling_order)[position]
    drivers = [
        part.block * BLOCK + part.first + whose
        for part, (whose, _, _, _) in zip(parts, found, strict=True)
    ]
    return EventColumns(driver=np.concatenate(drivers), drawn=drawn)


def _neighbours(part: Places, number: int) -> tuple[npt.NDArray[np.int64], ...]:
    """Return all events of the drivers of some places, since their times are sorted together.

    That is the driver of each place, the driver of each of these events with room for those of
    earlier parts, the events, ascending, and the rows of the places among them.
    """
    ends = np.cumsum(part.counts)
    whose = np.searchsorted(ends, part.places, side="right")
    theirs = np.unique(whose)
    sizes = part.counts[theirs]
    begins = ends[theirs] - sizes - (np.cumsum(sizes) - sizes)
    events = np.repeat(begins, sizes) + np.arange(int(sizes.sum()))
    of_whom = np.repeat(theirs, sizes) + number * BLOCK
    return whose, of_whom, events, np.searchsorted(events, part.places)


def _sorted_offsets(
    local: npt.NDArray[np.int64], raw: npt.NDArray[np.uint64], length: int
) -> npt.NDArray[np.int64]:
    """Return the offsets [microseconds], sorted within each driver; `local` is ascending."""
    # One sort of a combined key: a thousand blocks of 1024 drivers x 86.4e9 microseconds fit into
    # 63 bits.
    base = local * length
    key = base + scale(raw, length)
    key.sort()
    return key - base
