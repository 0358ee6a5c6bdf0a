"""Which records a defect strikes, and how: decisions from words by address.

A record's kind of defect is one word of the stream `DEFECT`, at the record's position in its block;
its details are the four words of `DEFECT_DETAIL` at four times that position. So nothing depends on
the order of the work, and the records of any other batch can be drawn anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fleetsim.generate.config import Config
from fleetsim.generate.defects import defect_thresholds
from fleetsim.generate.events import (
    EventColumns,
    Places,
    count_block,
    draw_places,
    eligible_blocks,
    slices_of,
)
from fleetsim.generate.fleet import Fleet
from fleetsim.generate.model import Purpose
from fleetsim.generate.streams import BLOCK, choose, words


class Strikes(NamedTuple):
    """What is decided for consecutive events of eligible drivers of one block.

    Attributes
    ----------
    events : int
        How many events these are.
    before, total : int
        The block's events of eligible drivers before these, and all of them.
    number : int64 array (n,)
        Of the struck ones: their numbers among the block's events of eligible drivers, from 0.
    kind : int64 array (n,)
        Their kinds, as places in ``config.defects``.
    details : uint64 array (n, 4)
    late : EventColumns or None
        At the end of a block: the late records of an earlier batch that come behind it.
    """

    events: int
    before: int
    total: int
    number: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int64]
    details: npt.NDArray[np.uint64]
    late: EventColumns | None


class LateSource(NamedTuple):
    """The batch whose late records belong into another one."""

    start_us: int
    ordinal: int


def late_source(config: Config, start_us: int, ordinal: int) -> LateSource | None:
    """Return the batch whose late records come with this one; None where there is none."""
    late = config.defects.get("late")
    if late is None or ordinal < late.batches:
        return None
    return LateSource(start_us - late.batches * config.interval_us, ordinal - late.batches)


def earliest_late(config: Config, start_us: int) -> int:
    """Return the start of the earliest interval whose records may come with a batch [us]."""
    late = config.defects.get("late")
    return start_us - (late.batches * config.interval_us if late else 0)


def draw_strikes(
    config: Config, fleet: Fleet, start_us: int, ordinal: int, drivers: range
) -> Iterator[Strikes]:
    """Yield the decisions for a batch in the order of its events, some ten thousand at a time.

    Parameters
    ----------
    config, fleet
    start_us, ordinal : int
        Of the batch.
    drivers : range
        By their positions in the whole fleet; it starts with a block.
    """
    source = late_source(config, start_us, ordinal)
    earlier = None if source is None else fleet.eligible(source.start_us)
    for block, keep in eligible_blocks(config, fleet.eligible(start_us), drivers, fleet.first):
        late = None
        if source is not None and earlier is not None:
            position = np.arange(block * BLOCK, block * BLOCK + len(keep))
            waiting = earlier[position // config.drivers_per_company - fleet.first]
            late = draw_late(config, source.ordinal, block, waiting, drivers.stop)
        yield from _of_block(config, ordinal, block, keep, drivers.stop, late)


def _of_block(
    config: Config,
    ordinal: int,
    block: int,
    keep: npt.NDArray[np.bool_],
    stop: int,
    late: EventColumns | None,
) -> Iterator[Strikes]:
    """Yield the decisions of a block, slice by slice; the late records come with the last one."""
    counts = count_block(config, ordinal, block, stop)
    whole = bool(keep.all())
    total = int(counts.sum() if whole else counts[keep].sum())
    before = 0
    slices = list(slices_of(counts))
    for part, start in slices:
        n = int(counts[part].sum())
        kept = None if whole else np.repeat(keep[part], counts[part])
        struck, kind, details = _strike(config, ordinal, block, start, n, kept)
        number = struck if kept is None else (np.cumsum(kept) - 1)[struck]
        events = n if kept is None else int(kept.sum())
        last = part.stop == len(counts)
        yield Strikes(events, before, total, number + before, kind, details, late if last else None)
        before += events


def _strike(
    config: Config,
    ordinal: int,
    block: int,
    start: int,
    n: int,
    kept: npt.NDArray[np.bool_] | None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """Return which of n events from a position on are struck, by which kinds, and the details."""
    raw = words(config.seed, Purpose.DEFECT, ordinal, block, start, n)
    thresholds = defect_thresholds(config)
    if len(thresholds) == len(config.defects):  # or else the rates sum to 1: all are struck
        # One comparison for most of them, which nothing strikes.
        hit = raw < np.uint64(thresholds[-1])
        if kept is not None:
            hit &= kept
        struck = np.flatnonzero(hit)
    else:
        struck = np.arange(n) if kept is None else np.flatnonzero(kept)
    kind = choose(raw[struck], thresholds)
    if not len(struck):
        return struck, kind, np.zeros((0, 4), np.uint64)
    details = words(config.seed, Purpose.DEFECT_DETAIL, ordinal, block, 4 * start, 4 * n)
    return struck, kind, details.reshape(-1, 4)[struck]


def draw_late(
    config: Config, ordinal: int, block: int, keep: npt.NDArray[np.bool_], stop: int
) -> EventColumns | None:
    """Draw the late records of a block of an earlier batch anew; None where there are none."""
    if not keep.any():
        return None
    kind_of_late = list(config.defects).index("late")
    counts = count_block(config, ordinal, block, stop)
    parts = []
    for part, start in slices_of(counts):
        n = int(counts[part].sum())
        kept = np.repeat(keep[part], counts[part])
        raw = words(config.seed, Purpose.DEFECT, ordinal, block, start, n)
        kind = choose(raw, defect_thresholds(config))
        places = np.flatnonzero(kept & (kind == kind_of_late))
        if len(places):
            parts.append(Places(block, part.start, start, counts[part], places))
    return draw_places(config, ordinal, parts) if parts else None
